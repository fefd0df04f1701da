import { needsDetails, parseFilters } from '../rows/filter.ts';
import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import type { Row } from '../model.ts';
import { cellsOf, fit, pad, wrap } from './terminal/width.ts';
import { plural } from './terminal/format.ts';
import { bytesOf } from '../common/units.ts';
import { Rates, sumOf, totalOf, type Traffic, type TrafficOf } from './rates.ts';
import { connectionColumns, hasRemote, operatorOf } from './terminal/row-columns.ts';
import type { ScannedConnection, ScanResult } from './live-scan.ts';
import { layTable, type Column, type Display } from './terminal/table.ts';
import { footerLines, type ViewLine, type View } from './view.ts';
import { UsageError } from '../common/errors.ts';

/** The fields that connections can be grouped by. */
export const TOP_KEYS = ['process', 'asn', 'workload', 'endpoint'] as const;
export type TopKey = (typeof TOP_KEYS)[number];

/** Options of `top`, as unparsed text. */
export interface TopChoice {
  readonly filters: readonly string[];
  readonly by: TopKey;
  /** Number of groups to show. */
  readonly limit: string;
  readonly numeric?: boolean;
  /** Whether the chart comes first, so that it is visible on a terminal of any height. */
  readonly isChartFirst: boolean;
}

/** Connections with the same key; `name` is null if the key is unknown. */
interface TopGroup {
  readonly name: string | null;
  readonly connections: number;
  readonly states: ReadonlyMap<string, number>;
  readonly rows: readonly Row[];
  readonly members: readonly ScannedConnection[];
  readonly holders: readonly Row[];
  /** Of its connections together; null if none is known. */
  readonly traffic: Traffic | null;
}

/** How much traffic there is: a second since the scan before, or in total at the first scan. */
interface Measure {
  readonly of: TrafficOf;
  readonly isRate: boolean;
}

/** Singular, plural, and the label of connections without the key. */
const WORDS: Readonly<Record<TopKey, readonly [one: string, many: string, none: string]>> = {
  process: ['process', 'processes', 'without a process'],
  asn: ['network', 'networks', 'without a network'],
  workload: ['workload', 'workloads', 'without a workload'],
  endpoint: ['endpoint', 'endpoints', 'without an endpoint'],
};
const PROCESS_STATES: Readonly<Record<string, string>> = {
  R: 'running',
  S: 'sleeping',
  D: 'in uninterruptible sleep',
  Z: 'zombie',
  T: 'stopped',
  t: 'traced',
  X: 'dead',
  I: 'idle',
  P: 'parked',
};
const CHART_WIDTH = 80;
/** The most connections that are shown of a group. */
const MAX_CONNECTIONS = 10;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/**
 * The groups with the most traffic, or with the most connections to a remote where no traffic is known; their connections; and a bar
 * chart of all groups. From the second scan on, traffic is that between two scans.
 */
export function topView(choice: TopChoice): View {
  const number = choice.numeric ? choice.filters.find((text) => /^\d+(?:\.\d+)?$/.test(text)) : undefined;
  if (number !== undefined)
    throw new UsageError(`Cannot use -n ${number}: use --limit ${number}, because -n shows no names`);
  const matches = parseFilters(choice.filters);
  const filtersDetails = needsDetails(choice.filters);
  const limit = parseLimit(choice.limit);
  const { by } = choice;
  const rates = new Rates();
  const measureOf = (result: ScanResult): Measure => {
    const rateOf = rates.of(result);
    return { of: rateOf ?? totalOf, isRate: rateOf !== null };
  };
  const groupsOf = (result: ScanResult, measure: Measure): TopGroup[] =>
    rank(
      result.connections().filter(({ row }) => matches(filtersDetails ? result.withDetails(row) : row)),
      by,
      measure.of,
    );
  return {
    name: WORDS[by][1],
    showsUnusual: true,
    draw: (result, display) => {
      const measure = measureOf(result);
      const groups = groupsOf(result, measure);
      const chart = drawChart(groups, { by, limit, measure }, display);
      const shown = groups.filter(({ name }) => name !== null).slice(0, limit);
      const { lines, omitted } = drawSections(shown, { by, measure, withDetails: result.withDetails }, display);
      const end = footerLines(result, omitted, display);
      const unusual = unusualLines(result, display);
      return [
        ...unusual,
        ...(choice.isChartFirst ? [...chart, BLANK, ...lines, ...end] : [...lines, ...chart, ...end]),
      ];
    },
    objects: (result) => {
      const measure = measureOf(result);
      const groups = groupsOf(result, measure);
      const named = groups.filter(({ name }) => name !== null).slice(0, limit);
      return [...named, ...groups.filter(({ name }) => name === null)].map((group) => objectOf(group, by, measure));
    },
  };
}

