import { parseFilters } from '../rows/filter.ts';
import { cleanLabel } from '../common/sanitize.ts';
import type { Row } from '../model.ts';
import { cellsOf, fit } from './terminal/width.ts';
import { many } from './terminal/format.ts';
import { endpoint, hasRemote, operatorOf, ownerOf } from './terminal/row-columns.ts';
import type { Connection, Sight } from './live-scan.ts';
import { layTable, type Column, type Sheet } from './terminal/table.ts';
import { closing, type Line, type View } from './view.ts';

type Kind = 'inbound' | 'outbound' | 'loopback';

const HEADINGS: readonly (readonly [kind: Kind, heading: string])[] = [
  ['inbound', 'Distant inbound'],
  ['outbound', 'Distant outbound'],
  ['loopback', 'Looping'],
];

/** The connections between the same two ends: of an inbound one the remote port does not count, of the others the local one. */
interface Endpoint {
  readonly kind: Kind;
  readonly local: string;
  readonly remote: string;
  readonly connections: readonly Connection[];
  /** Its first connection, for what they have in common. */
  readonly row: Row;
}

interface Side {
  readonly address: string | null;
  readonly port: number | null;
}

/**
 * Who is connected with whom, by services: distant inbound, distant outbound, looping. A loopback pair counts once, and the rows left out
 * are named beside the heading. Most connections first.
 */
export function endpointsView(filters: readonly string[]): View {
  const wants = parseFilters(filters);
  const found = (sight: Sight): { endpoints: readonly Endpoint[]; duplicates: number } =>
    gather(sight.connections().filter(({ row }) => wants(row)));
  return {
    name: 'endpoints',
    draw: (sight, sheet) => {
      const { endpoints, duplicates } = found(sight);
      const own = drawLines(endpoints, sheet);
      const sections = HEADINGS.flatMap(([kind, heading]): Line[] => {
        const lines = endpoints.flatMap((one, i) => (one.kind === kind ? (own[i] ?? []) : []));
        const total = endpoints
          .filter((one) => one.kind === kind)
          .reduce((sum, one) => sum + one.connections.length, 0);
        const beside = kind === 'loopback' ? `, ${many(duplicates, 'duplicate')}` : '';
        const title = `${heading}: ${many(total, 'connection')}${beside}`;
        return [{ text: sheet.paint(title, 'title'), key: null }, ...lines, { text: '', key: null }];
      });
      return [...sections, ...closing(sight, [], sheet)];
    },
    objects: (sight) => found(sight).endpoints.map(objectOf),
  };
}

const ARROWS: Readonly<Record<Kind, string>> = { inbound: '<-', outbound: '->', loopback: '->' };

const ENDS: readonly Column<Endpoint>[] = [
  { title: '', cell: ({ row }) => row.transport ?? '-', spare: 1 },
  { title: '', cell: ({ local }) => local },
  { title: '', cell: ({ kind }) => ARROWS[kind], tone: () => 'faint' },
  { title: '', cell: ({ remote }) => remote },
  { title: '', cell: ({ connections }) => String(connections.length), right: true, tone: () => 'title' },
];
const WHOSE: readonly Column<Endpoint>[] = [
  { title: '', cell: ({ row }) => row.remote_name ?? '' },
  { title: '', cell: operator, tone: () => 'faint' },
];
const STATES: Column<Endpoint> = { title: '', cell: statesText, least: 14 };
const OWNER: Column<Endpoint> = { title: '', cell: ({ connections }) => owners(connections) };

/** A line for each; where that is too wide for the sheet, who is at both ends stands on a line below. */
function drawLines(endpoints: readonly Endpoint[], sheet: Sheet): (readonly Line[])[] {
  const indented = { ...sheet, width: sheet.width - 2 };
  const whole = layTable([...ENDS, ...WHOSE, STATES, OWNER], endpoints, { ...sheet, width: Infinity });
  if (whole.width <= indented.width)
    return endpoints.map((endpoint, i) => [{ text: `  ${whole.lines[i] ?? ''}`, key: () => keyOf(endpoint) }]);
  const { lines } = layTable([...ENDS, STATES], endpoints, indented);
  return endpoints.map((endpoint, i) => {
    const who = [...WHOSE, OWNER].map(({ cell }) => cleanLabel(cell(endpoint))).filter((text) => text !== '');
    const below = sheet.paint(fit(`      ${who.join('  ')}`, sheet.width), 'faint');
    return [
      { text: `  ${lines[i] ?? ''}`, key: () => keyOf(endpoint) },
      { text: below, key: null },
    ];
  });
}

