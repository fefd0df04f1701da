import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { parseText } from '../../src/parse/text-reader.ts';

function brief(row: Row): string {
  const end = (address: string | null, port: number | null): string =>
    address === null && port === null ? '*' : `${address ?? '?'} ${port ?? '*'}`;
  const ends = `${end(row.local_address, row.local_port)} | ${end(row.remote_address, row.remote_port)}`;
  const owner = [row.process ?? '-', ...row.pids].join(' ');
  return `${row.transport ?? '?'} ${row.family ?? '?'} | ${ends} | ${row.state ?? '-'} | ${owner}`;
}

/** Checks the rows, that nothing is an error, and that the format is detected. */
function expectRows(text: string, dialect: string, rows: readonly string[]): void {
  const parsed = parseText(text);
  expect(parsed.malformed).toEqual([]);
  expect(parsed.rows.map(brief)).toEqual(rows);
  expect(parsed.dialect).toBe(dialect);
}

const TCP_ROWS = [
  'tcp 6 | :: 49676 | * | listen | - 716',
  'tcp 4 | 192.0.2.4 52135 | 198.51.100.34 443 | established | - 5284',
];

describe('PowerShell', () => {
  it('reads the table of Get-NetTCPConnection', () => {
    const text = `
LocalAddress                        LocalPort RemoteAddress                       RemotePort State       AppliedSetting OwningProcess
------------                        --------- -------------                       ---------- -----       -------------- -------------
::                                  49676     ::                                  0          Listen                     716
192.0.2.4                           52135     198.51.100.34                       443        Established Internet       5284
`;
    expectRows(text, 'powershell', TCP_ROWS);
    expectRows(`PS C:\\> Get-NetTCPConnection\r\n${text.replaceAll('\n', '\r\n')}`, 'powershell', TCP_ROWS);
  });

  it('has a truncated address as unknown', () => {
    const text = `LocalAddress LocalPort RemoteAddress RemotePort State AppliedSetting OwningProcess
2001:db8:1111:2222:3333:4444:... 443 2001:db8::1 99 Established Internet 7`;
    expectRows(text, 'powershell', ['tcp 6 | ? 443 | 2001:db8::1 99 | established | - 7']);
  });

  it('reads selected columns, also with a process name', () => {
    const text = `State  OwningProcess LocalPort LocalAddress ProcessName
-----  ------------- --------- ------------ -----------
Listen           716     49676 ::           lsass`;
    expectRows(text, 'powershell', ['tcp 6 | :: 49676 | * | listen | lsass 716']);
  });

  it('reads Format-List', () => {
    const text = `

LocalAddress   : ::
LocalPort      : 49676
RemoteAddress  : ::
RemotePort     : 0
State          : Listen
AppliedSetting :
OwningProcess  : 716
CreationTime   : 11/30/2026 10:00:05 AM
OffloadState   : InHost

LocalAddress   : 192.0.2.4
LocalPort      : 52135
RemoteAddress  : 198.51.100.34
RemotePort     : 443
State          : Established
AppliedSetting : Internet
OwningProcess  : 5284

`;
    expectRows(text, 'powershell', TCP_ROWS);
  });

  it.each([',', ';'])('reads ConvertTo-Csv with %s', (separator) => {
    const lines = [
      ['Caption', 'LocalAddress', 'LocalPort', 'RemoteAddress', 'RemotePort', 'State', 'OwningProcess'],
      ['a "quoted", text', '::', '49676', '::', '0', 'Listen', '716'],
      ['', '192.0.2.4', '52135', '198.51.100.34', '443', 'Established', '5284'],
    ].map((fields) => fields.map((field) => `"${field.replaceAll('"', '""')}"`).join(separator));
    expectRows(`#TYPE Microsoft.Management.Infrastructure.CimInstance\n${lines.join('\n')}\n`, 'powershell', TCP_ROWS);
  });

  const objects = [
    {
      CimClass: { Name: 'x', List: [{ Name: 'y' }] },
      LocalAddress: '::',
      LocalPort: 49676,
      RemoteAddress: '::',
      RemotePort: 0,
      State: 2,
      OwningProcess: 716,
    },
    {
      State: 5,
      LocalAddress: '192.0.2.4',
      LocalPort: 52135,
      RemoteAddress: '198.51.100.34',
      RemotePort: 443,
      OwningProcess: 5284,
    },
  ];
  it.each<[form: string, text: string]>([
    ['with line feeds', JSON.stringify(objects, null, 4)],
    ['on one line', JSON.stringify(objects)],
    ['with names of states', JSON.stringify(objects, null, 2).replace('"State": 2', '"State": "Listen"')],
  ])('reads ConvertTo-Json %s', (_form, text) => {
    expectRows(text, 'powershell', TCP_ROWS);
  });

  it('reads a table without titles', () => {
    const lines = [
      '192.0.2.20    50123  198.51.100.80  443  Established Internet  4711',
      '192.0.2.20    50124  198.51.100.81  443  TimeWait              0',
      '::            445    ::             0    Listen                4',
      'fe80::1%5     50125  fe80::2%5      445  SynSent',
    ];
    const expected = [
      'tcp 4 | 192.0.2.20 50123 | 198.51.100.80 443 | established | - 4711',
      'tcp 4 | 192.0.2.20 50124 | 198.51.100.81 443 | time_wait | -',
      'tcp 6 | :: 445 | * | listen | - 4',
      'tcp 6 | fe80::1 50125 | fe80::2 445 | syn_sent | -',
    ];
    expectRows(lines.join('\n'), 'powershell', expected);
    expectRows(lines.map((line) => `> ${line}`).join('\n'), 'powershell', expected);
    expect(parseText('192.0.2.20 50123 198.51.100.80 443 Walking 7').rows).toEqual([]);
  });

  it('reads Get-NetUDPEndpoint if the text names it, and otherwise leaves the transport open', () => {
    const text = 'LocalAddress LocalPort\n------------ ---------\n0.0.0.0      500\n';
    expectRows(`PS> Get-NetUDPEndpoint\n${text}`, 'powershell', ['udp 4 | 0.0.0.0 500 | * | unconnected | -']);
    expectRows(text, 'powershell', ['? 4 | 0.0.0.0 500 | * | - | -']);
  });

  it('reads lines of dashes in linear time', () => {
    // Otherwise the test times out.
    expect(parseText(`TCP: IPv4\n${'- '.repeat(50_000)}}`).rows).toEqual([]);
    expect(parseText(`${'-'.repeat(50_000)}}`).rows).toEqual([]);
  });

  it('reports an invalid record', () => {
    const text = JSON.stringify(
      [{ LocalAddress: 'x y', LocalPort: 1, RemoteAddress: '::', State: 2 }, ...objects],
      null,
      2,
    );
    const { rows, malformed } = parseText(text);
    expect(rows.map(brief)).toEqual(TCP_ROWS);
    expect(malformed.map(({ line, error }) => [line, error])).toEqual([[7, 'bad-address']]);
  });

  it('does not take rows after JSON that is cut', () => {
    const text = `${JSON.stringify(objects, null, 2).slice(0, 300)}\ntcp LISTEN 0 5 [::]:22 [::]:*\n`;
    expect(parseText(text).rows.map(brief)).toContain('tcp 6 | :: 22 | * | listen | -');
  });
});