/** What the exporter reported as unusual, before all else. */
function unusualLines({ unusual }: ScanResult, { width, paint }: Display): ViewLine[] {
  const lines = (unusual?.() ?? []).flatMap((line) => wrap(withoutControls(line), width));
  return lines.length === 0 ? [] : [...lines.map((text) => ({ text: paint(text, 'opening'), key: null })), BLANK];
}

const BLANK: ViewLine = { text: '', key: null };

function parseLimit(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new UsageError(`Cannot use --limit ${JSON.stringify(text)}: must be a whole number of at least 1`);
}

/** Most traffic first, then most connections; the group without a name comes last. By endpoint, a loopback pair counts once. */
function rank(connections: readonly ScannedConnection[], by: TopKey, trafficOf: TrafficOf): TopGroup[] {
  const remote = connections.filter(({ row }) => row.direction !== 'listen' && hasRemote(row));
  const present = new Set(remote.map(({ number }) => number));
  const counted = remote.filter(({ countedAs }) => by !== 'endpoint' || countedAs === null || !present.has(countedAs));
  const groups = Map.groupBy(counted, (connection) => nameOf(connection, by));
  return [...groups]
    .map(([name, members]) => groupOf(name, sorted(members, trafficOf), trafficOf))
    .sort(
      (a, b) =>
        Number(a.name === null) - Number(b.name === null) ||
        amountOf(b.traffic) - amountOf(a.traffic) ||
        b.connections - a.connections ||
        (String(a.name) < String(b.name) ? -1 : 1),
    );
}

function nameOf({ row, endpoint }: ScannedConnection, by: TopKey): string | null {
  switch (by) {
    case 'process':
      return row.process;
    case 'asn':
      return operatorOf(row) || null;
    case 'workload':
      return row.workload === null ? null : row.namespace === null ? row.workload : `${row.namespace}/${row.workload}`;
    case 'endpoint':
      return endpoint();
  }
}

/** Most traffic first; otherwise in the order of the scan. */
function sorted(members: readonly ScannedConnection[], trafficOf: TrafficOf): readonly ScannedConnection[] {
  const amounts = new Map(members.map((member) => [member, amountOf(trafficOf(member))]));
  return members.toSorted((a, b) => (amounts.get(b) ?? 0) - (amounts.get(a) ?? 0));
}

function amountOf(traffic: Traffic | null): number {
  return traffic === null ? 0 : traffic.sent + traffic.received;
}

function groupOf(name: string | null, members: readonly ScannedConnection[], trafficOf: TrafficOf): TopGroup {
  const rows = members.map(({ row }) => row);
  const states = new Map<string, number>();
  for (const { state } of rows) states.set(state ?? 'unknown', (states.get(state ?? 'unknown') ?? 0) + 1);
  const byCount = [...states].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  const holders = new Map(rows.filter(({ pid }) => pid !== null).map((row) => [row.pid, row]));
  const traffic = sumOf(members.map(trafficOf));
  return {
    name,
    connections: rows.length,
    states: new Map(byCount),
    rows,
    members,
    holders: [...holders.values()],
    traffic,
  };
}

