import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { parseServicePorts } from '../../src/common/etc-services.ts';
import { parseText } from '../../src/parse/text-reader.ts';

const portOf = parseServicePorts(
  'smtp 25/tcp mail\nssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\nwho 513/udp\nlogin 513/tcp\n',
);
const TCP = 'tcp ESTAB 0 0 192.0.2.5:40000 198.51.100.7:443';
const INFO =
  'ts sack cubic wscale:7,7 rto:204 rtt:3.5/1.25 ato:40 mss:1448 pmtu:1500 rcvmss:536 advmss:1448 cwnd:10 bytes_sent:5000 bytes_retrans:1200 bytes_acked:3801 bytes_received:900 segs_out:9 segs_in:5 send 33096bps lastsnd:4 delivery_rate 1bps delivered:4 app_limited busy:12ms retrans:0/3 rcv_space:14480 minrtt:0.25 snd_wnd:64256';
const row = (text: string): Row => {
  const { rows, malformed } = parseText(text, { portOf });
  expect(malformed).toEqual([]);
  expect(rows).toHaveLength(1);
  return rows[0] as Row;
};
const TOTALS = {
  sent_bytes: 3800,
  received_bytes: 900,
  acknowledged_bytes: 3801,
  retransmitted_bytes: 1200,
  round_trip_seconds: 0.0035,
  min_round_trip_seconds: 0.00025,
  retransmits: 3,
  congestion_control: 'cubic',
  congestion_window: 10,
};
const NOTHING = Object.fromEntries(Object.keys(TOTALS).map((key) => [key, null]));

describe('ss -i', () => {
  it.each<[name: string, text: string, expected: Partial<Row>]>([
    ['on a line of its own', `${TCP}\n\t ${INFO}`, TOTALS],
    ['on the line of its socket', `${TCP} users:(("a",pid=1,fd=3)) timer:(on,1,0) ${INFO}`, TOTALS],
    ['with blanks instead of the tab', `${TCP}\n         ${INFO}`, TOTALS],
    [
      'wrapped by a terminal',
      `${TCP}\n\t ${INFO.replace(' cwnd', '\n\t cwnd').replace(' bytes_acked', '\n\t bytes_acked')}`,
      TOTALS,
    ],
    ['behind the memory of -m', `${TCP}\n\t skmem:(r0,rb1,t0,tb2,f0,w0,o0,bl0,d0) ${INFO}`, TOTALS],
    [
      'without bytes that are 0',
      `${TCP}\n\t bbr rto:204 rtt:3.5/1 cwnd:10 bytes_sent:7`,
      { sent_bytes: 7, received_bytes: 0, retransmitted_bytes: 0, retransmits: 0, congestion_control: 'bbr' },
    ],
    [
      'without any bytes',
      `${TCP}\n\t bbr rto:204 rtt:3.5/1 cwnd:10 snd_wnd:7`,
      { sent_bytes: 0, received_bytes: 0, retransmits: 0 },
    ],
    [
      'of a release that does not know what was sent',
      `${TCP}\n\t cubic rto:204 rtt:3.5/1 cwnd:10 bytes_acked:7 bytes_received:9`,
      { sent_bytes: null, received_bytes: 9, acknowledged_bytes: 7, retransmitted_bytes: null },
    ],
    [
      'with the FIN of the peer',
      `${TCP.replace('ESTAB', 'CLOSE-WAIT')}\n\t cubic rto:204 bytes_sent:7 bytes_received:10`,
      { received_bytes: 9 },
    ],
    [
      'of a listener',
      'tcp LISTEN 0 5 192.0.2.5:22 0.0.0.0:*\n\t cubic cwnd:10',
      { sent_bytes: null, retransmits: null, congestion_control: 'cubic', congestion_window: 10 },
    ],
    [
      'without congestion control',
      `${TCP}\n\t ts sack wscale:7,7 rto:204 rtt:1/1 app_limited busy:1ms`,
      { congestion_control: null },
    ],
    ['in the name of a process', `${TCP} users:((" rtt:9/9 cwnd:5 ",pid=1,fd=3))`, NOTHING],
    ['absent', TCP, NOTHING],
  ])('%s', (_, text, expected) => {
    expect(row(text)).toMatchObject(expected);
  });

  it('keeps the details of each socket apart', () => {
    const text = `${TCP}\n\t cubic rto:1 bytes_sent:1\n${TCP.replace('40000', '40001')}\n${TCP.replace('40000', '40002')}\n\t bbr rto:1 bytes_sent:3`;
    expect(parseText(text).rows.map((one) => one.sent_bytes)).toEqual([1, null, 3]);
  });

  it('never gives a negative or fractional number of bytes', () => {
    const value = fc.oneof(fc.nat(), fc.constantFrom('-1', '1e9', '99999999999999999999', 'x', '(', '1.5'));
    const keys = [
      'bytes_sent',
      'bytes_retrans',
      'bytes_received',
      'bytes_acked',
      'retrans',
      'cwnd',
      'rtt',
      'minrtt',
      'rto',
    ];
    const words = fc.array(fc.tuple(fc.constantFrom(...keys), value), { maxLength: 12 });
    fc.assert(
      fc.property(words, (pairs) => {
        const [one] = parseText(`${TCP}\n\t ${pairs.map(([key, number]) => `${key}:${number}`).join(' ')}`).rows;
        const { sent_bytes, received_bytes, acknowledged_bytes, retransmitted_bytes, retransmits } = one ?? ({} as Row);
        for (const count of [sent_bytes, received_bytes, acknowledged_bytes, retransmitted_bytes, retransmits])
          expect(count === null || (Number.isSafeInteger(count) && count >= 0)).toBe(true);
      }),
    );
  });
});

