import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import type { Row } from '../../src/model.ts';
import { rowsOf } from '../../src/rows/row.ts';
import { Scrape } from '../../src/scrape.ts';
import { ScriptedProcesses, names, type Command } from '../support/sockets/scripted-processes.ts';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const ROUNDS = 12;
/** Connections and UDP sockets that come in one round and go in the next, in each namespace. */
const COME_AND_GO = 40;
/** Those that stay all the time. */
const STAY = 100;

/** One namespace: who opens and closes there, and where its listener listens. */
interface Place {
  readonly holder: number;
  readonly processes: ScriptedProcesses;
  readonly port: number;
}

const come = (port: number, round: number, count: number): Command[] => [
  { do: 'connect', names: names(`c${round}-`, count), port },
  { do: 'accept', by: 'server', names: names(`s${round}-`, count), listener: 'l' },
  { do: 'udp', names: names(`u${round}-`, count) },
];
const go = (round: number, count: number): Command[] => [
  { do: 'close', names: [...names(`c${round}-`, count), ...names(`u${round}-`, count)] },
  { do: 'close', by: 'server', names: names(`s${round}-`, count) },
];

/** "tcp ends inode state pids" of each socket that a process holds; the others change hands in the kernel alone. */
function bySocket(rows: readonly Row[]): Map<string, string> {
  return new Map(
    rows.flatMap((row) => {
      if (row.inode === null || (row.transport !== 'tcp' && row.transport !== 'udp')) return [];
      const local = `${row.local_address}:${row.local_port ?? ''}`;
      const remote = row.remote_address === null ? '*' : `${row.remote_address}:${row.remote_port ?? ''}`;
      return [[String(row.inode), `${row.transport} ${row.state} ${local} ${remote} of ${row.pids.join()}`]];
    }),
  );
}

const STATES: Readonly<Record<string, string>> = {
  LISTEN: 'listen',
  ESTAB: 'established',
  'CLOSE-WAIT': 'close_wait',
  UNCONN: 'unconnected',
};

/** The same of `ss -tunapeHO` (iproute2, misc/ss.c). */
function bySs(output: string): Map<string, string> {
  return new Map(
    output.split('\n').flatMap((line) => {
      const [transport = '', state = '', , , local = '', remote = ''] = line.split(/ +/);
      const inode = / ino:([1-9]\d*)/.exec(line)?.[1];
      if (inode === undefined) return [];
      const pids = new Set([...line.matchAll(/,pid=(\d+),fd=\d+\)/g)].map(([, pid]) => Number(pid)));
      const held = [...pids].sort((a, b) => a - b).join();
      const end = remote.endsWith(':*') ? '*' : remote;
      return [[inode, `${transport} ${STATES[state] ?? state} ${local} ${end} of ${held}`]];
    }),
  );
}

describe('while sockets come and go', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  const places: Place[] = [];

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: churn: ${obstacle}\n`);
      return;
    }
    for (let i = 0; i < 3; i++) {
      const holder = await network.make();
      const processes = await ScriptedProcesses.start('nsenter', `--target=${holder}`, '--net');
      await processes.act({ do: 'fork', name: 'server' });
      const [port = 0] = (await processes.act({ do: 'listen', by: 'server', names: ['l'] })) as number[];
      await processes.act(...come(port, 0, STAY));
      places.push({ holder, processes, port });
    }
  });

  afterAll(async () => {
    for (const { processes } of places) await processes[Symbol.asyncDispose]();
    await network[Symbol.asyncDispose]();
  });

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

  function rowsIn(scrape: Scrape, { holder }: Place): Row[] {
    const netns = netnsOf(holder);
    return rowsOf(scrape).filter((row) => row.netns === netns);
  }

  const ss = ({ holder }: Place): Map<string, string> => bySs(network.run(holder, 'ss -tunapeHO'));

  /** What is wrong of the sockets that two looks by ss, one before and one after, both saw alike. */
  function differences(
    seen: ReadonlyMap<string, string>,
    before: ReadonlyMap<string, string>,
    after: typeof before,
  ): string[] {
    const wrong: string[] = [];
    for (const [inode, socket] of before) {
      if (after.get(inode) === socket && seen.get(inode) !== socket)
        wrong.push(`${inode}: ${seen.get(inode) ?? 'no row'}, in truth ${socket}`);
    }
    for (const [inode, socket] of seen)
      if (!before.has(inode) && !after.has(inode)) wrong.push(`${inode}: ${socket}, in truth no row`);
    return wrong;
  }

  it('a long-running scrape shows the same as ss and as a new scrape, in each of several namespaces', async ({
    skip,
  }) => {
    skip(obstacle !== null, obstacle ?? '');
    const long = newScrape();
    const wrong: string[] = [];
    let compared = 0;
    for (let round = 1; round <= ROUNDS; round++) {
      for (const { processes, port } of places) {
        if (round > 1) await processes.act(...go(round - 1, COME_AND_GO));
        await processes.act(...come(port, round, COME_AND_GO));
      }
      const before = places.map(ss);
      // Sockets keep opening and closing while the tables are read.
      const [busy] = places;
      const churn = busy?.processes.act(
        ...come(busy.port, 1000 + round, COME_AND_GO),
        ...go(1000 + round, COME_AND_GO),
      );
      long.scan(Infinity);
      const fresh = newScrape();
      fresh.scan(Infinity);
      await churn;
      for (const [i, place] of places.entries()) {
        const after = ss(place);
        for (const [name, scrape] of [
          ['long', long],
          ['new', fresh],
        ] as const) {
          const seen = bySocket(rowsIn(scrape, place));
          // The sockets that came and went in between are in neither look: only the other namespaces have none.
          const all = i === 0 ? new Map([...seen].filter(([inode]) => before[i]?.has(inode))) : seen;
          wrong.push(
            ...differences(all, before[i] ?? new Map(), after).map((line) => `round ${round}, ${name}: ${line}`),
          );
        }
        compared += after.size;
      }
    }
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(ROUNDS * places.length * 3 * STAY);
  });
});
