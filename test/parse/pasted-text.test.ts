import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { parseText, type Parsed } from '../../src/parse/text-reader.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');
const recorded = (name: string): string => readFileSync(join(FIXTURES, name), 'utf8');
const SS = recorded('text/ss-tunap.out');
const SS_DETAILS = recorded('text/ss-tunaemoi.out');
const NETSTAT = recorded('text/netstat-tunapW.out');
const WINDOWS = recorded('text-other/windows-10-netstat-anob.out').replaceAll('\r', '');
const MACOS = recorded('text-other/macos-10.14-netstat-An.out');

const eachLine = (text: string, change: (line: string, i: number) => string): string =>
  text.trimEnd().split('\n').map(change).join('\n');
const sum = (counts: Parsed['counts']): number =>
  Object.values<number>({ ...counts }).reduce((total, count) => total + count, 0);

/** What logs, terminals, editors and mails do to each line. */
const CHANGES: readonly (readonly [name: string, change: (line: string, i: number) => string])[] = [
  ['indented by blanks', (line) => `    ${line}`],
  ['indented by a tab', (line) => `\t${line}`],
  ['quoted', (line) => `> ${line}`],
  ['quoted twice', (line) => `>> > ${line}`],
  ['in a box', (line) => `| ${line} |`],
  ['in quotation marks', (line) => `  "${line}",`],
  ['with list marks', (line) => `- ${line}`],
  ['with line numbers', (line, i) => `${i + 1}: ${line}`],
  ['numbered by cat -n', (line, i) => `${String(i + 1).padStart(6)}\t${line}`],
  ['numbered as a list', (line, i) => `${i + 1}. ${line}`],
  ['with time', (line, i) => `2026-11-30T10:00:${String(i % 60).padStart(2, '0')}.123Z ${line}`],
  ['with time in brackets', (line, i) => `[${i}.123456] ${line}`],
  ['from syslog', (line, i) => `Nov ${i < 9 ? ' ' : ''}${i + 1} 10:00:01 web1 netmon[4711]: ${line}`],
  ['from Docker Compose', (line) => `netmon-1  | ${line}`],
  ['found by grep', (line, i) => `dump.txt:${i}:${line}`],
  ['with a host name', (line) => `web1.example.com: ${line}`],
  ['with carriage returns', (line) => `${line}\r`],
  ['with carriage returns in front', (line) => `\r${line}`],
  ['in color', (line) => `\u001b[01;31m\u001b[K${line}\u001b[m\u001b[K`],
];

describe('text around each line', () => {
  it.each(CHANGES)('%s: the rows of ss and netstat are the same', (_name, change) => {
    for (const text of [SS, SS_DETAILS, NETSTAT, MACOS]) {
      const changed = parseText(eachLine(text, change));
      expect(changed.malformed).toEqual([]);
      expect(changed.rows).toEqual(parseText(text).rows);
      expect(sum(changed.counts)).toBe(text.trimEnd().split('\n').length);
    }
  });

  it.each(CHANGES.filter(([name]) => !/box|quotation/.test(name)))(
    '%s: the rows of Windows are the same',
    (_, change) => {
      expect(parseText(eachLine(WINDOWS, change)).rows).toEqual(parseText(WINDOWS).rows);
    },
  );
});

describe('blanks', () => {
  it.each<[situation: string, change: (text: string) => string]>([
    ['no-break spaces', (text) => text.replaceAll(' ', '\u00a0')],
    ['tabs', (text) => text.replaceAll(/ {2,}/g, '\t')],
    ['single blanks', (text) => text.replaceAll(/ +/g, ' ')],
    ['carriage returns as line ends', (text) => text.replaceAll('\n', '\r')],
    ['a byte order mark', (text) => `\ufeff${text}`],
  ])('may be %s', (_situation, change) => {
    for (const text of [SS, NETSTAT]) {
      const { rows, malformed } = parseText(change(text));
      expect(malformed).toEqual([]);
      expect(rows.map(({ process, ...row }) => ({ ...row, name: process?.replaceAll(/\s+/g, ' ') ?? null }))).toEqual(
        parseText(text).rows.map(({ process, ...row }) => ({ ...row, name: process })),
      );
    }
  });

  it('may replace the tab before details of ss', () => {
    for (const blanks of ['', '  ', '        ']) {
      const { rows, malformed } = parseText(SS_DETAILS.replaceAll('\n\t', `\n${blanks}`));
      expect(malformed).toEqual([]);
      expect(rows).toEqual(parseText(SS_DETAILS).rows);
    }
  });
});