describe('timers, users and cgroups', () => {
  const netstat = 'tcp 0 0 192.0.2.5:40000 198.51.100.7:443 ESTABLISHED';
  it.each<[text: string, expected: Partial<Row>]>([
    [`${TCP} timer:(keepalive,119min,0)`, { timer: 'keepalive', timer_seconds: 7140, timer_retransmits: 0 }],
    [`${TCP} timer:(keepalive,1min5sec,0)`, { timer: 'keepalive', timer_seconds: 65 }],
    [`${TCP} timer:(on,5.123ms,2)`, { timer: 'retransmission', timer_seconds: 5.123, timer_retransmits: 2 }],
    [`${TCP} timer:(on,204ms,0)`, { timer: 'retransmission', timer_seconds: 0.204 }],
    [`${TCP} timer:(persist,59sec,3)`, { timer: 'probe', timer_seconds: 59, timer_retransmits: 3 }],
    [`${TCP.replace('ESTAB', 'TIME-WAIT')} timer:(timewait,,0)`, { timer: 'time_wait', timer_seconds: 0 }],
    [
      `${TCP}\n\t timer:(keepalive,10sec,0) uid:33 ino:5 sk:1 cgroup:/system.slice/a.service <->`,
      { timer: 'keepalive', cgroup: '/system.slice/a.service' },
    ],
    [`${TCP} uid:33 ino:5 sk:1 cgroup:/kubepods/pod1 <->`, { uid: 33, inode: 5, cgroup: '/kubepods/pod1', user: null }],
    [`${TCP} ino:5 sk:1 cgroup:unreachable:1b5 <->`, { cgroup: null }],
    [`${netstat} off (0.00/0/0)`, { timer: null, timer_seconds: null, timer_retransmits: null }],
    [`${netstat} on (0.95/4/0)`, { timer: 'retransmission', timer_seconds: 0.95, timer_retransmits: 4 }],
    [`${netstat} keepalive (7199,63/0/0)`, { timer: 'keepalive', timer_seconds: 7199.63 }],
    [`${netstat} nezn-4 (1,50/0/2)`, { timer: 'probe', timer_seconds: 1.5 }],
    [
      `${netstat} www-data 4711 812/nginx: worker`,
      { user: 'www-data', uid: null, inode: 4711, process: 'nginx: worker' },
    ],
    [`${netstat} 33 4711 812/nginx keepalive (9.00/0/0)`, { user: null, uid: 33, timer: 'keepalive' }],
    ['nginx 812 www-data 3u IPv4 5 0t0 TCP 192.0.2.5:80 (LISTEN)', { user: 'www-data', process: 'nginx' }],
    ['www nginx 812 3 tcp4 192.0.2.5:80 *:*', { user: 'www', process: 'nginx' }],
  ])('%s', (text, expected) => {
    expect(row(text)).toMatchObject(expected);
  });
});

describe('names', () => {
  const netstat = (local: string, remote: string, protocol = 'tcp'): string =>
    `${protocol} 0 0 ${local} ${remote} ESTABLISHED`;
  it.each<[text: string, expected: Partial<Row>]>([
    [
      netstat('web1.example:40000', 'mx.example:smtp'),
      { local_name: 'web1.example', local_port: 40_000, remote_name: 'mx.example', remote_port: 25, service: 'smtp' },
    ],
    [
      netstat('localhost:mail', 'localhost:40000'),
      { local_port: 25, local_name: 'localhost', remote_port: 40_000, service: 'mail' },
    ],
    [netstat('192.0.2.5:domain', '192.0.2.6:40000', 'udp'), { local_port: 53, local_name: null }],
    [netstat('192.0.2.5:who', '192.0.2.6:login', 'tcp'), { local_port: null, remote_port: 513 }],
    [netstat('192.0.2.5:unheard-of', '192.0.2.6:40000'), { local_port: null, service: 'unheard-of' }],
    ['tcp 0 0 0.0.0.0:ssh 0.0.0.0:* LISTEN', { local_port: 22, service: 'ssh', state: 'listen' }],
    ['ESTAB 0 0 localhost:domain localhost:40000', { transport: null, local_port: 53 }],
    ['ESTAB 0 0 localhost:who localhost:40000', { transport: null, local_port: 513 }],
  ])('%s', (text, expected) => {
    expect(row(text)).toMatchObject(expected);
  });
});

describe('the transport of ss without Netid', () => {
  const text =
    'State Recv-Q Send-Q Local Address:Port Peer Address:Port\nUNCONN 0 0 192.0.2.5:53 0.0.0.0:*\nESTAB 0 0 192.0.2.5:40000 198.51.100.7:53';
  it.each([
    {
      transport: null,
      given: text,
      expected: [
        [null, null],
        [null, 'established'],
      ],
    },
    {
      transport: 'udp' as const,
      given: text,
      expected: [
        ['udp', 'unconnected'],
        ['udp', 'established'],
      ],
    },
    {
      transport: 'tcp' as const,
      given: text,
      expected: [
        ['tcp', 'closed'],
        ['tcp', 'established'],
      ],
    },
    {
      transport: 'udp' as const,
      given: `${text}\nTIME-WAIT 0 0 192.0.2.5:1 192.0.2.6:2`,
      expected: [
        ['udp', 'unconnected'],
        ['udp', 'established'],
        ['tcp', 'time_wait'],
      ],
    },
    { transport: 'udp' as const, given: `tcp ${text.split('\n')[2] ?? ''}`, expected: [['tcp', 'established']] },
  ])('is $transport', ({ transport, given, expected }) => {
    const { rows } = parseText(given, { transport });
    expect(rows.map((one) => [one.transport, one.state])).toEqual(expected);
  });
});
