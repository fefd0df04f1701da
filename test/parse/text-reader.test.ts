import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Row, State } from '../../src/model.ts';
import { parseText, type Parsed } from '../../src/parse/text-reader.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');
const recorded = (name: string): string => readFileSync(join(FIXTURES, name), 'utf8');

/** A row in short: transport, family, both endpoints, state, queues and owner. */
function brief(row: Row): string {
  const end = (address: string | null, port: number | null): string =>
    address === null && port === null ? '*' : `${address ?? '?'} ${port ?? '*'}`;
  const local = end(row.local_address, row.local_port);
  const remote = end(row.remote_address, row.remote_port);
  const queues = row.receive_queue === null ? '- -' : `${row.receive_queue} ${row.send_queue ?? '-'}`;
  const owner = [row.process ?? '-', ...row.pids].join(' ');
  return `${row.transport ?? '?'} ${row.family ?? '?'} | ${local} | ${remote} | ${row.state ?? '-'} | ${queues} | ${owner}`;
}

const rowsOf = (text: string): string[] => parseText(text).rows.map(brief);
const first = (text: string): Row => {
  const [row, ...others] = parseText(text).rows;
  if (!row || others.length > 0) throw new Error(`${others.length + 1} rows`);
  return row;
};
const sum = (counts: Parsed['counts']): number =>
  Object.values<number>({ ...counts }).reduce((total, count) => total + count, 0);
const linesIn = (text: string): number => text.split('\n').length - (text.endsWith('\n') ? 1 : 0);

describe('recordings of Linux', () => {
  const rows = parseText(recorded('text/ss-tunap.out')).rows;

  it.each<[file: string, rows: number, others: Partial<Parsed['counts']>]>([
    ['text/ss-tunap.out', 28, { header: 1 }],
    ['text/ss-tunapH-oneline.out', 28, {}],
    ['text/ss-tunaemoi.out', 28, { header: 1, continuation: 28 }],
    ['text/netstat-tunap.out', 28, { header: 2 }],
    ['text/netstat-tunapW.out', 28, { header: 2 }],
    ['text/netstat-tunapo.out', 28, { header: 2 }],
    ['text-other/freebsd-12-netstat-an.out', 6, { header: 3, other: 15 }],
    ['text-other/macos-10.14-netstat-An.out', 138, { header: 6, other: 545 }],
    ['text-other/macos-10.14-netstat.out', 158, { header: 7, other: 572 }],
    ['text-other/windows-10-netstat-anob.out', 318, { header: 2, blank: 2, continuation: 398 }],
  ])('every line of %s is counted', (file, count, others) => {
    const { rows, malformed, counts } = parseText(recorded(file));
    const none = { row: 0, continuation: 0, header: 0, other: 0, blank: 0, notice: 0, error: 0 };
    expect(counts).toEqual({ ...none, row: count, ...others });
    expect(sum(counts)).toBe(linesIn(recorded(file)));
    expect(rows).toHaveLength(count);
    expect(malformed).toEqual([]);
  });

  it('have the same sockets with and without header, on one line each', () => {
    expect(parseText(recorded('text/ss-tunapH-oneline.out')).rows).toEqual(rows);
  });

  it('have the same sockets with -e, which adds uid and inode', () => {
    const detailed = parseText(recorded('text/ss-tunaemoi.out')).rows;
    expect(detailed.map(brief)).toEqual(rows.map(brief));
    expect(detailed.filter(({ pid }) => pid !== null).map(({ uid, inode }) => [uid, (inode ?? 0) > 0])).toEqual(
      rows.filter(({ pid }) => pid !== null).map(() => [0, true]),
    );
    expect(detailed.find(({ state }) => state === 'time_wait')).toMatchObject({ uid: null, inode: null });
  });

  it('have the same sockets in netstat, except for the backlog of listeners and the holders', () => {
    const comparable = (row: Row): string =>
      brief({ ...row, process: null, pids: [], send_queue: row.state === 'listen' ? 0 : row.send_queue });
    const sorted = (file: string): string[] => parseText(recorded(file)).rows.map(comparable).sort();
    expect(sorted('text/netstat-tunapW.out')).toEqual(rows.map(comparable).sort());
    expect(sorted('text/netstat-tunapo.out')).toEqual(sorted('text/netstat-tunap.out'));
  });

  it('have unusual process names', () => {
    const names = new Set(rows.map(({ process }) => process));
    expect(names).toEqual(
      new Set(['shared-1', 'rp-worker-b', 'rp-worker-a', 'my proc', null, 'quote"name', 'self-dial', 'svc(1', 'pro:c']),
    );
  });

  it('omit an address that netstat may have truncated, and keep its port', () => {
    const { rows, warnings } = parseText(recorded('text/netstat-tunap.out'));
    const cut = rows.filter((row) => row.local_address === null);
    expect(cut.map(brief)).toEqual(['tcp 6 | ? 6001 | * | listen | 0 0 | python3 1']);
    expect(warnings).toEqual([{ line: 21, warning: 'address-maybe-truncated' }]);
    expect(parseText(recorded('text/netstat-tunapW.out')).warnings).toEqual([]);
  });
});

