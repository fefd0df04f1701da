import { readdirSync, readlinkSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import type { Row } from '../../src/model.ts';
import { rowsOf } from '../../src/rows/row.ts';
import { Scrape } from '../../src/scrape.ts';
import { ScriptedProcesses, names, type Command } from '../support/sockets/scripted-processes.ts';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

/** More scans than any change may take, so that a late one shows its number. */
const PATIENCE = 30;

const by = (process: string, command: string, args: Record<string, unknown> = {}): Command => ({
  ...args,
  by: process,
  do: command,
});
const main = (command: string, args: Record<string, unknown> = {}): Command => by('main', command, args);

interface Change {
  readonly name: string;
  /** What is there when the long-lived scrape has got to know it. */
  readonly given: readonly Command[];
  /** `port` is that of the listener "l", `a` the pid of the process. */
  readonly change: (known: { readonly port: number; readonly a: number }) => readonly Command[];
  /** After so many scans at most every socket has the owners that a full walk finds. */
  readonly within: number;
}

/** Two processes beside "main", and 20 connections whose both ends main holds. */
const CONNECTED = (port: number): Command[] => [
  main('connect', { names: names('c', 20), port }),
  main('accept', { names: names('s', 20), listener: 'l' }),
];

const CHANGES: readonly Change[] = [
  { name: 'nothing', given: [], change: () => [], within: 1 },
  {
    name: 'a process closes ten connections and opens ten',
    given: [],
    change: ({ port }) => [
      main('close', { names: [...names('c', 10), ...names('s', 10)] }),
      main('connect', { names: names('C', 10), port }),
      main('accept', { names: names('S', 10), listener: 'l' }),
    ],
    within: 1,
  },
  {
    name: 'a process closes as many files as it opens connections',
    given: [main('files', { names: names('f', 20) })],
    change: ({ port }) => [
      main('close', { names: names('f', 20) }),
      main('connect', { names: names('C', 10), port }),
      main('accept', { names: names('S', 10), listener: 'l' }),
    ],
    within: 1,
  },
  {
    name: 'a process forks and closes five connections, which live on in the child',
    given: [],
    change: () => [main('fork', { name: 'child' }), main('close', { names: names('c', 5) })],
    within: 1,
  },
  {
    name: 'a process forks, closes five connections, and opens as many files',
    given: [],
    change: () => [
      main('fork', { name: 'child' }),
      main('close', { names: names('c', 5) }),
      main('files', { names: names('f', 4) }),
    ],
    within: 20,
  },
  {
    name: 'two processes exchange a connection each',
    given: [by('a', 'udp', { names: ['x'] }), by('b', 'udp', { names: ['y'] })],
    change: () => [
      by('a', 'send', { names: ['x'], to: 'b' }),
      by('b', 'send', { names: ['y'], to: 'a' }),
      by('a', 'close', { names: ['x'] }),
      by('b', 'close', { names: ['y'] }),
      by('a', 'take', { count: 1 }),
      by('b', 'take', { count: 1 }),
    ],
    within: 20,
  },
  {
    name: 'a listener is closed and another one is opened in its place',
    given: [by('a', 'listen', { names: ['x'], port: 4000 })],
    change: () => [by('a', 'close', { names: ['x'] }), by('a', 'listen', { names: ['x'], port: 4000 })],
    within: 1,
  },
  {
    name: 'a process passes a connection on and keeps it',
    given: [],
    change: () => [main('send', { names: ['c0'], to: 'a' }), by('a', 'take', { count: 1 })],
    within: 1,
  },
  {
    name: 'a process gives five connections away',
    given: [],
    change: () => [
      main('send', { names: names('c', 5), to: 'a' }),
      by('a', 'take', { count: 5 }),
      main('close', { names: names('c', 5) }),
    ],
    within: 1,
  },
  {
    name: 'a process gives five connections away to one that closes five files, and opens five files itself',
    given: [by('a', 'files', { names: names('f', 5) })],
    change: () => [
      main('send', { names: names('c', 5), to: 'a' }),
      by('a', 'close', { names: names('f', 5) }),
      by('a', 'take', { count: 5 }),
      main('close', { names: names('c', 5) }),
      main('files', { names: names('f', 5) }),
    ],
    within: 20,
  },
  {
    name: 'the owner ends, and another process that holds its sockets lives on',
    given: [
      by('a', 'udp', { names: ['x'] }),
      by('a', 'send', { names: ['x'], to: 'b' }),
      by('b', 'take', { count: 1 }),
    ],
    change: () => [main('end', { name: 'a' })],
    within: 1,
  },
  {
    name: 'three workers share a listener, and the one that opened it ends',
    given: [
      by('a', 'listen', { names: ['x'] }),
      by('a', 'send', { names: ['x'], to: 'b' }),
      by('b', 'take', { count: 1 }),
      by('a', 'send', { names: ['x'], to: 'main' }),
      main('take', { count: 1 }),
    ],
    change: () => [main('end', { name: 'a' })],
    within: 1,
  },
  {
    name: 'a connection is in flight between two processes',
    given: [],
    change: () => [main('send', { names: ['c0'], to: 'a' }), main('close', { names: ['c0'] })],
    within: 1,
  },
  {
    name: 'a connection in flight arrives',
    given: [main('send', { names: ['c0'], to: 'a' }), main('close', { names: ['c0'] })],
    change: () => [by('a', 'take', { count: 1 })],
    within: 1,
  },
  {
    name: 'a connection in flight arrives at a process that closes a file',
    given: [
      by('a', 'files', { names: ['f'] }),
      main('send', { names: ['c0'], to: 'a' }),
      main('close', { names: ['c0'] }),
    ],
    change: () => [by('a', 'close', { names: ['f'] }), by('a', 'take', { count: 1 })],
    within: 20,
  },
  {
    name: 'a process ends, its pid comes back with as many descriptors, and its socket arrives elsewhere',
    given: [by('a', 'udp', { names: ['x'] }), by('a', 'send', { names: ['x'], to: 'b' })],
    change: ({ a }) => [
      main('end', { name: 'a' }),
      by('b', 'fork', { name: 'c', pid: a }),
      by('b', 'take', { count: 1 }),
    ],
    within: 1,
  },
  {
    name: 'a process of another namespace accepts a connection that was waiting',
    given: [
      by('a', 'listen', { names: ['x'], port: 4000 }),
      by('a', 'move', { to: process.pid }),
      main('connect', { names: ['waiting'], port: 4000 }),
    ],
    change: () => [by('a', 'accept', { names: ['X'], listener: 'x' })],
    within: 1,
  },
  {
    name: 'a process opens two thousand Unix sockets and one UDP socket',
    given: [],
    change: () => [by('a', 'unix', { names: names('n', 2000) }), by('a', 'udp', { names: ['x'] })],
    within: 1,
  },
  {
    name: 'a TCP socket that is in no table changes hands, and then listens',
    given: [by('a', 'tcp', { names: ['x'] }), by('b', 'files', { names: ['f'] })],
    change: () => [
      by('a', 'send', { names: ['x'], to: 'b' }),
      by('a', 'close', { names: ['x'] }),
      by('a', 'files', { names: ['f'] }),
      by('b', 'close', { names: ['f'] }),
      by('b', 'take', { count: 1 }),
      by('b', 'start', { names: ['x'] }),
    ],
    within: 1,
  },
  {
    name: 'the first thread of a process ends while another lives',
    given: [by('a', 'udp', { names: names('x', 3) })],
    change: () => [by('a', 'leave')],
    within: 1,
  },
  {
    name: 'a process whose first thread has ended opens a socket',
    given: [by('a', 'udp', { names: ['x'] }), by('a', 'leave')],
    change: () => [by('a', 'udp', { names: ['y'] })],
    within: 1,
  },
  {
    name: 'a thread with descriptors of its own opens a socket',
    given: [by('a', 'thread', { name: 't' })],
    change: () => [by('a', 'udp', { in: 't', names: ['x'] })],
    within: 1,
  },
  {
    name: 'such a thread exchanges one socket for another',
    given: [by('a', 'thread', { name: 't' }), by('a', 'udp', { in: 't', names: ['x'] })],
    change: () => [by('a', 'close', { in: 't', names: ['x'] }), by('a', 'udp', { in: 't', names: ['y'] })],
    within: 1,
  },
  {
    name: 'a UDP socket is given a peer',
    given: [by('a', 'udp', { names: ['x'] })],
    change: () => [by('a', 'udp_connect', { names: ['x'], port: 53 })],
    within: 10,
  },
  {
    name: 'a UDP socket loses its peer and the port that came with it',
    given: [by('a', 'udp_socket', { names: ['x'] }), by('a', 'udp_connect', { names: ['x'], port: 53 })],
    change: () => [by('a', 'udp_disconnect', { names: ['x'] })],
    within: 10,
  },
];

/** The processes that hold each socket, by a look at every descriptor of every thread. */
function holders(): Map<number, number[]> {
  const found = new Map<number, Set<number>>();
  for (const pid of list('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const tid of list(`/proc/${pid}/task`)) {
      for (const fd of list(`/proc/${pid}/task/${tid}/fd`)) {
        const inode = Number(/^socket:\[(\d+)\]$/.exec(link(`/proc/${pid}/task/${tid}/fd/${fd}`))?.[1] ?? 0);
        found.set(inode, (found.get(inode) ?? new Set()).add(Number(pid)));
      }
    }
  }
  return new Map([...found].map(([inode, pids]) => [inode, [...pids].sort((a, b) => a - b)]));
}

/** What is in a directory of /proc; nothing where it is gone. */
function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** The holders and the owner of each socket that a descriptor may hold, in one scan. */
function picture(rows: readonly Row[]): Map<string, string> {
  const held = rows.filter(({ inode }) => inode !== null);
  return new Map(
    held.map((row) => [keyOf(row), row.pids.length === 0 ? 'nobody' : `${row.pid ?? 0} of ${row.pids.join()}`]),
  );
}

function keyOf(row: Row): string {
  const ends = `${row.local_address}:${row.local_port ?? ''} > ${row.remote_address ?? ''}:${row.remote_port ?? ''}`;
  return `${row.transport} ${row.family} ${row.state} ${ends} ${row.inode ?? ''}`;
}

/** What one has and the other has not. */
function differences(seen: ReadonlyMap<string, string>, truth: ReadonlyMap<string, string>): string[] {
  const keys = new Set([...seen.keys(), ...truth.keys()]);
  return [...keys]
    .filter((key) => seen.get(key) !== truth.get(key))
    .map((key) => `${key}: ${seen.get(key) ?? 'no row'}, in truth ${truth.get(key) ?? 'no row'}`);
}

function newScrape(): Scrape {
  const collectors = {
    processes: true,
    protocols: true,
    endpoints: false,
    asn: false,
    'first-seen': false,
    netlink: true,
  };
  return new Scrape(new Procfs('/proc'), { seriesLimit: 1000, rules: EMPTY_RULES, collectors }, SYSTEM_CLOCK, null);
}

function rowsIn(scrape: Scrape, netns: number): Row[] {
  scrape.scan(Infinity);
  return rowsOf(scrape).filter((row) => row.netns === netns);
}

/** The rows that a scrape sees which remembers nothing, with the holders that a look at every descriptor finds. */
function truthIn(netns: number): Map<string, string> {
  const rows = rowsIn(newScrape(), netns);
  const held = holders();
  const pidsOf = ({ inode }: Row): number[] => (inode === null ? [] : (held.get(inode) ?? []));
  return picture(rows.map((row) => ({ ...row, pids: pidsOf(row), pid: row.pid ?? pidsOf(row)[0] ?? null })));
}

describe('the owners after a change', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  const took: string[] = [];
  let holder = 0;
  let long: Scrape;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: owners: ${obstacle}\n`);
      return;
    }
    holder = await network.make();
    long = newScrape();
    long.scan(Infinity);
  });

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    process.stdout.write(`scans until every owner was right:\n${took.join('\n')}\n`);
  });

  const startProcesses = (): Promise<ScriptedProcesses> =>
    ScriptedProcesses.start('nsenter', `--target=${holder}`, '--net');

  /** Scans until the owners are those of a full walk, twice in succession. Gives the number of scans and what was wrong at the first. */
  function scansUntilRight(): { scans: number; first: string[]; last: string[] } {
    const netns = netnsOf(holder);
    const truth = truthIn(netns);
    const wrong = (): string[] => differences(picture(rowsIn(long, netns)), truth);
    const first = wrong();
    let last = first;
    for (let scans = 1; scans <= PATIENCE; scans++) {
      const next = wrong();
      if (last.length + next.length === 0) return { scans, first, last };
      last = next;
    }
    return { scans: Infinity, first, last };
  }

  it.for(CHANGES)('are correct after $within scans: $name', async ({ name, given, change, within }, { skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    await using processes = await startProcesses();
    const a = Number(await processes.act(main('fork', { name: 'a' })));
    await processes.act(main('fork', { name: 'b' }));
    const [port = 0] = (await processes.act(main('listen', { names: ['l'] }))) as number[];
    await processes.act(main('unix', { names: names('u', 3000) }), ...CONNECTED(port), ...given);
    for (let scan = 0; scan < 12; scan++) long.scan(Infinity);
    const before = picture(rowsIn(long, netnsOf(holder)));

    await processes.act(...change({ port, a }));
    const { scans, first, last } = scansUntilRight();

    took.push(`${String(scans).padStart(8)}  ${name}`);
    expect(last).toEqual([]);
    expect(scans).toBeLessThanOrEqual(within);
    const inodeOf = (key: string): string | undefined => / (\d+)(:|$)/.exec(key)?.[1];
    const known = new Set([...before.keys()].map(inodeOf));
    const isNew = (difference: string): boolean => !known.has(inodeOf(difference));
    expect(first.filter(isNew)).toEqual([]);
  });

  it('are correct immediately for each new socket of a process that takes several scans to read', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    await using processes = await startProcesses();
    await processes.act(main('unix', { names: names('u', 3000) }));
    const netns = netnsOf(holder);
    rowsIn(long, netns);
    const wrong: string[] = [];
    for (const name of names('x', 30)) {
      await processes.act(main('udp', { names: [name] }));
      const seen = rowsIn(long, netns);
      wrong.push(...differences(picture(seen), truthIn(netns)).map((difference) => `${name}: ${difference}`));
    }
    expect(wrong).toEqual([]);
  });

  it('are correct in a namespace whose only process continues without its first thread', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    await using processes = await ScriptedProcesses.start('unshare', '--net');
    const a = Number(await processes.act(main('fork', { name: 'a' })));
    await processes.act(
      by('a', 'udp', { names: names('x', 3), address: '0.0.0.0' }),
      main('move', { to: process.pid }),
      by('a', 'leave'),
    );
    const scrape = newScrape();
    scrape.scan(Infinity);
    const theirs = [...holders()].filter(([, pids]) => pids.join() === String(a)).map(([inode]) => inode);
    const rows = rowsOf(scrape).filter(({ inode }) => inode !== null && theirs.includes(inode));
    expect(rows.map(({ transport, pids }) => ({ transport, pids }))).toEqual(
      names('x', 3).map(() => ({ transport: 'udp', pids: [a] })),
    );
  });
});