describe('sockstat', () => {
  const header = 'USER     COMMAND    PID   FD PROTO  LOCAL ADDRESS         FOREIGN ADDRESS      \n';
  it.each<[situation: string, text: string, row: string]>([
    [
      'a listener',
      'root     sshd       1420  4  tcp4   *:22                  *:*',
      'tcp 4 | 0.0.0.0 22 | * | listen | sshd 1420',
    ],
    [
      'IPv6',
      'root     sshd       1420  3  tcp6   ::1:25                *:*',
      'tcp 6 | ::1 25 | * | listen | sshd 1420',
    ],
    ['a zone', 'ntpd ntpd 900 21 udp6 fe80::1%lo0:123 *:*', 'udp 6 | fe80::1 123 | * | unconnected | ntpd 900'],
    ['dual-stack', 'www  nginx 77 6 tcp46 *:80 *:*', 'tcp 6 | :: 80 | * | listen | nginx 77'],
    [
      'a command with blanks',
      'www  php-fpm: m 77 6 tcp4 192.0.2.5:80 198.51.100.7:999',
      'tcp 4 | 192.0.2.5 80 | 198.51.100.7 999 | - | php-fpm: m 77',
    ],
    [
      'no process',
      '?        ?          ?     ?  tcp4   192.0.2.5:80 198.51.100.7:999',
      'tcp 4 | 192.0.2.5 80 | 198.51.100.7 999 | - | -',
    ],
    [
      'a state',
      'root sshd 9 4 tcp4 192.0.2.5:22 198.51.100.7:999 ESTABLISHED',
      'tcp 4 | 192.0.2.5 22 | 198.51.100.7 999 | established | sshd 9',
    ],
    [
      'NetBSD',
      'root     sshd       318   4  tcp    192.0.2.5.22          198.51.100.7.51514',
      'tcp 4 | 192.0.2.5 22 | 198.51.100.7 51514 | - | sshd 318',
    ],
  ])('reads %s, with and without a header', (_situation, line, row) => {
    expectRows(`${header}${line}\n`, 'sockstat', [row]);
    expectRows(`${line}\n`, 'sockstat', [row]);
  });

  it('counts sockets of other types', () => {
    const { counts } = parseText(
      `${header}root sshd 1420 5 stream -> /var/run/log\nroot a 1 2 dgram (not connected)\n`,
    );
    expect(counts).toMatchObject({ header: 1, other: 2 });
  });
});