describe('recordings of other systems', () => {
  it('FreeBSD', () => {
    expect(rowsOf(recorded('text-other/freebsd-12-netstat-an.out'))).toEqual([
      'tcp 4 | 192.168.71.163 22 | 192.168.71.1 56321 | established | 0 0 | -',
      'tcp 4 | 127.0.0.1 25 | * | listen | 0 0 | -',
      'tcp 4 | 0.0.0.0 22 | * | listen | 0 0 | -',
      'tcp 6 | :: 22 | * | listen | 0 0 | -',
      'udp 4 | 0.0.0.0 514 | * | unconnected | 0 0 | -',
      'udp 6 | :: 514 | * | unconnected | 0 0 | -',
    ]);
  });

  it('macOS with -A: a truncated port is null', () => {
    const rows = rowsOf(recorded('text-other/macos-10.14-netstat-An.out'));
    expect(rows.slice(0, 5)).toEqual([
      'tcp 4 | 192.168.1.221 * | 140.82.113.26 443 | established | 0 0 | -',
      'tcp 4 | 192.168.1.221 * | 208.91.113.36 443 | established | 0 0 | -',
      'tcp 4 | 192.168.1.221 * | 140.82.112.26 443 | established | 0 0 | -',
      'tcp 4 | 192.168.1.221 * | 192.168.1.201 * | established | 0 0 | -',
      'tcp 6 | * | * | established | 0 0 | -',
    ]);
  });

  it('macOS without -n: names are kept and not resolved to numbers', () => {
    const { rows, warnings } = parseText(recorded('text-other/macos-10.14-netstat.out'));
    expect(rows[0]).toMatchObject({ local_address: null, local_port: 62_979, remote_address: '40.77.18.167' });
    expect(rows[0]).toMatchObject({ remote_port: null, service: 'https', remote_name: null });
    expect(rows[4]).toMatchObject({ family: 6, remote_name: 'on-in-x6d.1e100.', service: 'imaps' });
    expect(warnings.filter(({ warning }) => warning === 'resolved-names')).toHaveLength(68);
  });

  it('Windows with -b: the name is on a later line', () => {
    const rows = rowsOf(recorded('text-other/windows-10-netstat-anob.out'));
    expect(rows.slice(0, 3)).toEqual([
      'tcp 4 | 0.0.0.0 135 | * | listen | - - | svchost.exe 1712',
      'tcp 4 | 0.0.0.0 443 | * | listen | - - | vmware-hostd.exe 9396',
      'tcp 4 | 0.0.0.0 445 | * | listen | - - | - 4',
    ]);
    expect(rows.filter((row) => row.startsWith('udp 6'))).toContain(
      'udp 6 | :: 500 | * | unconnected | - - | svchost.exe 6856',
    );
  });
});

const SS_HEADER = 'Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process';

