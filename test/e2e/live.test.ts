import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { record } from '../../src/cli/record.ts';
import type { Row } from '../../src/model.ts';
import { Exporter, samplesOf } from '../support/exporter.ts';
import { SS_STATES } from '../support/ss.ts';
import {
  netnsOf,
  TestNetwork,
  whyNoNamespaces,
  type OpenedSockets,
  type OpenedRow,
} from '../support/sockets/network.ts';

/** What ss and peerscope both say of a socket. */
type Seen = OpenedRow & Pick<Row, 'receive_queue' | 'send_queue' | 'uid'>;

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname;
const KINDS = [
  'tcp-listen-forked=0.0.0.0:80',
  'tcp-listen=[::]:81',
  'tcp-listen-v6only=[::]:82',
  'tcp-listen-reuseport=127.0.0.1:83',
  'tcp-pair=127.0.0.1:0',
  'tcp-pair=192.0.2.5:0',
  'tcp-pair=[::1]:0',
  'tcp-pair=[::]:0',
  'tcp-self=127.0.0.1:0',
  'tcp-queues=127.0.0.1:0',
  'tcp-queues=[::1]:0',
  'tcp-backlog=127.0.0.1:0',
  'tcp-backlog=[::]:0',
  'tcp-connect=1.1.1.1:443',
  'tcp-connect=[::ffff:8.8.8.8]:443',
  'tcp-connect=[2606:4700:4700::1111]:443',
  'tcp-syn-sent=198.51.100.9:443',
  'tcp-syn-received=127.0.0.1:0',
  'tcp-syn-received=[::1]:0',
  'tcp-time-wait=127.0.0.1:0',
  'tcp-fin-wait-1=127.0.0.1:0',
  'tcp-fin-wait-2=[::]:0',
  'tcp-close-wait=[::1]:0',
  'tcp-last-ack=127.0.0.1:0',
  'tcp-closing=127.0.0.1:0',
  'udp=0.0.0.0:53',
  'udp=[::]:54',
  'udp-connect=8.8.8.8:53',
  'udp-connect=[::ffff:8.8.8.8]:53',
  'udp-queue=127.0.0.1:55',
];
const UDPLITE = ['udplite=0.0.0.0:56', 'udplite-connect=127.0.0.1:56', 'udplite=[::]:57'];
const RAW = ['raw=0.0.0.0:89', 'raw=[::]:89', 'raw-connect=127.0.0.1:112'];

/** Reads one line of `ss -tuwnapeHO` (iproute2, misc/ss.c). */
function parseSsLine(line: string): Seen {
  const [transport = '', state = '', received = '', sent = '', local = '', remote = ''] = line.split(/ +/);
  const [localAddress, localPort] = parseEnd(local, transport);
  const [remoteAddress, remotePort] = parseEnd(remote, transport);
  const hasRemote = remotePort !== null || !['0.0.0.0', '::'].includes(remoteAddress);
  const pids = [...line.matchAll(/,pid=(\d+),fd=\d+\)/g)].map(([, pid]) => Number(pid));
  return comparable({
    transport: transport as Row['transport'],
    family: /^[[*]/.test(local) ? 6 : 4,
    state: SS_STATES[state] ?? 'unknown',
    local_address: localAddress,
    local_port: localPort,
    remote_address: hasRemote ? remoteAddress : null,
    remote_port: hasRemote ? remotePort : null,
    receive_queue: Number(received),
    send_queue: Number(sent),
    uid: Number(/ uid:(\d+)/.exec(line)?.[1] ?? 0),
    inode: Number(/ ino:(\d+)/.exec(line)?.[1]) || null,
    pids: [...new Set(pids)].sort((a, b) => a - b),
  });
}

function parseEnd(text: string, transport: string): [address: string, port: number | null] {
  const colon = text.lastIndexOf(':');
  const address = text
    .slice(0, colon)
    .replace(/^\[(?:::ffff:(?=\d+\.))?(.*)\]$/, '$1')
    .replace(/^\*$/, '::');
  const port = text.slice(colon + 1);
  return [address, port === '*' || transport === 'raw' ? null : Number(port)];
}

/** What both show: ss has a listener's backlog where the tables have 0, no user without a descriptor, and no inode of raw. */
function comparable(row: Seen): Seen {
  const { transport, family, state, local_address, local_port, remote_address, remote_port, receive_queue, pids } = row;
  const send_queue = state === 'listen' ? 0 : row.send_queue;
  const inode = transport === 'raw' ? null : row.inode;
  const uid = inode === null ? null : row.uid;
  const ends = { local_address, local_port, remote_address, remote_port };
  return { transport, family, state, ...ends, receive_queue, send_queue, uid, inode, pids };
}