describe('lsof', () => {
  const header = 'COMMAND     PID      USER   FD   TYPE             DEVICE SIZE/OFF NODE NAME\n';
  it.each<[situation: string, line: string, row: string]>([
    [
      'a listener',
      'node      34548 user   20u  IPv4 0xa42a1d0ade5d3585      0t0  TCP *:62981 (LISTEN)',
      'tcp 4 | 0.0.0.0 62981 | * | listen | node 34548',
    ],
    [
      'an escaped blank',
      'Code\\x20H   637 user   51u  IPv6 30993  0t0  TCP [2001:db8::1]:9->[2001:db8::2]:443 (CLOSE_WAIT)',
      'tcp 6 | 2001:db8::1 9 | 2001:db8::2 443 | close_wait | Code H 637',
    ],
    [
      'UDP',
      'mDNSRespo 300 _mdnsresponder 7u IPv4 0x1 0t0 UDP *:5353',
      'udp 4 | 0.0.0.0 5353 | * | unconnected | mDNSRespo 300',
    ],
    ['any UDP port', 'syslogd 300 root 7u IPv4 0x1 0t0 UDP *:*', 'udp 4 | 0.0.0.0 * | * | unconnected | syslogd 300'],
    [
      'a thread',
      'java 7 8 worker root 7u IPv4 1 0t0 TCP 127.0.0.1:1->127.0.0.1:2 (ESTABLISHED)',
      'tcp 4 | 127.0.0.1 1 | 127.0.0.1 2 | established | java 7',
    ],
  ])('reads %s, with and without a header', (_situation, line, row) => {
    expectRows(`${header}${line}\n`, 'lsof', [row]);
    expectRows(`${line}\n`, 'lsof', [row]);
  });

  it('keeps names of hosts and services', () => {
    const line = 'node 7 ada 20u IPv4 1 0t0 TCP laptop.example:51514->web.example:https (ESTABLISHED)';
    expect(parseText(line).rows[0]).toMatchObject({ remote_name: 'web.example', service: 'https', local_port: 51_514 });
  });
});

describe('Solaris', () => {
  it('reads sections of TCP and UDP, for IPv4 and IPv6', () => {
    const text = `
TCP: IPv4
   Local Address        Remote Address    Swind Send-Q Rwind Recv-Q    State
-------------------- -------------------- ----- ------ ----- ------ -----------
192.0.2.5.22         198.51.100.7.51514   64064      3 64240      4 ESTABLISHED
      *.22                 *.*                0      0 49152      0 LISTEN

UDP: IPv4
   Local Address        Remote Address      State
-------------------- -------------------- ----------
      *.68                                Idle
192.0.2.5.1024       198.51.100.7.53      Connected

TCP: IPv6
   Local Address                     Remote Address                 Swind Send-Q Rwind Recv-Q   State      If
--------------------------------- --------------------------------- ----- ------ ----- ------ ----------- -----
2001:db8::1.22                    2001:db8::2.99                    64064      0 64240      0 TIME_WAIT   net0

SCTP: IPv4
        Local Address                   Remote Address          Swind  Send-Q Rwind  Recv-Q StrsI/O  State
------------------------------- ------------------------------- ------ ------ ------ ------ ------- -----------
0.0.0.0                         0.0.0.0                              0      0 102400      0  32/32  CLOSED

Active UNIX domain sockets
Address  Type          Vnode     Conn  Local Addr      Remote Addr
d5c0 stream-ord 0000000 d5c0 /tmp/x
`;
    expectRows(text, 'solaris', [
      'tcp 4 | 192.0.2.5 22 | 198.51.100.7 51514 | established | -',
      'tcp 4 | 0.0.0.0 22 | * | listen | -',
      'udp 4 | 0.0.0.0 68 | * | unconnected | -',
      'udp 4 | 192.0.2.5 1024 | 198.51.100.7 53 | established | -',
      'tcp 6 | 2001:db8::1 22 | 2001:db8::2 99 | time_wait | -',
    ]);
    expect(parseText(text).rows[0]).toMatchObject({ send_queue: 3, receive_queue: 4 });
  });

  it('reads user, pid and command of illumos', () => {
    const text = `TCP: IPv4
   Local Address        Remote Address    User     Pid      Command       Swind Send-Q Rwind Recv-Q    State
192.0.2.5.22         198.51.100.7.51514   root     812      sshd          64064      0 64240      0 ESTABLISHED
`;
    expectRows(text, 'solaris', ['tcp 4 | 192.0.2.5 22 | 198.51.100.7 51514 | established | sshd 812']);
  });

  it('reads a row without a title', () => {
    const line = '192.0.2.5.22         198.51.100.7.51514   64064      0 64240      0 ESTABLISHED';
    expectRows(line, 'solaris', ['tcp 4 | 192.0.2.5 22 | 198.51.100.7 51514 | established | -']);
  });
});