describe('a line of ss', () => {
  it.each<[situation: string, line: string, row: string]>([
    ['no state', 'tcp 0 0 127.0.0.1:1 127.0.0.1:2', 'tcp 4 | 127.0.0.1 1 | 127.0.0.1 2 | - | 0 0 | -'],
    ['no netid', 'ESTAB 0 0 127.0.0.1:1 127.0.0.1:2', '? 4 | 127.0.0.1 1 | 127.0.0.1 2 | established | 0 0 | -'],
    ['neither', '0 7 127.0.0.1:1 127.0.0.1:2', '? 4 | 127.0.0.1 1 | 127.0.0.1 2 | - | 0 7 | -'],
    [
      'no queues (-Q)',
      'udp ESTAB 127.0.0.1:1 127.0.0.1:2',
      'udp 4 | 127.0.0.1 1 | 127.0.0.1 2 | established | - - | -',
    ],
    ['netid and state without a space', 'tcpLISTEN 0 5 [::]:22 [::]:*', 'tcp 6 | :: 22 | * | listen | 0 5 | -'],
    ['a bound TCP socket', 'tcp UNCONN 0 0 [::1]:22 [::]:*', 'tcp 6 | ::1 22 | * | closed | 0 0 | -'],
    ['UNCONN of an unknown transport', 'UNCONN 0 0 [::1]:22 [::]:*', '? 6 | ::1 22 | * | - | 0 0 | -'],
    ['an unknown state', 'tcp FLYING 0 0 [::1]:22 [::1]:1', 'tcp 6 | ::1 22 | ::1 1 | unknown | 0 0 | -'],
    ['a zone', 'tcp LISTEN 0 5 [fe80::1]%eth0:53 [::]:*', 'tcp 6 | fe80::1 53 | * | listen | 0 5 | -'],
    ['a device', 'udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*', 'udp 4 | 127.0.0.53 53 | * | unconnected | 0 0 | -'],
    ['no brackets (before 4.13)', 'tcp LISTEN 0 5 fe80::1%eth0:53 :::*', 'tcp 6 | fe80::1 53 | * | listen | 0 5 | -'],
    [
      'IPv4-mapped',
      'tcp ESTAB 0 0 [::ffff:192.0.2.1]:80 [::ffff:192.0.2.2]:9',
      'tcp 6 | 192.0.2.1 80 | 192.0.2.2 9 | established | 0 0 | -',
    ],
    ['raw, with a protocol as port', 'raw UNCONN 0 0 [::]:58 [::]:*', 'raw 6 | :: * | * | unconnected | 0 0 | -'],
    [
      'several holders',
      'tcp ESTAB 0 0 [::1]:1 [::1]:2 users:(("b",pid=9,fd=1),("a",pid=1,fd=3),("b",pid=9,fd=4))',
      'tcp 6 | ::1 1 | ::1 2 | established | 0 0 | b 1 9',
    ],
    [
      'the holders of old releases',
      'tcp ESTAB 0 0 [::1]:1 [::1]:2 users:(("a",1234,3),("b,7",5,6))',
      'tcp 6 | ::1 1 | ::1 2 | established | 0 0 | b,7 5 1234',
    ],
    [
      'threads and contexts',
      'tcp ESTAB 0 0 [::1]:1 [::1]:2 users:(("a",pid=5,tid=6,proc_ctx=u:r,fd=3))',
      'tcp 6 | ::1 1 | ::1 2 | established | 0 0 | a 5',
    ],
    [
      'a name that looks like the end of a name',
      'tcp ESTAB 0 0 [::1]:1 [::1]:2 users:(("x",pid=1,fd=2",pid=7,fd=3))',
      'tcp 6 | ::1 1 | ::1 2 | established | 0 0 | x",pid=1,fd=2 7',
    ],
    [
      'a timer before the holders',
      'tcp ESTAB 0 0 [::1]:1 [::1]:2 timer:(keepalive,119min,0) users:(("a",5,3)) uid:33 ino:9 sk:1',
      'tcp 6 | ::1 1 | ::1 2 | established | 0 0 | a 5',
    ],
    [
      'a cgroup that looks like a holder',
      'tcp ESTAB 0 0 [::1]:1 [::1]:2 ino:9 sk:1 cgroup:/x users:(("evil",pid=1,fd=3))',
      'tcp 6 | ::1 1 | ::1 2 | established | 0 0 | -',
    ],
  ])('%s', (_situation, line, row) => {
    const { rows, malformed, dialect } = parseText(line);
    expect(rows.map(brief)).toEqual([row]);
    expect(malformed).toEqual([]);
    expect(dialect).toBe(/^(tcp|udp) \d/.test(line) ? 'net-tools' : 'ss');
  });

  it('accepts a line feed in a name', () => {
    const text =
      'tcp LISTEN 0 5 [::]:22 [::]:* users:(("a\ntcp 0 0",pid=7,fd=3),("c\n\td",pid=8,fd=1))\ntcp ESTAB 0 0 [::1]:1 [::1]:2\n';
    const { rows, counts, malformed } = parseText(text);
    expect(rows.map(({ process, pids }) => [process, pids])).toEqual([
      ['a\ntcp 0 0', [7, 8]],
      [null, []],
    ]);
    expect(malformed).toEqual([]);
    expect(counts).toMatchObject({ row: 2, continuation: 2 });
  });

  it('keeps rows with a truncated end and reports them', () => {
    const line = 'tcp ESTAB 0 0 [::1]:1 [::1]:2 users:(("name",pid=1,f';
    const { rows, malformed, counts } = parseText(
      `${line}\n${line}\ntcp ESTAB 0 0 [::1]:1 [::1]:2 users:(("b",pid=7,fd=3))`,
    );
    expect(rows.map(({ process }) => process)).toEqual([null, null, 'b']);
    expect(malformed).toEqual(
      [1, 2].map((number) => ({
        line: number,
        error: 'bad-users',
        reason: 'unterminated list of processes',
        text: line,
      })),
    );
    expect(counts).toMatchObject({ row: 3, error: 0 });
  });

  it.each<[situation: string, evidence: string, address: string | null, family: number | null]>([
    ['dual-stack beside an IPv6 listener with peer "*"', 'tcp LISTEN 0 5 [::1]:22 *:*', '::', 6],
    ['dual-stack below a header with "Process"', SS_HEADER, '::', 6],
    ['dual-stack beside a cgroup', 'tcp ESTAB 0 0 127.0.0.1:22 127.0.0.2:9 ino:7 cgroup:/x', '::', 6],
    ['IPv4 beside an IPv4 listener with peer "*"', 'tcp LISTEN 0 5 127.0.0.1:25 *:*', '0.0.0.0', 4],
    ['an unknown family beside brackets', 'tcp LISTEN 0 5 [::1]:22 [::]:*', null, null],
    ['dual-stack beside 0.0.0.0', 'tcp LISTEN 0 5 127.0.0.1:22 0.0.0.0:*', '::', 6],
    ['IPv4 beside IPv6 without brackets', 'tcp LISTEN 0 5 :::22 :::*', '0.0.0.0', 4],
    ['an unknown family otherwise', 'tcp ESTAB 0 0 127.0.0.1:22 127.0.0.2:9', null, null],
  ])('reads "*" as %s', (_situation, evidence, address, family) => {
    const star = 'udp UNCONN 0 0 *:68 *:*';
    for (const text of [`${star}\n${evidence}`, `${evidence}\n${star}`]) {
      const { rows, warnings } = parseText(text);
      expect(rows.find(({ local_port }) => local_port === 68)).toMatchObject({ local_address: address, family });
      expect(warnings.map(({ warning }) => warning)).toEqual(family === null ? ['family-ambiguous'] : []);
    }
  });

  it('reads "*" as IPv4 beside an IPv6 listener with the same port', () => {
    const text = 'tcp LISTEN 0 5 *:22 *:*\ntcp LISTEN 0 5 [::]:22 [::]:*\ntcp LISTEN 0 5 *:80 *:*';
    expect(parseText(text).rows.map(({ local_address }) => local_address)).toEqual(['0.0.0.0', '::', '0.0.0.0']);
  });
});