function statesText(one: Endpoint): string {
  return statesOf(one)
    .map(([state, count]) => `${count} x ${state}`)
    .join(', ');
}

/** The AS and its name; beside a name of the remote that is all, else the announced prefix too. */
function operator({ row }: Endpoint): string {
  return [operatorOf(row), row.remote_name === null ? (row.bgp_prefix ?? '') : '']
    .filter((part) => part !== '')
    .join(' ');
}

function statesOf({ connections }: Endpoint): [state: string, count: number][] {
  const states = new Map<string, number>();
  for (const { row } of connections) states.set(row.state ?? 'unknown', (states.get(row.state ?? 'unknown') ?? 0) + 1);
  return [...states].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
}

/** The process with its pid where it is one, else their names; a pod stands before its processes. */
function owners(connections: readonly Connection[]): string {
  const pods = [...new Set(connections.map(({ row }) => row.pod).filter((pod) => pod !== null))];
  const each = [...new Set(connections.map(({ row }) => ownerOf(row)))].filter((owner) => owner !== '-');
  const names = [...new Set(connections.map(({ row }) => row.process).filter((name) => name !== null))];
  const shown = each.length === 1 ? each : names.sort();
  return [pods.join(' '), shown.join(' ') || '-'].filter((part) => part !== '').join(': ');
}

/** Gathers connections by their ends; what listens, or has no remote or no direction, is none. */
function gather(connections: readonly Connection[]): { endpoints: Endpoint[]; duplicates: number } {
  const remote = connections.filter(({ row }) => kindOf(row) !== null && hasRemote(row));
  const present = new Set(remote.map(({ number }) => number));
  const counted = remote.filter(({ countedAs }) => countedAs === null || !present.has(countedAs));
  const groups = Map.groupBy(counted, (connection) => {
    const [local, far] = sidesOf(connection);
    const { row } = connection;
    return JSON.stringify([row.netns, row.transport, row.direction, local, far]);
  });
  const endpoints = [...groups.values()].flatMap((members): Endpoint[] => {
    const [first] = members;
    const kind = first && kindOf(first.row);
    if (!first || !kind) return [];
    const [local, far] = sidesOf(first);
    return [{ kind, local: textOf(local), remote: textOf(far), connections: members, row: first.row }];
  });
  endpoints.sort(
    (a, b) => b.connections.length - a.connections.length || compare(a.local, b.local) || compare(a.remote, b.remote),
  );
  return { endpoints, duplicates: remote.length - counted.length };
}

function kindOf({ direction }: Row): Kind | null {
  return direction === 'listen' ? null : direction;
}

/** The two sides as they are shown: inbound the service and the remote address; else the local address and the service. */
function sidesOf({ row, serves }: Connection): [local: Side, far: Side] {
  const local = { address: row.local_address, port: row.local_port };
  const far = { address: row.remote_address ?? row.remote_name, port: row.remote_port };
  if (row.direction === 'inbound') return [local, { ...far, port: null }];
  return serves ? [{ ...far, port: null }, local] : [{ ...local, port: null }, far];
}

function textOf({ address, port }: Side): string {
  return endpoint(address, port);
}

function compare(a: string, b: string): number {
  return cellsOf(a) - cellsOf(b) || (a < b ? -1 : Number(a > b));
}

function keyOf({ kind, local, remote, row }: Endpoint): string {
  return JSON.stringify([kind, row.netns, row.transport, local, remote]);
}

function objectOf(one: Endpoint): object {
  const { row, kind, connections } = one;
  const [first] = connections;
  const [local, far] = first ? sidesOf(first) : [];
  const holders = new Map(
    connections.map(({ row: { process, pid, pod } }) => [`${process} ${pid}`, { process, pid, pod }]),
  );
  return {
    direction: kind,
    transport: row.transport,
    netns: row.netns,
    local_address: local?.address ?? null,
    local_port: local?.port ?? null,
    remote_address: far?.address ?? null,
    remote_port: far?.port ?? null,
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