describe('OpenBSD and NetBSD', () => {
  it.each<[system: string, text: string, rows: string[]]>([
    [
      'OpenBSD',
      `Active Internet connections (including servers)
Proto   Recv-Q Send-Q  Local Address          Foreign Address        (state)
tcp          0      0  192.0.2.112.22         198.51.100.1.41218     ESTABLISHED
tcp          0      0  *.22                   *.*                    LISTEN
tcp6         0      0  *.22                   *.*                    LISTEN
Active Internet connections (only servers)
Proto   Recv-Q Send-Q  Local Address          Foreign Address
udp          0      0  127.0.0.1.53           *.*
`,
      [
        'tcp 4 | 192.0.2.112 22 | 198.51.100.1 41218 | established | -',
        'tcp 4 | 0.0.0.0 22 | * | listen | -',
        'tcp 6 | :: 22 | * | listen | -',
        'udp 4 | 127.0.0.1 53 | * | unconnected | -',
      ],
    ],
    [
      'NetBSD',
      `Active Internet connections
Proto Recv-Q Send-Q  Local Address          Foreign Address        State
tcp        0      0  192.0.2.112.22         198.51.100.1.41218     ESTABLISHED
Active Internet6 connections
Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)
tcp6       0      0  ::1.25                 *.*                    LISTEN
`,
      ['tcp 4 | 192.0.2.112 22 | 198.51.100.1 41218 | established | -', 'tcp 6 | ::1 25 | * | listen | -'],
    ],
  ])('reads %s', (_system, text, rows) => {
    expectRows(text, 'bsd', rows);
  });
});

describe('netstat of Windows in other languages', () => {
  const row = (state: string, remote = '198.51.100.7:443'): string =>
    `Aktywne połączenia\r\n\r\n  Protokół  Adres lokalny   Obcy adres   Stan\r\n  TCP    192.0.2.5:80   ${remote}   ${state}   7\r\n`;
  it.each<[state: string, expected: string, remote?: string]>([
    ['HERGESTELLT', 'established'],
    ['USTANOWIONO', 'established'],
    ['УСТАНОВЛЕНО', 'established'],
    ['SYN_GESENDET', 'syn_sent'],
    ['FIN_WARTEN_2', 'fin_wait_2'],
    ['WARTEND', 'time_wait'],
    ['SCHLIESSEN_WARTEN', 'close_wait'],
    ['LETZTES_ACK', 'last_ack'],
    ['ABH\ufffdREN', 'listen', '0.0.0.0:0'],
    ['NASŁUCHIWANIE', 'listen', '0.0.0.0:0'],
    ['侦听', 'listen', '0.0.0.0:0'],
    ['SOMETHING_ELSE', 'listen', '0.0.0.0:0'],
    ['SOMETHING_ELSE', 'unknown'],
    ['ESTABLISHED       InHost', 'established'],
    ['ESTABLISHED       Offloaded     Internet', 'established'],
  ])('reads %s as %s', (state, expected, remote) => {
    const { rows, malformed } = parseText(row(state, remote));
    expect(malformed).toEqual([]);
    expect(rows.map((one) => [one.state, one.pid])).toEqual([[expected, 7]]);
  });
});

describe('any text of these formats', () => {
  const WORDS = fc.constantFrom(
    ...'{ } [ ] , : " : LocalAddress LocalPort 443 192.0.2.1 * *:* ::1:25 *.22 p12 f3 PTCP tIPv4 n*:1 TCP: IPv4 UDP tcp4 IPv6'.split(
      ' ',
    ),
    ...[
      'LocalAddress : ::1',
      '"LocalAddress":"::1",',
      '"LocalPort":1}',
      'USER COMMAND PID FD PROTO LOCAL ADDRESS',
      ' ',
      '\n',
      '\0',
    ],
  );
  it('never throws', () => {
    fc.assert(
      fc.property(fc.array(WORDS, { maxLength: 60 }), (words) => {
        const { rows, counts } = parseText(words.join(' '));
        expect(rows).toHaveLength(counts.row);
      }),
    );
  });
});