describe('a line of netstat on Linux', () => {
  const HEADER = 'Proto Recv-Q Send-Q Local Address           Foreign Address         State       ';
  const WITH_USER = `${HEADER}User       Inode      PID/Program name    `;
  it.each<[situation: string, text: string, row: string]>([
    [
      'busybox, with IPv6 in a row of tcp',
      `${HEADER}\ntcp 0 0 ::ffff:192.0.2.1:80 ::ffff:192.0.2.2:9 ESTABLISHED`,
      'tcp 6 | 192.0.2.1 80 | 192.0.2.2 9 | established | 0 0 | -',
    ],
    ['no header', 'tcp6 0 0 :::80 :::* LISTEN 7/a b/c: d', 'tcp 6 | :: 80 | * | listen | 0 0 | a b/c: d 7'],
    ['no PID column', `${HEADER}\nudp 0 0 0.0.0.0:68 0.0.0.0:*`, 'udp 4 | 0.0.0.0 68 | * | unconnected | 0 0 | -'],
    [
      'a name that looks like a state',
      'udp 0 0 0.0.0.0:68 0.0.0.0:* 9/ESTABLISHED',
      'udp 4 | 0.0.0.0 68 | * | unconnected | 0 0 | ESTABLISHED 9',
    ],
    [
      'a name that looks like a timer',
      `${HEADER}PID/Program name    \ntcp 0 0 0.0.0.0:68 0.0.0.0:* LISTEN 1/off (0.00/0/0)`,
      'tcp 4 | 0.0.0.0 68 | * | listen | 0 0 | off (0.00/0/0) 1',
    ],
    [
      'a timer',
      `${HEADER}PID/Program name     Timer\ntcp 0 0 0.0.0.0:68 0.0.0.0:* LISTEN 1/on  probe (1.00/0/0)`,
      'tcp 4 | 0.0.0.0 68 | * | listen | 0 0 | on 1',
    ],
    [
      'an unknown state',
      `${HEADER}\ntcp 0 0 0.0.0.0:68 1.2.3.4:5 FLYING`,
      'tcp 4 | 0.0.0.0 68 | 1.2.3.4 5 | unknown | 0 0 | -',
    ],
    [
      'a numeric raw state',
      'raw 0 0 0.0.0.0:1 0.0.0.0:* 7 3/ping',
      'raw 4 | 0.0.0.0 * | * | unconnected | 0 0 | ping 3',
    ],
    [
      'a truncated IPv6 address',
      'tcp6 0 0 2001:db8:1111:222:60443 :::* LISTEN',
      'tcp 6 | 2001:db8:1111:222 60443 | * | listen | 0 0 | -',
    ],
    ['UDP-Lite', 'udplite6 0 0 ::1:9 :::* -', 'udplite 6 | ::1 9 | * | unconnected | 0 0 | -'],
    [
      'user and inode',
      `${WITH_USER}\nudp 0 0 0.0.0.0:68 0.0.0.0:* 1000 77 9/a`,
      'udp 4 | 0.0.0.0 68 | * | unconnected | 0 0 | a 9',
    ],
  ])('%s', (_situation, text, row) => {
    const expected = row.replace('2001:db8:1111:222 60443', '? 60443');
    expect(rowsOf(text)).toEqual([expected]);
    expect(parseText(text).malformed).toEqual([]);
  });

  it('parses user and inode', () => {
    expect(first(`${WITH_USER}\ntcp 0 0 0.0.0.0:1 0.0.0.0:* LISTEN 1000 77 9/a`)).toMatchObject({
      uid: 1000,
      inode: 77,
      pid: 9,
    });
    expect(first(`${WITH_USER}\ntcp 0 0 0.0.0.0:1 1.2.3.4:2 TIME_WAIT 0 0 -`)).toMatchObject({
      uid: null,
      inode: null,
    });
  });

  it('has the reason for a missing process if the text has a notice', () => {
    const notice = '(No info could be read for "-p": geteuid()=1000 but you should be root.)';
    const rows = parseText(
      `${notice}\n${HEADER}\ntcp 0 0 0.0.0.0:1 0.0.0.0:* LISTEN -\ntcp 0 0 1.2.3.4:1 1.2.3.4:2 TIME_WAIT -`,
    ).rows;
    expect(rows.map((row) => row.unattributed_reason)).toEqual(['permission', null]);
  });

  it('accepts a possibly truncated address once a longer one shows that none is', () => {
    const doubtful = 'tcp6 0 0 2001:db8:11:2222::7:443 :::* LISTEN';
    const long = 'tcp6 0 0 2001:db8:1111:2222:3333:4444:5555:6666:443 :::* LISTEN';
    expect(parseText(`${doubtful}\n${doubtful}`).rows.map((row) => row.local_address)).toEqual([null, null]);
    expect(parseText(`${doubtful}\n${long}`).rows.map((row) => row.local_address)).toEqual([
      '2001:db8:11:2222::7',
      '2001:db8:1111:2222:3333:4444:5555:6666',
    ]);
  });

  it('warns about a name that fills its column', () => {
    const { warnings } = parseText('tcp 0 0 0.0.0.0:1 0.0.0.0:* LISTEN 12345/a-very-long-n');
    expect(warnings).toEqual([{ line: 1, warning: 'name-truncated' }]);
  });
});

