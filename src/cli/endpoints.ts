import { needsDetails, parseFilters } from '../rows/filter.ts';
import { cleanLabel } from '../common/sanitize.ts';
import type { Row } from '../model.ts';
import { cellsOf, fit } from './terminal/width.ts';
import { plural } from './terminal/format.ts';
import { endpoint, hasRemote, operatorOf, ownerOf } from './terminal/row-columns.ts';
import type { ScannedConnection, ScanResult } from './live-scan.ts';
import { layTable, type Column, type Display } from './terminal/table.ts';
import { footerLines, type ViewLine, type View } from './view.ts';

type Kind = 'inbound' | 'outbound' | 'loopback';

const HEADINGS: readonly (readonly [kind: Kind, heading: string])[] = [
  ['inbound', 'Distant inbound'],
  ['outbound', 'Distant outbound'],
  ['loopback', 'Looping'],
];

/** Connections between the same two endpoints. The ephemeral port is ignored: remote for inbound, else local. */
interface EndpointSummary {
  readonly kind: Kind;
  readonly local: string;
  readonly remote: string;
  readonly connections: readonly ScannedConnection[];
  /** Its first connection, for the shared fields. */
  readonly row: Row;
}

interface Side {
  readonly address: string | null;
  readonly port: number | null;
}

/**
 * Connections grouped by endpoints: distant inbound, distant outbound, looping. A loopback pair counts once; the heading shows
 * the number of duplicates. Most connections first.
 */
export function endpointsView(filters: readonly string[]): View {
  const matches = parseFilters(filters);
  const filtersDetails = needsDetails(filters);
  const summarize = (result: ScanResult): { endpoints: readonly EndpointSummary[]; duplicates: number } =>
    groupByEnds(result.connections().filter(({ row }) => matches(filtersDetails ? result.withDetails(row) : row)));
  return {
    name: 'endpoints',
    draw: (result, display) => {
      const { endpoints, duplicates } = summarize(result);
      const own = drawLines(endpoints, display);
      const sections = HEADINGS.flatMap(([kind, heading]): ViewLine[] => {
        const lines = endpoints.flatMap((one, i) => (one.kind === kind ? (own[i] ?? []) : []));
        const total = endpoints
          .filter((one) => one.kind === kind)
          .reduce((sum, one) => sum + one.connections.length, 0);
        const suffix = kind === 'loopback' ? `, ${plural(duplicates, 'duplicate')}` : '';
        const title = `${heading}: ${plural(total, 'connection')}${suffix}`;
        return [{ text: display.paint(title, 'title'), key: null }, ...lines, { text: '', key: null }];
      });
      return [...sections, ...footerLines(result, [], display)];
    },
    objects: (result) => summarize(result).endpoints.map(objectOf),
  };
}

const ARROWS: Readonly<Record<Kind, string>> = { inbound: '<-', outbound: '->', loopback: '->' };

const END_COLUMNS: readonly Column<EndpointSummary>[] = [
  { title: '', cell: ({ row }) => row.transport ?? '-', dropOrder: 1 },
  { title: '', cell: ({ local }) => local },
  { title: '', cell: ({ kind }) => ARROWS[kind], tone: () => 'faint' },
  { title: '', cell: ({ remote }) => remote },
  { title: '', cell: ({ connections }) => String(connections.length), right: true, tone: () => 'title' },
];
const REMOTE_COLUMNS: readonly Column<EndpointSummary>[] = [
  { title: '', cell: ({ row }) => row.remote_name ?? '' },
  { title: '', cell: operator, tone: () => 'faint' },
];
const STATES: Column<EndpointSummary> = { title: '', cell: statesText, minWidth: 14 };
const OWNER: Column<EndpointSummary> = { title: '', cell: ({ connections }) => owners(connections) };

/** One line per entry. If that is too wide for the display, remote name and owner move to a second line. */
function drawLines(endpoints: readonly EndpointSummary[], display: Display): (readonly ViewLine[])[] {
  const indented = { ...display, width: display.width - 2 };
  const whole = layTable([...END_COLUMNS, ...REMOTE_COLUMNS, STATES, OWNER], endpoints, {
    ...display,
    width: Infinity,
  });
  if (whole.width <= indented.width)
    return endpoints.map((endpoint, i) => [
      { text: `  ${whole.lines[i] ?? ''}`, key: () => keyOf(endpoint), details: () => objectOf(endpoint) },
    ]);
  const { lines } = layTable([...END_COLUMNS, STATES], endpoints, indented);
  return endpoints.map((endpoint, i) => {
    const details = [...REMOTE_COLUMNS, OWNER]
      .map(({ cell }) => cleanLabel(cell(endpoint)))
      .filter((text) => text !== '');
    const secondLine = display.paint(fit(`      ${details.join('  ')}`, display.width), 'faint');
    return [
      { text: `  ${lines[i] ?? ''}`, key: () => keyOf(endpoint), details: () => objectOf(endpoint) },
      { text: secondLine, key: null },
    ];
  });
}

