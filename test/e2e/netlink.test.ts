import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';
import { expectedOf, receivedOf, type Ending } from '../support/endings.ts';
import type { Totals } from '../support/socket-words.ts';

const here = (path: string): string => new URL(`../support/${path}`, import.meta.url).pathname;
const PYTHON = '/usr/bin/python3';

const STATES: Readonly<Record<string, string>> = { SYN_RECV: '3', FIN_WAIT2: '5', TIME_WAIT: '6', LISTEN: 'a' };
const KINDS = [
  'tcp-listen=0.0.0.0:80',
  'tcp-listen=[::]:81',
  'tcp-listen-v6only=[::]:82',
  'tcp-pair=127.0.0.1:0',
  'tcp-pair=[::1]:0',
  'tcp-pair=[::]:0',
  'tcp-self=127.0.0.1:0',
  'tcp-queues=127.0.0.1:0',
  'tcp-queues=[::1]:0',
  'tcp-queues=[::]:0',
  'tcp-backlog=127.0.0.1:0',
  'tcp-backlog=[::]:0',
  'tcp-syn-sent=198.51.100.9:443',
  'tcp-syn-received=127.0.0.1:0',
  'tcp-syn-received=[::1]:0',
  'tcp-syn-received=[::]:0',
  'tcp-time-wait=127.0.0.1:0',
  'tcp-time-wait=[::1]:0',
  'tcp-time-wait=[::]:0',
  'tcp-fin-wait-1=127.0.0.1:0',
  'tcp-fin-wait-2=127.0.0.1:0',
  'tcp-fin-wait-2=[::]:0',
  'tcp-close-wait=[::1]:0',
  'tcp-close-wait=127.0.0.1:0',
  'tcp-last-ack=127.0.0.1:0',
  'tcp-closing=127.0.0.1:0',
];

const OF_A_USER = ['tcp-listen=0.0.0.0:83', 'tcp-pair=[::1]:0', 'tcp-backlog=[::]:0', 'tcp-time-wait=127.0.0.1:0'];

/** What socket-report.ts prints. */
interface Report {
  readonly isUp: boolean;
  readonly failure: string | null;
  readonly netns: number;
  readonly rows: Readonly<Record<'tcp' | 'tcp6', string[]>> | null;
  readonly text: Readonly<Record<'tcp' | 'tcp6', string[]>>;
  readonly totals: Readonly<Record<string, Totals>>;
  readonly malformed: number;
}

/** The totals that `ss -tinaeHO` prints, by cookie. */
function ssTotals(text: string): Record<string, Totals> {
  const number = (line: string, name: string): number => Number(new RegExp(` ${name}:([\\d.]+)`).exec(line)?.[1] ?? 0);
  const lines = text.split('\n').filter((line) => / sk:/.test(line) && !/^(LISTEN|TIME-WAIT|SYN-RECV)/.test(line));
  return Object.fromEntries(
    lines
      .filter((line) => / cwnd:/.test(line))
      .map((line) => {
        const received = number(line, 'bytes_received');
        const hasFin = /^(CLOSE-WAIT|LAST-ACK|CLOSING)/.test(line);
        const [, roundTrip = '0'] = / rtt:([\d.]+)\//.exec(line) ?? [];
        return [
          parseInt(/ sk:([0-9a-f]+)/.exec(line)?.[1] ?? '', 16),
          {
            state: expect.any(Number) as number,
            inode: number(line, 'ino'),
            sent: number(line, 'bytes_sent') - number(line, 'bytes_retrans'),
            received: hasFin && received > 0 ? received - 1 : received,
            retransmitted: number(line, 'bytes_retrans'),
            roundTripUs: Math.round(Number(roundTrip) * 1000),
            minRoundTripUs: Math.round(number(line, 'minrtt') * 1000),
          },
        ];
      }),
  );
}