describe('columns of macOS', () => {
  const title = 'Active Internet connections (including servers)\n';
  const macOS14 = `${title}Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)      rhiwat  shiwat    pid   epid state  options           gencnt    flags   flags1 usecnt rtncnt fltrs\n`;
  const macOS15 = macOS14.replace('(state)', '(state)      rxbytes      txbytes');
  const macOS26 = macOS15.replace('  pid   epid', '  process:pid');
  it.each<[generation: string, text: string, row: string]>([
    [
      '10.14',
      `${title}Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)     rhiwat shiwat    pid   epid  state    options\ntcp4 0 0 192.0.2.7.52137 198.51.100.9.443 ESTABLISHED 131072 131072 2903 0 0x0102 0x00000020`,
      'tcp 4 | 192.0.2.7 52137 | 198.51.100.9 443 | established | 0 0 | - 2903',
    ],
    [
      '14',
      `${macOS14}tcp4 0 0 192.0.2.7.52137 198.51.100.9.443 ESTABLISHED 131072 131600 2903 0 00102 00000000 0000000000021a2c 00000080 00000900 2 0 000004`,
      'tcp 4 | 192.0.2.7 52137 | 198.51.100.9 443 | established | 0 0 | - 2903',
    ],
    [
      '14, UDP without a state',
      `${macOS14}udp4 0 0 *.5353 *.* 786896 9216 301 0 00100 00000000 0000000000021a2c 00000080 00000900 2 0 000004`,
      'udp 4 | 0.0.0.0 5353 | * | unconnected | 0 0 | - 301',
    ],
    [
      '15',
      `${macOS15}tcp46 0 0 *.80 *.* LISTEN 9026 316 131072 131600 2903 0 00102 00000000 0000000000021a2c 00000080 00000900 2 0 000004`,
      'tcp 6 | :: 80 | * | listen | 0 0 | - 2903',
    ],
    [
      '26',
      `${macOS26}tcp4 0 0 192.0.2.7.52137 198.51.100.9.443 ESTABLISHED 9026 316 131072 131600 Some  App: x:2903 00102 00000000 0000000000021a2c 00000080 00000900 2 0 000004`,
      'tcp 4 | 192.0.2.7 52137 | 198.51.100.9 443 | established | 0 0 | Some  App: x 2903',
    ],
    [
      '26, UDP without a state',
      `${macOS26}udp6 0 0 fe80::1%lo0.123 *.* 0 0 786896 9216 timed:99 00102 00000000 0000000000021a2c 00000080 00000900 2 0 000004`,
      'udp 6 | fe80::1 123 | * | unconnected | 0 0 | timed 99',
    ],
  ])('%s', (_generation, text, row) => {
    expect(rowsOf(text)).toEqual([row]);
    expect(parseText(text).malformed).toEqual([]);
  });

  it('does not take a number for a pid if a column is missing', () => {
    const { rows, malformed } = parseText(
      `${macOS14}tcp4 0 0 192.0.2.7.1 198.51.100.9.443 ESTABLISHED 131072 2903 0 00102`,
    );
    expect(rows.map((row) => row.pid)).toEqual([null]);
    expect(malformed.map(({ line, error }) => [line, error])).toEqual([[3, 'bad-pid']]);
  });

  it('has no pid without a header', () => {
    expect(rowsOf('tcp4 0 0 192.0.2.7.52137 198.51.100.9.443 ESTABLISHED 131072 131600 2903 0')).toEqual([
      'tcp 4 | 192.0.2.7 52137 | 198.51.100.9 443 | established | 0 0 | -',
    ]);
  });

  it.each<[situation: string, text: string, row: string]>([
    [
      '-T of FreeBSD: no queues, no state',
      'Proto Rexmit OOORcv 0-win  Local Address          Foreign Address        \ntcp4 0 0 0 192.0.2.7.22 192.0.2.8.99\nudp4 *.514 *.*',
      'tcp 4 | 192.0.2.7 22 | 192.0.2.8 99 | - | - - | -',
    ],
    [
      'addresses truncated to 16 characters',
      `${title}Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)\ntcp6 0 0 2001:db8:1111:22.60443 2001:db8::1.443 ESTABLISHED`,
      'tcp 6 | ? 60443 | 2001:db8::1 443 | established | 0 0 | -',
    ],
    [
      'wide columns',
      `${title}Proto Recv-Q Send-Q  Local Address                                 Foreign Address                               (state)\ntcp6 0 0 2001:db8:1111::2.60443                        2001:db8::1.443                               ESTABLISHED`,
      'tcp 6 | 2001:db8:1111::2 60443 | 2001:db8::1 443 | established | 0 0 | -',
    ],
  ])('%s', (_situation, text, row) => {
    expect(rowsOf(text)[0]).toBe(row);
  });
});

