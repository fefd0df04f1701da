import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CommandError, SystemCommands, type Command, type Platform } from '../../src/collect/ss-netstat.ts';
import { parsePs, parseTasklist } from '../../src/parse/process-list.ts';

const FIXTURES = new URL('../fixtures/', import.meta.url).pathname;
const SS = `cat ${FIXTURES}text/ss-tunap.out`;
const NETSTAT = `cat ${FIXTURES}text/netstat-tunapW.out`;

const scratch = mkdtempSync(join(tmpdir(), 'peerscope-commands-'));
afterAll(() => rmSync(scratch, { recursive: true }));
let folders = 0;

/** A machine with these commands, as scripts of sh. */
function machine(os: NodeJS.Platform, scripts: Readonly<Record<string, string>>): Platform & { folder: string } {
  const folder = join(scratch, String(folders++));
  mkdirSync(folder);
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\nPATH=/usr/bin:/bin\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return { os, folders: ['/nowhere', folder], timeoutMs: 10_000, maxBytes: 1 << 20, folder };
}

const read = (source: Command, platform: Platform): [command: string, rows: number] => {
  const { command, rows } = new SystemCommands(source, platform).read();
  return [command, rows.length];
};

describe('the commands of a platform', () => {
  it.each<[situation: string, source: Command, scripts: Record<string, string>, command: string, rows: number]>([
    ['ss first', 'ss', { ss: SS, netstat: 'exit 9' }, 'ss', 28],
    ['netstat without ss', 'ss', { netstat: NETSTAT }, 'netstat', 28],
    ['netstat where ss fails', 'ss', { ss: `${SS}; exit 1`, netstat: NETSTAT }, 'netstat', 28],
    ['netstat where ss prints something else', 'ss', { ss: 'echo hello 1', netstat: NETSTAT }, 'netstat', 28],
    ['netstat alone', 'netstat', { ss: SS, netstat: NETSTAT }, 'netstat', 28],
    ['a header without a row', 'ss', { ss: `${SS} | head -1` }, 'ss', 0],
  ])('%s', (_situation, source, scripts, command, rows) => {
    expect(read(source, machine('linux', scripts))).toEqual([command, rows]);
  });

  it.each<[os: NodeJS.Platform, script: string, calls: string[]]>([
    ['linux', `[ "$1" = -tuwna ] && ${NETSTAT}`, ['-tuwnapW', '-tuwnap', '-tuwna']],
    ['darwin', `[ "$1" = -anv ] && cat ${FIXTURES}text-other/macos-10.14-netstat.out`, ['-anvlW', '-anvl', '-anv']],
    ['freebsd', `[ "$1" = -an ] && cat ${FIXTURES}text-other/freebsd-12-netstat-an.out`, ['-anW', '-an']],
  ])('on %s what netstat refuses is left out, and nothing else is ever given', (os, script, calls) => {
    const platform = machine(os, {});
    const log = `echo "$@" >>${platform.folder}/calls`;
    writeFileSync(join(platform.folder, 'netstat'), `#!/bin/sh\nPATH=/usr/bin:/bin\n${log}\n${script}\n`, {
      mode: 0o755,
    });
    expect(read('ss', platform)[0]).toBe('netstat');
    expect(readFileSync(join(platform.folder, 'calls'), 'utf8')).toBe(calls.map((call) => `${call}\n`).join(''));
  });

  it('get no environment and no standard input', () => {
    const platform = machine('linux', {});
    process.env['PEERSCOPE_TEST_SECRET'] = 'secret';
    const script = `#!/bin/sh\n/usr/bin/env >${platform.folder}/env; /bin/cat >>${platform.folder}/env\n/bin/${SS}\n`;
    writeFileSync(join(platform.folder, 'ss'), script, { mode: 0o755 });
    expect(read('ss', platform)).toEqual(['ss', 28]);
    delete process.env['PEERSCOPE_TEST_SECRET'];
    const names = readFileSync(join(platform.folder, 'env'), 'utf8').match(/^\w+(?==)/gm) ?? [];
    expect(names.filter((name) => !['LC_ALL', 'PATH', 'PWD', 'SHLVL', '_', 'OLDPWD'].includes(name))).toEqual([]);
  });

  it('report why there is no process, from the notices of netstat', () => {
    const notice = `echo '(Not all processes could be identified, non-owned process info' >&2`;
    const { rows } = new SystemCommands(
      'netstat',
      machine('linux', { netstat: `${notice}\necho noise >&2\n${NETSTAT}` }),
    ).read();
    expect(rows.filter((row) => row.unattributed_reason === 'permission')).toHaveLength(3);
  });

  it.each<[situation: string, os: NodeJS.Platform, scripts: Record<string, string>, reasons: [string, string]]>([
    ['not there', 'linux', {}, ['was not found', 'was not found']],
    ['not known there', 'aix', { ss: SS }, ['is not known on aix', 'is not known on aix']],
    ['failing', 'linux', { ss: 'exit 3', netstat: 'kill -9 $$' }, ['ended with status 3', 'ended with SIGKILL']],
    [
      'endless',
      'linux',
      { ss: 'exec sleep 60', netstat: 'exec cat /dev/zero' },
      ['did not end within 0.5 s', 'printed more than 1048576 bytes'],
    ],
    [
      'of other words',
      'linux',
      { ss: 'echo 1 2', netstat: 'true' },
      ['printed nothing that is known', 'printed nothing that is known'],
    ],
  ])('that are %s give an error with each reason', (_situation, os, scripts, [ss, netstat]) => {
    const commands = new SystemCommands('ss', { ...machine(os, scripts), timeoutMs: 500 });
    const tried = [
      { command: 'ss', reason: ss },
      { command: 'netstat', reason: netstat },
    ];
    expect(() => commands.read()).toThrow(new CommandError(tried));
    expect(new CommandError(tried)).toMatchObject({
      code: 'no-source',
      tried,
      message: `Cannot read connections from "ss" or "netstat": ss ${ss}, netstat ${netstat}`,
    });
  });

  it('that do not end are not run again with other arguments', () => {
    const platform = machine('linux', { netstat: `echo run >> "$0".runs; exec sleep 60` });
    expect(() => new SystemCommands('netstat', { ...platform, timeoutMs: 500 }).read()).toThrow(
      'did not end within 0.5 s',
    );
    expect(readFileSync(join(platform.folder, 'netstat.runs'), 'utf8')).toBe('run\n');
  });

  it('get process names from tasklist on Windows, and from ps on macOS', () => {
    const windows = machine('win32', {
      'netstat.exe': `cat ${FIXTURES}text-other/windows-10-netstat-anob.out | grep -e TCP -e UDP`,
      'tasklist.exe': `[ "$*" = "/fo csv /nh" ] && printf '"svchost.exe","1712","Services","0","12.345 K"\\r\\n'`,
    });
    const told = new SystemCommands('ss', windows).read();
    expect([told.command, told.rows.length, told.names]).toEqual(['netstat', 318, new Map([[1712, 'svchost.exe']])]);
    const mac = machine('darwin', {
      netstat: `cat ${FIXTURES}text-other/macos-10.14-netstat.out`,
      ps: `[ "$*" = "-axo pid=,ucomm=" ] && printf '    1 launchd\\n 2903 Some App  \\n'`,
    });
    expect(new SystemCommands('ss', mac).read().names).toEqual(
      new Map([
        [1, 'launchd'],
        [2903, 'Some App'],
      ]),
    );
  });
});

describe('lists of processes', () => {
  it.each<[name: string, text: string, names: [number, string][]]>([
    [
      'tasklist',
      '"System Idle Process","0","Services","0","8 K"\r\n"a ""b"", c.exe","42","Console","1","1\xa0234 Ko"\r\n',
      [
        [0, 'System Idle Process'],
        [42, 'a "b", c.exe'],
      ],
    ],
    ['tasklist without a process', 'INFO: No tasks are running which match the specified criteria.\r\n', []],
    ['tasklist in columns', 'System Idle Process              0 Services                   0          8 K\r\n', []],
  ])('%s', (_name, text, names) => {
    expect([...parseTasklist(text)]).toEqual(names);
  });

  it('ps', () => {
    expect([...parsePs('    1 launchd\n  301 a b: c \nno process\n 12\n')]).toEqual([
      [1, 'launchd'],
      [301, 'a b: c'],
    ]);
  });
});
