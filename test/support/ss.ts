import { spawnSync } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import type { Row, State } from '../../src/model.ts';
import { count } from './page.ts';

/** The fields of a TCP or UDP socket that ss and peerscope both show. */
export type Seen = Pick<
  Row,
  | 'netns'
  | 'transport'
  | 'family'
  | 'state'
  | 'local_address'
  | 'local_port'
  | 'remote_address'
  | 'remote_port'
  | 'receive_queue'
  | 'send_queue'
  | 'uid'
  | 'inode'
>;

/** The states as ss writes them. */
export const SS_STATES: Readonly<Record<string, State>> = {
  LISTEN: 'listen',
  ESTAB: 'established',
  'SYN-SENT': 'syn_sent',
  'SYN-RECV': 'syn_received',
  'FIN-WAIT-1': 'fin_wait_1',
  'FIN-WAIT-2': 'fin_wait_2',
  'TIME-WAIT': 'time_wait',
  'CLOSE-WAIT': 'close_wait',
  'LAST-ACK': 'last_ack',
  CLOSING: 'closing',
  UNCONN: 'unconnected',
};

/** The rows that did not change between two runs of ss, and the rows that one or both of them had. */
export interface Looks<T> {
  readonly still: readonly Seen[];
  readonly seen: readonly Seen[];
  readonly between: T;
}

/**
 * Looks at the host by `look` between two looks by ss, again for half a minute as long as something changed meanwhile: then
 * `still` and `seen` are the same, and `between` must be so too. Where others never rest it says so, and gives the last try.
 */
export async function betweenLooks<T>(look: () => T | Promise<T>): Promise<Looks<T>> {
  const deadline = performance.now() + 30_000;
  let before = ss();
  for (;;) {
    const between = await look();
    const after = ss();
    const gone = without(before, after);
    const looks = { still: without(before, gone), seen: [...after, ...gone], between };
    const changed = looks.seen.length - looks.still.length;
    if (changed === 0) return looks;
    if (performance.now() > deadline) {
      process.stderr.write(`NOT EXACT: ${changed} of ${looks.seen.length} rows of this host changed at every look\n`);
      return looks;
    }
    before = after;
  }
}

/** The rows that the others lack; of equal ones as many as are too many. */
export function without(rows: readonly Seen[], others: readonly Seen[]): Seen[] {
  const left = new Map<string, number>();
  for (const row of others) left.set(keyOf(row), (left.get(keyOf(row)) ?? 0) + 1);
  return rows.filter((row) => {
    const count = left.get(keyOf(row)) ?? 0;
    left.set(keyOf(row), count - 1);
    return count <= 0;
  });
}

const keyOf = (row: Seen): string => JSON.stringify(row);

/** The keys with a count below the unchanged rows or above the seen rows, as "key: counted, not LEAST to MOST". */
export function miscounted(
  counts: Readonly<Record<string, number>>,
  { still, seen }: Looks<unknown>,
  by: (row: Seen) => string,
): string[] {
  const [least, most] = [count(still.map(by)), count(seen.map(by))];
  return [...new Set([...Object.keys(counts), ...Object.keys(most)])].flatMap((key) => {
    const [low, counted, high] = [least[key] ?? 0, counts[key] ?? 0, most[key] ?? 0];
    return counted < low || counted > high ? [`${key}: ${counted}, not ${low} to ${high}`] : [];
  });
}

/** The TCP and UDP rows of `list -o json` as ss would show them. */
export function asSs(rows: readonly Row[]): Seen[] {
  return rows.filter(({ transport }) => transport === 'tcp' || transport === 'udp').map(comparable);
}

/** Every row of `ss -tuna` in every network namespace that has a process. */
function ss(): Seen[] {
  return [...namespaces()].flatMap(([netns, pids]) => ssIn(netns, pids));
}

function namespaces(): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let link: string;
    try {
      link = readlinkSync(`/proc/${pid}/ns/net`);
    } catch {
      continue; // A process that is gone, or a zombie.
    }
    const netns = Number(link.slice('net:['.length, -1));
    found.set(netns, [...(found.get(netns) ?? []), pid]);
  }
  return found;
}

/** By the first of these processes that is still there. */
function ssIn(netns: number, pids: readonly string[]): Seen[] {
  for (const pid of pids) {
    const args = [`--target=${pid}`, '--net', 'ss', '-tunaeHO'];
    const { status, stdout } = spawnSync('nsenter', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (status === 0)
      return stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => parseLine(line, netns));
  }
  return [];
}

/** Reads one line of `ss -tunaeHO` (iproute2, misc/ss.c). */
function parseLine(line: string, netns: number): Seen {
  const [transport = '', state = '', received = '', sent = '', local = '', remote = ''] = line.split(/ +/);
  const [localAddress, localPort] = parseEnd(local);
  const [remoteAddress, remotePort] = parseEnd(remote);
  const hasRemote = remotePort !== null || !['0.0.0.0', '::'].includes(remoteAddress);
  return comparable({
    netns,
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
  });
}

/** "192.0.2.1:443", "[::ffff:192.0.2.1]:443", "[fe80::1]%eth0:443", "127.0.0.53%lo:53", "*:*": the device is not in the tables. */
function parseEnd(text: string): [address: string, port: number | null] {
  const colon = text.lastIndexOf(':');
  const address = text
    .slice(0, colon)
    .replace(/%[^\]]*/, '')
    .replace(/^\[(?:::ffff:(?=\d+\.))?(.*)\]$/, '$1')
    .replace(/^\*$/, '::');
  const port = text.slice(colon + 1);
  return [address, port === '*' ? null : Number(port)];
}

/** What both show: ss has a listener's backlog where the tables have 0, and no user without a descriptor. */
function comparable(row: Seen): Seen {
  const { netns, transport, family, state, local_address, local_port, remote_address, remote_port } = row;
  const { receive_queue, inode } = row;
  const ends = { local_address, local_port, remote_address, remote_port };
  const send_queue = state === 'listen' ? 0 : row.send_queue;
  const uid = inode === null ? null : row.uid;
  return { netns, transport, family, state, ...ends, receive_queue, send_queue, uid, inode };
}