/** In an order that does not depend on the source. */
function sorted<T>(rows: readonly T[]): T[] {
  return [...rows].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

describe('on a live host', () => {
  const obstacle = whyNoNamespaces();
  const scratch = mkdtempSync(join(tmpdir(), 'peerscope-live-'));
  const network = new TestNetwork();
  const sockets: OpenedSockets[] = [];
  let host = 0;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: live host: ${obstacle}\n`);
      return;
    }
    host = await network.make();
    const internet = await network.make('echo 0 >/proc/sys/net/ipv4/ip_forward');
    const publicAddresses = ['1.1.1.1/32', '8.8.8.8/32', '2606:4700:4700::1111/128'];
    network.join(host, ['192.0.2.5/24', '2001:db8::5/64'], internet, [
      '192.0.2.1/24',
      '2001:db8::1/64',
      ...publicAddresses,
    ]);
    network.run(host, 'ip route add default via 192.0.2.1; ip route add default via 2001:db8::1');
    await network.openSockets(internet, { kinds: ['tcp-listen=[::]:443'] });
    sockets.push(await network.openSockets(host, { kinds: [...KINDS, ...UDPLITE, ...RAW] }));
    const flags = ['--uid=1000', '--comm="},b:\\xff'];
    const kinds = ['tcp-listen=0.0.0.0:8080', 'tcp-connect=127.0.0.1:80', 'tcp-backlog=[::1]:0', 'udp=127.0.0.1:0'];
    sockets.push(await network.openSockets(host, { flags, kinds }));
    await network.openSockets(internet, {
      kinds: ['tcp-connect=192.0.2.5:81@1.1.1.1', 'tcp-connect=192.0.2.5:80@8.8.8.8'],
    });
  });

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    rmSync(scratch, { recursive: true });
  });

  /** The rows of the namespace that `peerscope list` shows. */
  function list(procfs: string): Row[] {
    const flags = ['--path.procfs', procfs, '--storage.path', join(scratch, 'state'), '--asn.provider', 'none'];
    const output = execFileSync(process.execPath, [MAIN, 'list', '-o', 'json', ...flags], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const netns = netnsOf(host);
    return (JSON.parse(output) as Row[]).filter((row) => row.netns === netns);
  }

  function ss(): Seen[] {
    const lines = network.run(host, 'ss -tuwnapeHO').split('\n');
    return sorted(lines.filter((line) => line !== '').map(parseSsLine));
  }

  it('shows what ss shows, row by row', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    // A retransmission or a timer may change a row between two looks: then look again.
    for (let attempt = 1; ; attempt++) {
      const before = ss();
      const rows = list('/proc').filter((row) => row.transport !== 'udplite');
      if (attempt < 10 && JSON.stringify(ss()) !== JSON.stringify(before)) continue;
      expect(sorted(rows.map(comparable))).toEqual(before);
      expect(new Set(before.map(({ state }) => state))).toEqual(new Set(Object.values(SS_STATES)));
      return;
    }
  });

  /** What commands in the namespace print, as `peerscope parse` reads it, and the rows of `list` in the same moment. */
  function readAndListed<T extends string>(commands: readonly T[]): { read: Record<T, Row[]>; listed: Row[] } {
    for (let attempt = 1; ; attempt++) {
      const before = ss();
      const texts = commands.map((command) => [command, network.run(host, command)] as const);
      const listed = list('/proc');
      if (attempt < 10 && JSON.stringify(ss()) !== JSON.stringify(before)) continue;
      const read = texts.map(([command, text]) => [command, parse(text)] as const);
      return { read: Object.fromEntries(read) as Record<T, Row[]>, listed };
    }
  }

  function parse(input: string): Row[] {
    const args = [MAIN, 'parse', '-', '-o', 'json', '--asn.provider=none'];
    const output = execFileSync(process.execPath, args, { input, encoding: 'utf8', maxBuffer: 1 << 28, stdio: 'pipe' });
    return JSON.parse(output) as Row[];
  }

  it('reads the same rows from the text of ss', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const commands = ['ss -tuwnape', 'ss -HOtuwnapemio', 'ss -tuwnapemoi', 'ss -tuwnap', 'ss -tuwna'] as const;
    const { read, listed } = readAndListed(commands);
    const known = listed.filter((row) => row.transport !== 'udplite');
    for (const command of commands) {
      const shown = (row: Row): Seen => ({
        ...comparable(row),
        ...(command.includes('e') ? {} : { uid: null, inode: null }),
        ...(command.includes('p') ? {} : { pids: [] }),
      });
      expect({ [command]: sorted(read[command].map(shown)) }).toEqual({ [command]: sorted(known.map(shown)) });
      const alone = read[command].filter((row) => row.pids.length === 1);
      const comms = alone.map((row) => readFileSync(`/proc/${row.pid ?? 0}/comm`, 'utf8').replace(/\n$/, ''));
      expect(alone.map((row) => row.process)).toEqual(comms);
    }
  });

  it('reads the same rows from the text of netstat', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    if (spawnSync('netstat', ['-V']).error) {
      process.stderr.write('SKIPPED: comparison with netstat: it is not installed\n');
      skip('netstat is not installed');
    }
    const commands = ['netstat -tuUwnapW', 'netstat -tuUwnapoW', 'netstat -tuUwnapeeW'] as const;
    const { read, listed } = readAndListed(commands);
    const holders = new Set(listed.flatMap((row) => row.pids));
    for (const command of commands) {
      const shown = (row: Row): Seen => ({
        ...comparable(row),
        pids: [],
        ...(command.includes('ee') && row.transport !== 'raw' ? {} : { uid: null, inode: null }),
      });
      expect({ [command]: sorted(read[command].map(shown)) }).toEqual({ [command]: sorted(listed.map(shown)) });
      expect(read[command].flatMap((row) => row.pids).filter((pid) => !holders.has(pid))).toEqual([]);
    }
  });

  it.each(['ss', 'netstat'])('lists the same rows with --source=%s, with the same directions', (source) => {
    if (obstacle !== null) return;
    if (spawnSync(source, ['-V']).error) {
      process.stderr.write(`SKIPPED: rows of ${source}: it is not installed\n`);
      return;
    }
    const args = ['--net', process.execPath, MAIN, 'list', '-o', 'json', '--asn.provider=none', `--source=${source}`];
    for (let attempt = 1; ; attempt++) {
      const before = ss();
      const output = execFileSync('nsenter', [`--target=${host}`, ...args], { encoding: 'utf8', stdio: 'pipe' });
      const listed = list('/proc').filter((row) => row.transport !== 'udplite' && row.transport !== 'raw');
      if (attempt < 10 && JSON.stringify(ss()) !== JSON.stringify(before)) continue;
      const known = (row: Row): object => {
        const pids = source === 'ss' ? row.pids : [];
        return { ...comparable(row), uid: null, inode: null, pids, direction: row.direction };
      };
      const rows = (JSON.parse(output) as Row[]).filter((row) => row.transport !== 'raw');
      expect(sorted(rows.map(known))).toEqual(sorted(listed.map(known)));
      return;
    }
  });

  it('serves the rows of ss, and reports what is missing', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const exporter = await Exporter.start(['--source=ss', '--asn.provider=none', `--storage.path=${scratch}/none`]);
    try {
      const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
      expect(started).toMatchObject({
        source: 'ss',
        lacks: expect.stringContaining('namespaces, containers') as string,
      });
      expect(started).not.toHaveProperty('procfs');
      const page = await exporter.metrics();
      const connections = [...samplesOf(page, 'peerscope_connections').keys()];
      expect(connections.filter((labels) => labels.endsWith('state=listen'))).not.toEqual([]);
      expect(samplesOf(page, 'peerscope_network_namespaces').get('status=read')).toBe(1);
      expect(page).not.toMatch(/^peerscope_processes\{/m);
    } finally {
      expect(await exporter.stop()).toBe(0);
    }
  });

  it('shows every socket that was opened, including UDP-Lite, which ss does not show', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const rows = list('/proc');
    for (const opened of sockets.flatMap(({ opened }) => opened))
      expect(rows).toContainEqual(expect.objectContaining(opened));
    const udplite = rows.filter((row) => row.transport === 'udplite');
    expect(udplite).toHaveLength(UDPLITE.length);
    // The listeners of the other ends are in the other namespace, or gone.
    const guesses = rows.filter((row) => row.direction_evidence === 'port');
    process.stderr.write(`live host: ${guesses.length} of ${rows.length} directions are guesses\n`);
    expect(guesses).toEqual([]);
  });

  it('shows the same rows from a recording', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const directory = join(scratch, 'recorded');
    const pids = sockets.flatMap(({ pids }) => pids);
    expect(record({ procfs: '/proc', directory, pids })).toEqual({
      processes: pids.length,
      namespaces: 1,
      vanished: 0,
      denied: 0,
    });
    // A recording has neither users, nor arguments, nor parents without sockets.
    const lost = { user: null, cmdline: null, parents: null, process_started_at: null };
    const recorded = (procfs: string): object[] => list(procfs).map((row) => ({ ...row, ...lost }));
    expect(recorded(directory)).toEqual(recorded('/proc'));
  });
});
