import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { clearPointers, clearStatAddresses, record, redactArguments } from '../../src/cli/record.ts';
import { nameProcess } from '../../src/collect/process-name.ts';

const FIXTURES = new URL('../fixtures/', import.meta.url).pathname;
const SCENARIOS = readdirSync(`${FIXTURES}proc`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

const scratch = mkdtempSync(join(tmpdir(), 'peerscope-record-'));
// A process of another user also writes here.
chmodSync(scratch, 0o777);
afterAll(() => rmSync(scratch, { recursive: true }));
let directories = 0;
const newDirectory = (): string => join(scratch, String(directories++));

/** A tree as one object: the bytes of each file, and "-> TARGET" for each link. Links are not followed. */
function tree(directory: string, below = ''): Record<string, string> {
  const contents: Record<string, string> = {};
  for (const entry of readdirSync(join(directory, below), { withFileTypes: true })) {
    const name = join(below, entry.name);
    const path = join(directory, name);
    if (entry.isSymbolicLink()) contents[name] = `-> ${readlinkSync(path)}`;
    else if (entry.isFile()) contents[name] = readFileSync(path, 'latin1');
    else Object.assign(contents, tree(directory, name));
  }
  return contents;
}

const named =
  (exe: string) =>
  (cmdline: readonly string[]): string =>
    nameProcess({ exe, comm: 'comm', cmdline, self: false }, []);

describe('record', () => {
  it.each(SCENARIOS)('copies the recorded tree %s unchanged', (scenario) => {
    const directory = newDirectory();
    record({ procfs: `${FIXTURES}proc/${scenario}`, directory });
    expect(tree(directory)).toEqual(tree(`${FIXTURES}proc/${scenario}`));
  });

  it.each(SCENARIOS)('writes no link in %s that leaves the tree, except exe', (scenario) => {
    const links = Object.entries(tree(`${FIXTURES}proc/${scenario}`)).filter(([, text]) => text.startsWith('-> '));
    const outside = links.filter(
      ([path, target]) =>
        !/^\d+\/exe$/.test(path) && !/^-> (?:socket:\[\d+\]|file|net:\[\d+\]|\.\.\/\d+\/net)$/.test(target),
    );
    expect(outside).toEqual([]);
  });

  it('writes the tables of a namespace once and counts them', () => {
    const directory = newDirectory();
    const recording = record({ procfs: `${FIXTURES}proc/containers`, directory });
    expect(recording).toEqual({ processes: 5, namespaces: 3, vanished: 0, denied: 0 });
    const carriers = Object.keys(tree(directory)).filter((path) => path.endsWith('/net/tcp'));
    expect(carriers).toHaveLength(3);
  });

  it('writes the selected processes and counts the missing ones', () => {
    const directory = newDirectory();
    const procfs = `${FIXTURES}proc/plain-host`;
    const [pid = 0] = readdirSync(procfs).map(Number);
    expect(record({ procfs, directory, pids: [pid, 999_999_999, pid] })).toEqual({
      processes: 1,
      namespaces: 1,
      vanished: 1,
      denied: 0,
    });
    expect(readdirSync(directory)).toEqual([String(pid)]);
  });

  it('records neither arguments nor file names of a running process', async ({ skip }) => {
    skip(process.platform !== 'linux', 'needs Linux');
    const directory = newDirectory();
    const script = 'process.stdout.write("up"); process.stdin.resume()';
    const child = spawn(process.execPath, ['-e', script, 'secret'], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      await once(child.stdout, 'data');
      const pid = child.pid ?? 0;
      expect(record({ procfs: '/proc', directory, pids: [pid] })).toEqual({
        processes: 1,
        namespaces: 1,
        vanished: 0,
        denied: 0,
      });
      const recorded = tree(directory);
      expect(recorded[`${pid}/cmdline`]).toBe(Buffer.from(`${process.execPath}\0-e\0…\0…\0`).toString('latin1'));
      expect(recorded[`${pid}/exe`]).toBe(`-> ${readlinkSync(`/proc/${pid}/exe`)}`);
      expect(recorded[`${pid}/ns/net`]).toBe(`-> ${readlinkSync(`/proc/${pid}/ns/net`)}`);
      expect(recorded[`${pid}/net/tcp`]).toMatch(/^ +sl /);
      const fds = readdirSync(`/proc/${pid}/fd`).map((fd) => `${pid}/fd/${fd}`);
      expect(
        Object.keys(recorded)
          .filter((path) => path.startsWith(`${pid}/fd/`))
          .sort(),
      ).toEqual(fds.sort());
      expect(Object.values(recorded).join('')).not.toContain('secret');
    } finally {
      child.stdin.end();
      await once(child, 'exit');
    }
  });

  it('counts a process with unreadable descriptors and writes the rest of it', ({ skip }) => {
    skip(process.platform !== 'linux', 'needs Linux');
    const root = process.geteuid?.() === 0;
    skip(!root && existsSync('/proc/1/exe'), 'needs a process of another user');
    const directory = newDirectory();
    if (root) process.seteuid?.('nobody');
    try {
      expect(record({ procfs: '/proc', directory, pids: [1] })).toEqual({
        processes: 1,
        namespaces: 1,
        vanished: 0,
        denied: 1,
      });
    } finally {
      if (root) process.seteuid?.('root');
    }
    const netns = readlinkSync(join(directory, '1/ns/net'));
    expect(netns).toMatch(/^net:\[\d+\]$/);
    const parts = ['cgroup', 'cmdline', 'comm', 'net', 'ns', 'stat', 'status'];
    expect(readdirSync(join(directory, '1')).sort()).toEqual(parts);
  });

  it('rejects a directory that is not empty', () => {
    const directory = scratch;
    writeFileSync(join(directory, 'note'), '');
    expect(() => record({ procfs: `${FIXTURES}proc/empty`, directory })).toThrow(
      new Error(`Cannot record into "${directory}": it is not empty`),
    );
  });

  it('rejects a directory that it cannot create', () => {
    const directory = join(scratch, 'note', 'child');
    expect(() => record({ procfs: `${FIXTURES}proc/empty`, directory })).toThrow(
      `Cannot record into "${directory}": not a directory`,
    );
  });
});

describe('redactArguments', () => {
  it.each([
    { name: 'a program', exe: '/usr/bin/psql', args: ['psql', '-h', 'db', 'secret'], kept: ['psql', '…', '…', '…'] },
    {
      name: 'a program that replaced its arguments with a title',
      exe: '/usr/lib/postgresql/15/bin/postgres',
      args: ['postgres: alice orders 192.0.2.7(51514) idle'],
      kept: ['postgres: …'],
    },
    {
      name: 'a script and its arguments',
      exe: '/usr/bin/python3.11',
      args: ['python3', '-X', 'dev', '/srv/app.py', '--token=secret'],
      kept: ['python3', '-X', '…', '/srv/app.py', '…'],
    },
    {
      name: 'code on the command line',
      exe: '/usr/bin/python3.11',
      args: ['python3', '-c', 'secret'],
      kept: ['python3', '-c', '…'],
    },
    {
      name: 'code in the option itself',
      exe: '/usr/bin/node',
      args: ['node', '--eval=secret'],
      kept: ['node', '-…'],
    },
    {
      name: 'a class among properties',
      exe: '/usr/lib/jvm/bin/java',
      args: ['java', '-Dpassword=secret', '-cp', '/srv/secret.jar', 'org.example.Main', 'secret'],
      kept: ['java', '-…', '-cp', '…', 'org.example.Main', '…'],
    },
    {
      name: 'a jar',
      exe: '/usr/bin/java',
      args: ['java', '-jar', '/srv/app.jar'],
      kept: ['java', '-…', '/srv/app.jar'],
    },
    { name: 'an applet', exe: '/bin/busybox', args: ['httpd', '-h', '/srv'], kept: ['httpd', '…', '…'] },
    { name: 'no arguments', exe: '/usr/bin/psql', args: [], kept: [] },
  ])('keeps the arguments that name $name', ({ exe, args, kept }) => {
    expect(redactArguments(args, named(exe))).toEqual(kept);
  });

  it('keeps the name of every process, and no arguments of a program that they do not name', () => {
    const exe = fc.constantFrom('/bin/python3', '/bin/java', '/bin/sh', '/bin/node', '/bin/busybox', '/bin/psql');
    const arg = fc.oneof(fc.constantFrom('-c', '-m', '-jar', '-cp', '--', 'a.py', '/srv/b.jar'), fc.string());
    fc.assert(
      fc.property(exe, fc.array(arg), (exe, args) => {
        const kept = redactArguments(args, named(exe));
        expect(named(exe)(kept)).toBe(named(exe)(args));
        if (exe === '/bin/psql') expect(kept.slice(1)).toEqual(args.slice(1).map(() => '…'));
      }),
    );
  });
});

describe('memory addresses', () => {
  it('are zeroed in stat, for any comm', () => {
    const fields = Array.from({ length: 50 }, (_, i) => String(i + 3)).join(' ');
    expect(clearStatAddresses(`7 (a) b) ${fields}\n`)).toBe(
      '7 (a) b) 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 0 0 0 0 0 31 32 33 34 0 36 37 38 39 40 41 42 43 44 0 0 0 0 0 0 0 52\n',
    );
  });

  it.each(['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'udplite6', 'raw', 'raw6'])(
    'are the only change in %s',
    (table) => {
      const before = readFileSync(`${FIXTURES}proc-net/${table}`, 'latin1');
      const columns = (text: string): string[][] =>
        text
          .trimEnd()
          .split('\n')
          .map((line) => line.trim().split(/ +/));
      const expected = columns(before).map((row, i) => (i === 0 ? row : row.with(11, '0000000000000000')));
      const after = clearPointers(before);
      expect(columns(after)).toEqual(expected);
      expect(after).toHaveLength(before.length);
    },
  );

  it.each(['sockstat', 'sockstat6', 'snmp', 'snmp6', 'netstat'])('are not in %s, which stays unchanged', (table) => {
    const text = readFileSync(`${FIXTURES}proc-net/${table}`, 'latin1');
    expect(clearPointers(text)).toBe(text);
  });
});