function statesText(one: EndpointSummary): string {
  return statesOf(one)
    .map(([state, count]) => `${count} x ${state}`)
    .join(', ');
}

/** The AS number and name, and the announced prefix if there is no remote name. */
function operator({ row }: EndpointSummary): string {
  return [operatorOf(row), row.remote_name === null ? (row.bgp_prefix ?? '') : '']
    .filter((part) => part !== '')
    .join(' ');
}

function statesOf({ connections }: EndpointSummary): [state: string, count: number][] {
  const states = new Map<string, number>();
  for (const { row } of connections) states.set(row.state ?? 'unknown', (states.get(row.state ?? 'unknown') ?? 0) + 1);
  return [...states].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
}

/** One process with its pid, or the names of several, prefixed by their pods. */
function owners(connections: readonly ScannedConnection[]): string {
  const pods = [...new Set(connections.map(({ row }) => row.pod).filter((pod) => pod !== null))];
  const each = [...new Set(connections.map(({ row }) => ownerOf(row)))].filter((owner) => owner !== '-');
  const names = [...new Set(connections.map(({ row }) => row.process).filter((name) => name !== null))];
  const processes = each.length === 1 ? each : names.sort();
  return [pods.join(' '), processes.join(' ') || '-'].filter((part) => part !== '').join(': ');
}

/** Groups connections by endpoints. Skips listening sockets and rows without a remote or a direction. */
function groupByEnds(connections: readonly ScannedConnection[]): { endpoints: EndpointSummary[]; duplicates: number } {
  const remote = connections.filter(({ row }) => kindOf(row) !== null && hasRemote(row));
  const present = new Set(remote.map(({ number }) => number));
  const counted = remote.filter(({ countedAs }) => countedAs === null || !present.has(countedAs));
  const groups = Map.groupBy(counted, (connection) => {
    const [local, remote] = sidesOf(connection);
    const { row } = connection;
    return JSON.stringify([row.netns, row.transport, row.direction, local, remote]);
  });
  const endpoints = [...groups.values()].flatMap((members): EndpointSummary[] => {
    const [first] = members;
    const kind = first && kindOf(first.row);
    if (!first || !kind) return [];
    const [local, remote] = sidesOf(first);
    return [{ kind, local: textOf(local), remote: textOf(remote), connections: members, row: first.row }];
  });
  endpoints.sort(
    (a, b) => b.connections.length - a.connections.length || compare(a.local, b.local) || compare(a.remote, b.remote),
  );
  return { endpoints, duplicates: remote.length - counted.length };
}

function kindOf({ direction }: Row): Kind | null {
  return direction === 'listen' ? null : direction;
}

/** Both sides as processes. Inbound: local service and remote address. Otherwise: local address and remote service. */
function sidesOf({ row, serves }: ScannedConnection): [local: Side, remote: Side] {
  const local = { address: row.local_address, port: row.local_port };
  const remote = { address: row.remote_address ?? row.remote_name, port: row.remote_port };
  if (row.direction === 'inbound') return [local, { ...remote, port: null }];
  return serves ? [{ ...remote, port: null }, local] : [{ ...local, port: null }, remote];
}

function textOf({ address, port }: Side): string {
  return endpoint(address, port);
}

function compare(a: string, b: string): number {
  return cellsOf(a) - cellsOf(b) || (a < b ? -1 : Number(a > b));
}

function keyOf({ kind, local, remote, row }: EndpointSummary): string {
  return JSON.stringify([kind, row.netns, row.transport, local, remote]);
}

function objectOf(one: EndpointSummary): object {
  const { row, kind, connections } = one;
  const [first] = connections;
  const [local, remote] = first ? sidesOf(first) : [];
  const holders = new Map(
    connections.map(({ row: { process, pid, pod } }) => [`${process} ${pid}`, { process, pid, pod }]),
  );
  return {
    direction: kind,
    transport: row.transport,
    netns: row.netns,
    local_address: local?.address ?? null,
    local_port: local?.port ?? null,
    remote_address: remote?.address ?? null,
    remote_port: remote?.port ?? null,
    connections: connections.length,
    states: Object.fromEntries(statesOf(one)),
    remote_name: row.remote_name,
    asn: row.asn,
    as_name: row.as_name,
    bgp_prefix: row.bgp_prefix,
    network: row.network,
    service: row.service,
    owners: [...holders.values()],
  };
}