describe('Windows', () => {
  const german =
    '\r\nAktive Verbindungen\r\n\r\n  Proto  Lokale Adresse         Remoteadresse          Status           PID\r\n';
  it.each<[situation: string, text: string, row: string]>([
    [
      'German',
      `${german}  TCP    0.0.0.0:135            0.0.0.0:0              ABHÖREN         1712\r\n`,
      'tcp 4 | 0.0.0.0 135 | * | listen | - - | - 1712',
    ],
    [
      'German in a code page',
      `${german}  TCP    0.0.0.0:135            0.0.0.0:0              ABH\ufffdREN         1712\r\n`,
      'tcp 4 | 0.0.0.0 135 | * | listen | - - | - 1712',
    ],
    [
      'French',
      '\r\nConnexions actives\r\n\r\n  Proto  Adresse locale         Adresse distante       État\r\n  TCP    [::1]:135   [::1]:99   ESTABLISHED     7\r\n',
      'tcp 6 | ::1 135 | ::1 99 | established | - - | - 7',
    ],
    [
      'a zone',
      '  UDP    [fe80::1%5]:5353       *:*                                    4856',
      'udp 6 | fe80::1 5353 | * | unconnected | - - | - 4856',
    ],
    [
      'Select-String',
      '>   TCP    192.0.2.1:135   192.0.2.2:9   SCHLIESSEN_WARTEN     7',
      'tcp 4 | 192.0.2.1 135 | 192.0.2.2 9 | close_wait | - - | - 7',
    ],
    [
      'offloading',
      '  TCP    192.0.2.1:135   192.0.2.2:9   ESTABLISHED     7  InHost',
      'tcp 4 | 192.0.2.1 135 | 192.0.2.2 9 | established | - - | - 7',
    ],
    [
      'TIME_WAIT without a process',
      '  TCP    192.0.2.1:135   192.0.2.2:9   TIME_WAIT     0',
      'tcp 4 | 192.0.2.1 135 | 192.0.2.2 9 | time_wait | - - | -',
    ],
    [
      'a name with brackets',
      '  TCP    192.0.2.1:135   192.0.2.2:9   ESTABLISHED     7\r\n  comp\r\n [a [b], "c": d.exe]\r\n',
      'tcp 4 | 192.0.2.1 135 | 192.0.2.2 9 | established | - - | a [b], "c": d.exe 7',
    ],
  ])('%s', (_situation, text, row) => {
    const { rows, malformed, counts } = parseText(text);
    expect(rows.map(brief)).toEqual([row]);
    expect(malformed).toEqual([]);
    expect(sum(counts)).toBe(linesIn(text));
  });
});