function drawSections(
  groups: readonly TopGroup[],
  { by, measure, withDetails }: { by: TopKey; measure: Measure; withDetails: ScanResult['withDetails'] },
  display: Display,
): { lines: ViewLine[]; omitted: string[] } {
  const { paint } = display;
  const indented = { ...display, width: display.width - 2 };
  const without = new Set<string>();
  const lines = groups.flatMap((group): ViewLine[] => {
    const plain = connectionColumns(by === 'process').map((column) => ofRows(column));
    // The states are in the line above, so that traffic has their room.
    const columns =
      group.traffic === null
        ? plain
        : [
            ...plain.map((column) =>
              column.title === 'STATE' ? { ...column, tightWidth: Infinity, dropOrder: 4 } : column,
            ),
            ...trafficColumns(measure),
          ];
    const { title, lines, omitted } = layTable(columns, group.members.slice(0, MAX_CONNECTIONS), indented);
    const more = group.members.length - MAX_CONNECTIONS;
    for (const column of omitted) without.add(column);
    const name = cleanLabel(group.name ?? '');
    const label = `${name}  ${plural(group.connections, 'connection')}: ${statesOf(group)}`;
    return [
      ...wrap(label, display.width).map((text, i) => ({
        text: paint(text, 'title'),
        key: i === 0 ? (): string => `${by} ${name}` : null,
        details: () => objectOf(group, by, measure),
      })),
      ...(group.traffic === null
        ? []
        : [{ text: fit(`  ${trafficText(group.traffic, measure)}`, display.width), key: null }]),
      { text: fit(`  ${describe(group)}`, display.width), key: null },
      { text: `  ${title}`, key: null },
      ...lines.map((text, i) => {
        const row = group.rows[i];
        const details = (): object => (row ? withDetails(row) : {});
        return { text: `  ${text}`, key: () => lineKey(by, name, row), details };
      }),
      ...(more > 0 ? [{ text: paint(`  and ${plural(more, 'more connection')}`, 'faint'), key: null }] : []),
      BLANK,
    ];
  });
  return { lines, omitted: [...without] };
}

/** A column of rows for connections. */
function ofRows({ cell, tone, ...column }: Column<Row>): Column<ScannedConnection> {
  return { ...column, cell: ({ row }) => cell(row), ...(tone && { tone: ({ row }: ScannedConnection) => tone(row) }) };
}

function trafficColumns({ of, isRate }: Measure): readonly Column<ScannedConnection>[] {
  const column = (title: string, key: keyof Traffic, dropOrder: number): Column<ScannedConnection> => ({
    title: isRate ? `${title}/S` : title,
    cell: (connection) => {
      const traffic = of(connection);
      return traffic === null ? '-' : bytesOf(traffic[key]);
    },
    right: true,
    dropOrder,
  });
  return [column('SENT', 'sent', 3), column('RECEIVED', 'received', 3)];
}

function trafficText({ sent, received }: Traffic, { isRate }: Measure): string {
  const per = isRate ? '/s' : '';
  return `${bytesOf(sent)}${per} sent, ${bytesOf(received)}${per} received`;
}

function statesOf({ states }: TopGroup): string {
  return [...states].map(([state, count]) => `${count} ${state}`).join(', ');
}

/** Summary of the processes of a group: number, states, threads, memory, umasks. */
function describe({ holders }: TopGroup): string {
  if (holders.length === 0) return 'no known process';
  const letters = new Set(holders.map((row) => row.process_state).filter((letter) => letter !== null));
  const states = [...letters].sort().map((letter) => PROCESS_STATES[letter] ?? letter);
  const threads = sum(holders.map((row) => row.threads));
  const memory = sum(holders.map((row) => row.resident_memory_bytes));
  const umasks = [...new Set(holders.map(({ umask }) => umask).filter((umask) => umask !== null))].sort();
  return [
    plural(holders.length, 'process', 'processes'),
    states.join(' and '),
    threads === null ? '' : plural(threads, 'thread'),
    memory === null ? '' : bytesOf(memory),
    umasks.length === 0 ? '' : `umask ${umasks.join(' ')}`,
  ]
    .filter((part) => part !== '')
    .join(', ');
}

/** The sum of the known values; null if none is known. */
function sum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
}

