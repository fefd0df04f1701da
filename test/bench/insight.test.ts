import { describe, expect, test } from 'vitest';
import { detectedAt, evaluate } from '../../bench/insight/alerts.ts';
import { replay, type ReportedPoints } from '../../bench/insight/replay.ts';
import { brokenBounds, poisson, score, wilson } from '../../bench/insight/score.ts';
import { makeWorld } from '../../bench/insight/world.ts';
import { attackKind, type WorldLine } from '../../bench/insight/world-line.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;

describe('intervals', () => {
  // Values of R: binom::binom.confint(methods = "wilson") and poisson.test.
  test.each([
    [0, 10, 0, 0.2775],
    [5, 10, 0.2366, 0.7634],
    [95, 100, 0.8882, 0.9785],
    [10, 10, 0.7225, 1],
  ])('of %d in %d', (hits, all, low, high) => {
    const [from, to] = wilson(hits, all);
    expect(from).toBeCloseTo(low, 3);
    expect(to).toBeCloseTo(high, 3);
  });

  test.each([
    [0, 0, 3.689],
    [1, 0.0253, 5.572],
    [10, 4.795, 18.39],
    [100, 81.36, 121.63],
  ])('of the mean of a count of %d', (count, low, high) => {
    const [from, to] = poisson(count);
    expect(Math.abs(from - low)).toBeLessThan(0.06);
    expect(Math.abs(to - high)).toBeLessThan(0.06);
  });
});

describe('alerts', () => {
  const report = (at: number, points: number, given: Partial<ReportedPoints> = {}): ReportedPoints => ({
    workload: 'shop/web',
    kind: 'operator',
    what: `AS${at}`,
    points,
    reason: '',
    at,
    attack: null,
    ...given,
  });

  test.each<[string, ReportedPoints[], string[]]>([
    ['one point is no alert', [report(60, 1)], []],
    ['two points are a warning at the next evaluation', [report(60, 2)], ['warning 75']],
    ['three are a warning and critical', [report(60, 3)], ['warning 75', 'critical 75']],
    ['the points of an hour add up', [report(60, 2), report(3000, 1)], ['warning 75', 'critical 3015']],
    ['the points of two hours do not', [report(60, 2), report(3660, 1)], ['warning 75']],
    [
      'one warning while more follows',
      [report(60, 2), report(3000, 2), report(6000, 2)],
      ['warning 75', 'critical 3015', 'critical 6015'],
    ],
    ['another alert after an hour', [report(60, 2), report(7300, 2)], ['warning 75', 'warning 7305']],
    ['another workload is another alert', [report(60, 1), report(60, 1, { workload: 'shop/api' })], []],
    [
      'points that grow are not counted twice',
      [report(60, 1, { what: 'AS1' }), report(120, 2, { what: 'AS1' })],
      ['warning 135'],
    ],
  ])('%s', (_, reports, expected) => {
    expect(evaluate(reports).map(({ severity, at }) => `${severity} ${at}`)).toEqual(expected);
  });

  test('an attack is found when the points of the hour reach the threshold with some of its own', () => {
    const reports = [report(60, 1), report(300, 1, { attack: 'miner-1' }), report(600, 1, { attack: 'miner-1' })];
    expect(detectedAt('miner-1', reports, 'warning')).toBe(315);
    expect(detectedAt('miner-1', reports, 'critical')).toBe(615);
    expect(detectedAt('miner-2', reports, 'warning')).toBeNull();
    expect(attackKind('reverse_shell-12')).toBe('reverse_shell');
  });
});

describe('a world', () => {
  const line = (at: number, given: Partial<WorldLine> = {}): WorldLine => ({
    at,
    until: at + 300,
    node: 'n1',
    namespace: 'shop',
    workload: 'web',
    pod: 'web-1',
    process: 'nginx',
    process_started_at: 0,
    container_started_at: 0,
    what: 'outbound',
    transport: 'tcp',
    network: 'public',
    asn: 64_500,
    port: 443,
    peer: null,
    held: true,
    bytes_sent: null,
    attack: null,
    ...given,
  });
  const life = Array.from({ length: 20 }, (_, half) => line(half * 12 * HOUR));
  const T = 10 * DAY;
  const attack = { asn: 64_501, attack: 'exfiltration-1' };
  const outage = (part: string, from: number, to: number): WorldLine[] => [
    line(from, { what: 'down', process: part, node: part === 'exporter' ? 'n1' : '' }),
    line(to, { what: 'up', process: part, node: part === 'exporter' ? 'n1' : '' }),
  ];

  test.each<[string, WorldLine[], number | null]>([
    ['is scraped each minute, and its reports are exported at the next scrape', [line(T + 30, attack)], T + 120],
    ['shows no held call between two scans', [line(T + 10, { ...attack, until: T + 20 })], null],
    ['shows the TIME_WAIT rows of a short call', [line(T + 10, { ...attack, until: T + 11, held: false })], T + 120],
    [
      'shows what opened while the exporter was down',
      [...outage('exporter', T, T + HOUR), line(T + 30, { ...attack, until: T + 2 * HOUR })],
      T + HOUR + 60,
    ],
    [
      'hides what came and went while the exporter was down',
      [...outage('exporter', T, T + HOUR), line(T + 30, attack)],
      null,
    ],
    [
      'shows what Prometheus missed',
      [...outage('prometheus', T, T + 5 * HOUR), line(T + 30, { ...attack, until: T + 6 * HOUR })],
      T + 5 * HOUR + 60,
    ],
    [
      'names an operator when the provider is back',
      [...outage('provider', T, T + 3 * HOUR), line(T + 30, attack)],
      T + 3 * HOUR + 60,
    ],
    ['reports while the store is down', [...outage('store', T, T + 3 * HOUR), line(T + 30, attack)], T + 120],
  ])('%s', async (_, lines, expected) => {
    const end = line(T + 8 * HOUR);
    const { reports } = await replay(
      [...life, ...lines, end].sort((a, b) => a.at - b.at),
      { events: false },
    );
    expect(reports.map(({ what, at }) => `${what} ${at}`)).toEqual(expected === null ? [] : [`AS64501 ${expected}`]);
  });

  test('with events shows calls of milliseconds', async () => {
    const lines = [...life, line(T + 10, { ...attack, until: T + 10 }), line(T + HOUR)];
    const { reports } = await replay(lines, { events: true });
    expect(reports.map(({ what, attack }) => [what, attack])).toEqual([['AS64501', 'exfiltration-1']]);
  });

  test('is the same for the same seed', () => {
    const options = { nodes: 3, days: 2, quietDays: 1, attacks: 16 };
    const world = [...makeWorld({ ...options, seed: 5 })];
    expect([...makeWorld({ ...options, seed: 5 })]).toEqual(world);
    expect([...makeWorld({ ...options, seed: 6 })]).not.toEqual(world);
    expect(world.map(({ at }) => at)).toEqual(world.map(({ at }) => at).sort((a, b) => a - b));
  });

  test('of 60 nodes and 16 days holds the bounds', async () => {
    const world = makeWorld({ seed: 900, nodes: 60, days: 16, quietDays: 8, attacks: 64 });
    expect(brokenBounds(score(await replay(world, { events: false }), 8))).toEqual([]);
  });
});