describe('lines that cannot be parsed', () => {
  const ss = 'Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n';
  const linux =
    'Active Internet connections (servers and established)\nProto Recv-Q Send-Q Local Address Foreign Address State\n';
  const bsd =
    'Active Internet connections\nProto Recv-Q Send-Q  Local Address          Foreign Address        (state)\n';
  it.each<[text: string, line: number, error: string, reason: string]>([
    ['what is 1 this', 1, 'unknown-dialect', 'not a row of ss or a supported netstat'],
    [`${ss}tcp LISTEN 0 5`, 2, 'too-few-columns', 'local or peer address is missing'],
    [`${ss}tcp LISTEN x 5 1.2.3.4:1 1.2.3.4:2`, 2, 'bad-queue', '"x" and "5" are not queue lengths'],
    [`${ss}tcp LISTEN 0 5 1.2.3.400:1 1.2.3.4:2`, 2, 'bad-address', '"1.2.3.400" is not an address'],
    [`${ss}tcp LISTEN 0 5 1.2.3.4:65536 1.2.3.4:2`, 2, 'bad-port', '"65536" is not a port'],
    [`${ss}tcp LISTEN 0 5 1.2.3.4:1 1.2.3.4:2 users:(("a",pid=x,fd=1))`, 2, 'bad-users', 'invalid list of processes'],
    [`${ss}\t cubic rto:1`, 2, 'unattached-continuation', 'no row before this line'],
    [`${ss}192.0.2.1:22 and 192.0.2.2:99`, 2, 'too-few-columns', 'not a row of ss'],
    [`${linux}tcp 0 0 1.2.3.4:1`, 3, 'too-few-columns', 'queues or addresses are missing'],
    [`${linux}udpl6 0 0 ::1:1`, 3, 'too-few-columns', 'queues or addresses are missing'],
    [`${linux}tcp 0 -1 1.2.3.4:1 1.2.3.4:2 LISTEN`, 3, 'bad-queue', '"0" and "-1" are not queue lengths'],
    [`${linux}tcp 0 0 1.2.3.4:1 1.2.3.4:2 LISTEN nobody`, 3, 'bad-pid', '"nobody" is neither "-" nor pid/name'],
    [`${bsd}tcp4 0 0 1.2.3.4.1`, 3, 'too-few-columns', 'local or foreign address is missing'],
    [`${bsd}tcp4 0 0 1.2.3.4.99999 1.2.3.4.1 LISTEN`, 3, 'bad-port', '"99999" is not a port'],
  ])('%j', (text, line, error, reason) => {
    const { malformed, counts } = parseText(text);
    expect(malformed).toEqual([{ line, error, reason, text: text.split('\n').at(-1) }]);
    expect(sum(counts)).toBe(linesIn(text));
  });

  it('show 200 characters of a line, and reject a line that is too long', () => {
    const [error] = parseText(`${ss}tcp ${'x'.repeat(5000)}`).malformed;
    expect(error?.text).toBe(`tcp ${'x'.repeat(196)}`);
    expect(parseText(`${ss}${'x'.repeat(2 << 20)}`).malformed.map(({ error }) => error)).toEqual(['too-long']);
  });

  it.each([
    ['an address of colons', `${linux}tcp6 0 0 ${':'.repeat(200_000)} 1.2.3.4:1 LISTEN`],
    ['an address of colons without a header', `tcp6 0 0 ${':'.repeat(200_000)}. 1.2.3.4:1 LISTEN`],
    ['a name of line feeds', `${ss}tcp LISTEN 0 5 1.2.3.4:1 1.2.3.4:2 users:(("a${'\na'.repeat(200_000)}`],
  ])('are parsed in linear time: %s', (_, text) => {
    // Otherwise the test times out.
    expect(sum(parseText(text).counts)).toBe(linesIn(text));
  });

  it('do not affect other lines', () => {
    const lines = recorded('text/ss-tunap.out').split('\n');
    const rows = rowsOf(lines.join('\n'));
    expect(rowsOf(lines.toSpliced(5, 0, 'tcp garbage', '', '\u0000\u001b[31m').join('\n'))).toEqual(rows);
  });
});