describe('several texts', () => {
  const texts = [SS, NETSTAT, WINDOWS, MACOS, recorded('text-other/freebsd-12-netstat-an.out')];
  it('in one file keep all rows, in any order', () => {
    for (const first of texts)
      for (const second of texts) {
        const rows: Row[] = [first, second].flatMap((text) => parseText(text).rows);
        const { rows: joined, malformed } = parseText(`${first}\n$ date\nMon Nov 30 10:00:05 UTC 2026\n${second}`);
        expect(malformed).toEqual([]);
        expect(joined).toEqual(rows);
      }
  });

  it('without headers keep all rows', () => {
    const text = [
      'tcp        0      0 0.0.0.0:22              0.0.0.0:*               LISTEN      812/sshd',
      '  TCP    0.0.0.0:135            0.0.0.0:0              LISTENING       1116',
      'tcp4       0      0  127.0.0.1.631          *.*                    LISTEN',
      'tcp   LISTEN 0      128          0.0.0.0:80        0.0.0.0:*     users:(("nginx",pid=7,fd=3))',
    ].join('\n');
    expect(parseText(text).rows.map(({ local_port, pid }) => [local_port, pid])).toEqual([
      [22, 812],
      [135, 1116],
      [631, null],
      [80, 7],
    ]);
  });
});

describe('lines without a socket', () => {
  it.each([
    'user@web1:~$ ss -tan',
    'root@web1:/# ',
    '[root@web1 ~]# netstat -an | grep 22',
    'C:\\Users\\ada> netstat -ano',
    'PS C:\\> netstat -ano',
    'Mon Nov 30 10:00:05 UTC 2026',
    '+ ss -tan',
    'Last login: Mon Nov 30 09:00:00 2026 from 198.51.100.7',
    'Welcome to Ubuntu 24.04.1 LTS (GNU/Linux 6.8.0-49-generic x86_64)',
    'netstat: /proc/net/tcp6: No such file or directory',
    'warning, got bogus tcp line.',
    'Cannot open netlink socket: Protocol not supported',
    '-bash: lsof: command not found',
    '--More--',
    '^C',
    '```',
    '5',
  ])('are not errors: %s', (line) => {
    for (const text of [SS, NETSTAT, MACOS]) {
      const { rows, malformed, counts } = parseText(`${line}\n${text.trimEnd()}\n${line}\n${line}`);
      expect(malformed).toEqual([]);
      expect(rows).toEqual(parseText(text).rows);
      expect(counts.error).toBe(0);
    }
  });

  it('are errors if nothing else is in the text', () => {
    expect(parseText('user@web1:~$ ss -tan\n').malformed.map(({ error }) => error)).toEqual(['unknown-dialect']);
  });
});

describe('ss without a Netid column', () => {
  const header = 'State Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n';
  const established = 'ESTAB 0 0 192.0.2.5:22 198.51.100.7:51514\n';
  it.each<[situation: string, text: string, transports: (string | null)[]]>([
    ['a listener shows that all rows are TCP', `${header}${established}LISTEN 0 5 [::]:22 [::]:*`, ['tcp', 'tcp']],
    ['so do details', `${header}${established}\t cubic rto:204 mss:1448 cwnd:10`, ['tcp']],
    ['otherwise the transport is unknown', `${header}${established}`, [null]],
    ['another header ends the rows', `${header}${established}${header}LISTEN 0 5 [::]:22 [::]:*`, [null, 'tcp']],
    ['no header shows only its own row', `${established}LISTEN 0 5 [::]:22 [::]:*`, [null, 'tcp']],
  ])('%s', (_situation, text, transports) => {
    expect(parseText(text).rows.map(({ transport }) => transport)).toEqual(transports);
  });

  it('has a closed TCP socket', () => {
    const { rows } = parseText(`${header}UNCONN 0 0 [::1]:9 [::]:*\nLISTEN 0 5 [::]:22 [::]:*`);
    expect(rows.map(({ state }) => state)).toEqual(['closed', 'listen']);
  });
});