function lineKey(by: TopKey, name: string, row: Row | undefined): string {
  return JSON.stringify([
    by,
    name,
    row?.netns,
    row?.transport,
    row?.local_address,
    row?.local_port,
    row?.remote_address,
    row?.remote_port,
  ]);
}

/**
 * One bar per shown group, one for all others, and one for connections without the key. They add up to all connections, or to their
 * traffic where it is known.
 */
function drawChart(
  groups: readonly TopGroup[],
  { by, limit, measure }: { by: TopKey; limit: number; measure: Measure },
  display: Display,
): ViewLine[] {
  const { paint } = display;
  const named = groups.filter(({ name }) => name !== null);
  const rest = named.slice(limit);
  const traffic = sumOf(groups.map((group) => group.traffic));
  const valueOf = (group: TopGroup): number => (traffic ? amountOf(group.traffic) : group.connections);
  const bars = named
    .slice(0, limit)
    .map((group) => ({ label: cleanLabel(group.name ?? ''), value: valueOf(group), isOne: true }));
  if (rest.length > 0) {
    const value = rest.reduce((sum, group) => sum + valueOf(group), 0);
    bars.push({ label: plural(rest.length, 'other'), value, isOne: false });
  }
  for (const group of groups)
    if (group.name === null) bars.push({ label: WORDS[by][2], value: valueOf(group), isOne: false });
  const textOf = (value: number): string => (traffic ? bytesOf(value) + (measure.isRate ? '/s' : '') : String(value));
  const width = display.width === Infinity ? CHART_WIDTH : display.width;
  const [one, several] = WORDS[by];
  const total = groups.reduce((count, group) => count + group.connections, 0);
  const counts = `${plural(total, 'connection')} with a remote, ${plural(named.length, one, several)}`;
  const heading = traffic ? `${counts}, ${trafficText(traffic, measure)}` : counts;
  const labels = Math.min(
    bars.reduce((widest, { label }) => Math.max(widest, cellsOf(label)), 0),
    Math.max(8, Math.floor(width * (by === 'process' ? 0.35 : 0.5))),
  );
  const longest = bars.reduce((greatest, { value }) => Math.max(greatest, value), 1);
  const numbers = bars.reduce((widest, { value }) => Math.max(widest, textOf(value).length), 1);
  const room = Math.max(1, width - labels - numbers - 4);
  return [
    { text: paint(fit(heading, display.width), 'title'), key: null },
    ...bars.map(({ label, value, isOne }) => {
      const text = pad(fit(label, labels), labels);
      const drawn = value === 0 ? '' : paint(bar(value, longest, room), 'bar');
      const shown = isOne ? text : paint(text, 'faint');
      return { text: `${shown}  ${textOf(value).padStart(numbers)}  ${drawn}`.trimEnd(), key: null };
    }),
  ];
}

/** A bar of up to `cells` cells with a resolution of an eighth. The minimum is one eighth. */
function bar(count: number, longest: number, cells: number): string {
  const eighths = Math.max(1, Math.round((count / longest) * cells * 8));
  return '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '');
}

function objectOf(group: TopGroup, by: TopKey, { isRate }: Measure): object {
  const { name, connections, states, rows, holders, members } = group;
  const [first] = rows;
  const identity =
    by === 'asn'
      ? { asn: first?.asn ?? null, as_name: first?.as_name ?? null, network: first?.network ?? null }
      : by === 'workload'
        ? { workload: first?.workload ?? null, namespace: first?.namespace ?? null }
        : { [by]: name };
  const processes = holders.map(({ process, pid, process_state, threads, resident_memory_bytes, umask }) => ({
    process,
    pid,
    process_state,
    threads,
    resident_memory_bytes,
    umask,
  }));
  const total = sumOf(members.map(totalOf));
  const rate = isRate ? group.traffic : null;
  const traffic = {
    sent_bytes: total?.sent ?? null,
    received_bytes: total?.received ?? null,
    sent_bytes_per_second: rate?.sent ?? null,
    received_bytes_per_second: rate?.received ?? null,
  };
  return { ...identity, connections, ...traffic, states: Object.fromEntries(states), processes, rows };
}