describe('properties', () => {
  const ANY = fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.constantFrom(
      ...['ss-tunap', 'ss-tunaemoi', 'netstat-tunap'].flatMap((name) => recorded(`text/${name}.out`).split('\n')),
    ),
    fc.constantFrom(
      ...['freebsd-12-netstat-an', 'macos-10.14-netstat-An', 'windows-10-netstat-anob'].flatMap((name) =>
        recorded(`text-other/${name}.out`).split('\n'),
      ),
    ),
  );

  it('never throws, and counts every line of any text', () => {
    const cut = fc.tuple(ANY, fc.nat(120)).map(([line, length]) => line.slice(0, length));
    fc.assert(
      fc.property(fc.array(fc.oneof(ANY, cut), { maxLength: 30 }), (parts) => {
        const text = parts.join('\n');
        const { rows, counts } = parseText(text);
        expect(sum(counts)).toBe(text === '' ? 0 : linesIn(text));
        expect(rows).toHaveLength(counts.row);
      }),
    );
  });

  const STATES: readonly (readonly [string, State])[] = [
    ['ESTAB', 'established'],
    ['SYN-SENT', 'syn_sent'],
    ['SYN-RECV', 'syn_received'],
    ['FIN-WAIT-1', 'fin_wait_1'],
    ['FIN-WAIT-2', 'fin_wait_2'],
    ['TIME-WAIT', 'time_wait'],
    ['UNCONN', 'closed'],
    ['CLOSE-WAIT', 'close_wait'],
    ['LAST-ACK', 'last_ack'],
    ['CLOSING', 'closing'],
  ];
  const name = fc
    .string({ unit: 'binary', minLength: 0, maxLength: 15 })
    .filter((text) => !/[)\0]/.test(text) && Buffer.byteLength(text) <= 15 && text.isWellFormed());
  const port = fc.integer({ min: 1, max: 65_535 });
  const address = fc.oneof(
    fc.ipV4().map((text) => ({ text, family: 4 as const })),
    fc
      .constantFrom('2001:db8::1', 'fe80::1', '::1', '2001:db8:1111:2222:3333:4444:5555:6666')
      .map((text) => ({ text, family: 6 as const })),
  );
  const socket = fc.record({
    local: address,
    localPort: port,
    remotePort: port,
    state: fc.constantFrom(...STATES),
    queues: fc.tuple(fc.nat(), fc.nat()),
    holders: fc.array(fc.tuple(name, fc.integer({ min: 1, max: 4_194_304 })), { maxLength: 4 }),
    uid: fc.option(fc.integer({ min: 1, max: 0xfffffffe })),
    inode: fc.option(fc.integer({ min: 1, max: 0xffffffff })),
  });

  it('reads back the output of ss for any sockets and names', () => {
    fc.assert(
      fc.property(fc.array(socket, { minLength: 1, maxLength: 8 }), (sockets) => {
        const host = ({ text, family }: { text: string; family: 4 | 6 }): string => (family === 6 ? `[${text}]` : text);
        const lines = sockets.map((s) => {
          const holders = s.holders.map(([comm, pid], fd) => `("${comm}",pid=${pid},fd=${fd})`);
          const users = holders.length === 0 ? '' : ` users:(${holders.join(',')})`;
          const details =
            s.inode === null ? '' : `${s.uid === null ? '' : ` uid:${s.uid}`} ino:${s.inode} sk:1 cgroup:/x <->`;
          const ends = `${host(s.local)}:${s.localPort}   ${host(s.local)}:${s.remotePort}`;
          return `tcp   ${s.state[0].padEnd(10)} ${s.queues[0]}      ${s.queues[1]}    ${ends}${users}${details}  `;
        });
        const { rows, malformed } = parseText(lines.join('\n'));
        expect(malformed).toEqual([]);
        expect(
          rows.map((row) => [row.family, row.local_address, row.local_port, row.remote_address, row.remote_port]),
        ).toEqual(sockets.map((s) => [s.local.family, s.local.text, s.localPort, s.local.text, s.remotePort]));
        expect(rows.map((row) => [row.state, row.receive_queue, row.send_queue, row.inode, row.uid])).toEqual(
          sockets.map((s) => [s.state[1], ...s.queues, s.inode, s.inode === null ? null : (s.uid ?? 0)]),
        );
        expect(rows.map((row) => row.pids)).toEqual(
          sockets.map((s) => [...new Set(s.holders.map(([, pid]) => pid))].sort((a, b) => a - b)),
        );
        const lone = sockets.map((s) => (s.holders.length === 1 ? s.holders[0]?.[0] : null));
        expect(rows.map((row, i) => (sockets[i]?.holders.length === 1 ? row.process : null))).toEqual(lone);
      }),
    );
  });
});
