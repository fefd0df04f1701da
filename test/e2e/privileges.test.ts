import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { ScriptedProcesses, names } from '../support/sockets/scripted-processes.ts';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname;
/** Distinguishes the rows of the test from those of the host in any namespace. */
const ADDRESS = '10.66.0.1';
const USER = 1000;
const NOBODY = 65_534;

interface Reader {
  readonly uid: number;
  readonly capabilities: readonly string[];
  /** Whose sockets it sees the owners of. */
  readonly owners: readonly ('root' | 'user')[];
}

const READERS: readonly Reader[] = [
  { uid: NOBODY, capabilities: [], owners: [] },
  { uid: NOBODY, capabilities: ['sys_ptrace'], owners: ['root', 'user'] },
  { uid: NOBODY, capabilities: ['dac_read_search'], owners: [] },
  { uid: NOBODY, capabilities: ['dac_override'], owners: [] },
  { uid: NOBODY, capabilities: ['sys_ptrace', 'dac_read_search'], owners: ['root', 'user'] },
  { uid: NOBODY, capabilities: ['sys_admin'], owners: [] },
  { uid: 0, capabilities: [], owners: [] },
  { uid: 0, capabilities: ['sys_ptrace'], owners: ['root', 'user'] },
  { uid: USER, capabilities: [], owners: ['user'] },
];

describe('an exporter with limited privileges', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  const holders: ScriptedProcesses[] = [];
  let holder = 0;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: limited privileges: ${obstacle}\n`);
      return;
    }
    holder = await network.make(`ip address add ${ADDRESS}/32 dev lo`);
    const inside = [`--target=${holder}`, '--net'];
    const setpriv = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups'];
    for (const args of [inside, [...inside, ...setpriv]]) {
      const processes = await ScriptedProcesses.start('nsenter', ...args);
      holders.push(processes);
      const [port = 0] = (await processes.act({ do: 'listen', names: ['l'], address: ADDRESS })) as number[];
      await processes.act(
        { do: 'connect', names: names('c', 3), port, address: ADDRESS },
        { do: 'accept', names: names('s', 2), listener: 'l' },
        { do: 'udp', names: ['u'], address: ADDRESS },
        { do: 'fork', name: 'child' },
      );
    }
  });

  afterAll(async () => {
    for (const processes of holders) await processes[Symbol.asyncDispose]();
    await network[Symbol.asyncDispose]();
  });

  /** The rows of the namespace, as `peerscope list` shows them to a reader. */
  function list(program: string, ...before: readonly string[]): Row[] {
    return listOf('/proc', program, ...before);
  }

  function listOf(procfs: string, program: string, ...before: readonly string[]): Row[] {
    const args = [process.execPath, MAIN, 'list', '-o', 'json', '--asn.provider=none', `--path.procfs=${procfs}`];
    const output = execFileSync(program, [...before, ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return (JSON.parse(output) as Row[]).filter(({ local_address }) => local_address === ADDRESS);
  }

  it.for(READERS)('with uid $uid and $capabilities sees every row and the owners of $owners', (reader, { skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const { uid, capabilities, owners } = reader;
    const only = ['-all', ...capabilities.map((name) => `+${name}`)].join();
    const raised = uid === 0 ? [] : [`--ambient-caps=${only}`];
    const rights = [`--inh-caps=${only}`, ...raised, ...(uid === 0 ? [`--bounding-set=${only}`] : [])];
    const seen = list('setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...rights);

    const truth = list('env');
    expect(truth.map(({ unattributed_reason: reason }) => reason)).toEqual(truth.map(() => null));
    expect(truth.length).toBe(16);
    const expected = truth.map((row) => {
      const owned = owners.includes(row.uid === 0 ? 'root' : 'user');
      return owned ? row : withoutOwner(row);
    });
    expect(seen.map(comparable)).toEqual(expected.map(comparable));
  });

  const MOUNTS = ['hidepid=1', 'hidepid=2', 'hidepid=4', `hidepid=2,gid=${USER}`, 'hidepid=0'];

  it.for(MOUNTS)('with /proc mounted with %s cannot read the processes of other users', (options, { skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-hidepid '));
    chmodSync(folder, 0o755);
    const script = `mount -t proc -o ${options} proc "$0"; exec "$@"`;
    const mounted = ['--mount', '--propagation=private', 'sh', '-ec', script, folder];
    try {
      const user = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups'];
      const expected = list('env').map((row) => (row.uid === 0 ? withoutOwner(row) : row));
      expect(listOf(folder, 'unshare', ...mounted, ...user).map(comparable)).toEqual(expected.map(comparable));
      expect(listOf(folder, 'unshare', ...mounted, 'env').map(comparable)).toEqual(list('env').map(comparable));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('says that no process holds a socket of the kernel', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const link = ['link', 'add', 'vx0', 'up', 'type', 'vxlan', 'id', '7', 'dstport', '4789', 'local', ADDRESS];
    if (spawnSync('readlink', ['/proc/1/fd/0']).status !== 0) {
      process.stderr.write('SKIPPED: a socket of the kernel: root cannot read pid 1 here\n');
      skip('root cannot read pid 1 here');
    }
    const { status, stderr } = spawnSync('nsenter', [`--target=${holder}`, '--net', 'ip', ...link], {
      encoding: 'utf8',
    });
    if (status !== 0) process.stderr.write(`SKIPPED: a socket of the kernel: ${stderr}\n`);
    skip(status !== 0, stderr);
    const output = execFileSync(
      process.execPath,
      [MAIN, 'list', '-o', 'json', '--asn.provider=none', 'local-port=4789'],
      {
        encoding: 'utf8',
      },
    );
    const rows = (JSON.parse(output) as Row[]).filter(({ netns }) => netns === netnsOf(holder));
    expect(rows.length).toBeGreaterThan(0);
    expect(new Set(rows.map((row) => row.unattributed_reason))).toEqual(new Set(['no_descriptor']));
  });
});

/** The row without its owner, as a reader without the privilege sees it. A row without a descriptor never has an owner. */
function withoutOwner(row: Row): Row {
  const reason = row.inode === null ? 'no_descriptor' : 'permission';
  // A socket of a user is the user's, whoever holds it.
  const owner_evidence = row.uid === null || row.uid === 0 ? null : 'uid';
  return { ...row, pid: null, pids: [], process: null, owner_evidence, unattributed_reason: reason };
}

/** What does not depend on who looks: a namespace goes by another number where its link cannot be read. */
function comparable(row: Row): Partial<Row> {
  const { transport, family, local_port, remote_address, remote_port, state, direction, uid, inode } = row;
  const { pid, pids, process, owner_evidence, unattributed_reason } = row;
  const ends = { local_port, remote_address, remote_port };
  const owner = { pid, pids, process, owner_evidence, unattributed_reason };
  return { transport, family, ...ends, state, direction, uid, inode, ...owner };
}