describe('sockets through netlink', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  let host = 0;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: sockets through netlink: ${obstacle}\n`);
      return;
    }
    host = await network.make();
    await network.openSockets(host, { kinds: KINDS });
    await network.openSockets(host, { kinds: OF_A_USER, flags: ['--uid', '4242'] });
  });

  afterAll(() => network[Symbol.asyncDispose]());

  const report = (flags = ''): Report => {
    const command = `${PYTHON} ${here('sockets/with-netlink.py')} ${flags} ${process.execPath} ${here('socket-report.ts')}`;
    return JSON.parse(network.run(host, command)) as Report;
  };

  it('has the same rows as the text of procfs, in every state', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const { rows, text, netns, malformed } = report();
    expect(rows).not.toBeNull();
    // The only difference that the kernel makes: a dump has no user for SYN_RECV, the text that of the listener.
    const withoutUser = (row: string): string =>
      row.startsWith(STATES['SYN_RECV'] ?? '') ? row.replace(/uid\S+/, 'uid-') : row;
    for (const table of ['tcp', 'tcp6'] as const) {
      expect(rows?.[table]).toEqual(text[table].map(withoutUser).sort());
      const states = new Set(rows?.[table].map((row) => row[0]));
      for (const state of Object.values(STATES)) expect(states).toContain(state);
    }
    expect(malformed).toBe(0);
    expect(netns).toBe(netnsOf(host));
  });

  it('has the same totals as ss', ({ skip }) => {
    skip(obstacle !== null || spawnSync('ss', ['-V']).error !== undefined, obstacle ?? 'ss is not installed');
    for (let attempt = 1; ; attempt++) {
      const before = ssTotals(network.run(host, 'ss -tinaeHO'));
      const { totals } = report();
      if (attempt < 5 && JSON.stringify(ssTotals(network.run(host, 'ss -tinaeHO'))) !== JSON.stringify(before))
        continue;
      expect(Object.keys(before).length).toBeGreaterThan(20);
      expect(totals).toEqual(before);
      expect(Object.values(totals).some(({ received }) => received > 0)).toBe(true);
      break;
    }
  });

  it.each([
    ['--blocking', 'it is blocking; systemd needs NonBlocking=true in the service'],
    ['--protocol 0', 'it is a netlink socket of protocol 0, not 4 (inet-diag)'],
    ['--groups 1', 'it is in the groups 00000001, not in 00000005'],
    ['--foreign', 'it is not a netlink socket of this network namespace'],
  ])('refuses descriptors that were made with %s', (flags, reason) => {
    if (obstacle !== null) return;
    const name = flags.startsWith('--groups') ? '4 "ended"' : '3 "dump"';
    expect(report(flags)).toMatchObject({
      isUp: false,
      rows: null,
      failure: `Cannot use descriptor ${name}: ${reason}`,
    });
  });

  // The receive buffer holds about 143 events.
  it.each([20, 3_000])('has each of %d connections as an event or as a loss', (connections) => {
    if (obstacle !== null) return;
    const command = [PYTHON, here('sockets/with-netlink.py'), process.execPath, here('churn-report.ts'), connections];
    const report = JSON.parse(network.run(host, command.join(' '))) as Record<'events' | 'count' | 'overruns', number>;
    // Two ends of each, and the listener.
    expect(report.events + report.overruns).toBe(connections * 2 + 1);
    expect(report.count).toBe(report.events);
    if (connections === 20) expect(report.overruns).toBe(0);
  });

  it('counts payload to the byte, however a connection ends', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const { stdout } = spawnSync('unshare', ['--net', PYTHON, here('sockets/endings.py')], { encoding: 'utf8' });
    const endings = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Ending);
    expect(endings.length).toBe(48);
    for (const knowsPeer of [false, true])
      expect(endings.map((ending) => [ending.side, ending.name, receivedOf(ending, { knowsPeer })])).toEqual(
        endings.map((ending) => [ending.side, ending.name, expectedOf(ending, { knowsPeer })]),
      );
  });
});
