import { formatAddress, parseAddress } from '../common/address.ts';
import { UsageError } from '../common/errors.ts';
import { cleanLabel } from '../common/sanitize.ts';
import { bytesOf } from '../common/units.ts';
import type { Row } from '../model.ts';
import { isOfOwner, type HistoryRow } from './history.ts';
import type { ScanResult } from './live-scan.ts';
import { plural } from './terminal/format.ts';
import { connectionColumns, endpoint, operatorOf, ownerOf } from './terminal/row-columns.ts';
import { layTable, type Column, type Display } from './terminal/table.ts';
import { fit } from './terminal/width.ts';
import { footerLines, type View, type ViewLine } from './view.ts';

/** The most connections that the table shows. */
const MAX_CONNECTIONS = 20;

/** What is inspected. */
type Target =
  | { readonly kind: 'pid'; readonly pid: number }
  | { readonly kind: 'port'; readonly port: number }
  | { readonly kind: 'address'; readonly address: string };

/** An operator or a network that is connected, with its traffic. */
interface PeerSummary {
  readonly operator: string;
  readonly direction: string;
  readonly connections: number;
  readonly sent_bytes: number | null;
  readonly received_bytes: number | null;
  /** When the owner was first connected to it; null if no store has that. */
  readonly first_seen: string | null;
}

/** Everything about one target. */
interface Inspection {
  readonly target: string;
  readonly processes: readonly Row[];
  readonly listeners: readonly Row[];
  readonly peers: readonly PeerSummary[];
  readonly connections: readonly Row[];
}

/**
 * One process, address or port: its processes with their parents and unit, its listeners, its peers with their operators and first
 * times, and its connections. A number is a process, or else a port; ":443" is always a port. Throws UsageError for anything else.
 */
export function inspectView(text: string, history: readonly HistoryRow[]): View {
  const targets = parseTarget(text);
  const inspect = (result: ScanResult): Inspection => {
    const found = targets.map((target) => ({ target, rows: result.rows.filter((row) => isOf(target, row)) }));
    const { target, rows } = found.find((one) => one.rows.length > 0) ?? { target: found[0]?.target, rows: [] };
    return inspection(target ? nameOf(target) : text, rows.map(result.withDetails), history);
  };
  return {
    name: `of ${text}`,
    draw: (result, display) => {
      const found = inspect(result);
      return [...drawInspection(found, display), ...footerLines(result, [], display)];
    },
    objects: (result) => [inspect(result)],
  };
}

function parseTarget(text: string): Target[] {
  const [, colon, digits] = /^(:?)(\d{1,10})$/.exec(text) ?? [];
  const number = Number(digits);
  if (digits !== undefined && number > 0) {
    const port: Target[] = number <= 65_535 ? [{ kind: 'port', port: number }] : [];
    const all: Target[] = colon === ':' ? port : [{ kind: 'pid', pid: number }, ...port];
    if (all.length > 0) return all;
  }
  const address = parseAddress(text);
  if (address) return [{ kind: 'address', address: formatAddress(address) }];
  throw new UsageError(
    `Cannot inspect ${JSON.stringify(text)}: must be a process id, an IPv4 or IPv6 address, or a port such as :443`,
  );
}

function isOf(target: Target, row: Row): boolean {
  switch (target.kind) {
    case 'pid':
      return row.pid === target.pid || row.pids.includes(target.pid);
    case 'port':
      return row.local_port === target.port || row.remote_port === target.port;
    case 'address':
      return row.local_address === target.address || row.remote_address === target.address;
  }
}

function nameOf(target: Target): string {
  switch (target.kind) {
    case 'pid':
      return `process ${target.pid}`;
    case 'port':
      return `port ${target.port}`;
    case 'address':
      return `address ${target.address}`;
  }
}

function inspection(target: string, rows: readonly Row[], history: readonly HistoryRow[]): Inspection {
  const listeners = rows.filter(({ direction }) => direction === 'listen');
  const connections = rows.filter(({ direction }) => direction !== 'listen');
  const processes = new Map(rows.filter(({ pid }) => pid !== null).map((row) => [row.pid, row]));
  const groups = Map.groupBy(connections, (row) => `${row.direction ?? 'unknown'} ${operatorOf(row)}`);
  const peers = [...groups.values()].map((members): PeerSummary => {
    const [first] = members;
    return {
      operator: first ? operatorOf(first) : '',
      direction: first?.direction ?? 'unknown',
      connections: members.length,
      sent_bytes: sum(members.map((row) => row.sent_bytes)),
      received_bytes: sum(members.map((row) => row.received_bytes)),
      first_seen: firstSeen(members, history),
    };
  });
  peers.sort((a, b) => b.connections - a.connections || (a.operator < b.operator ? -1 : 1));
  return { target, processes: [...processes.values()], listeners, peers, connections };
}

function sum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
}

/** The earliest time of the owners of these connections. */
function firstSeen(rows: readonly Row[], history: readonly HistoryRow[]): string | null {
  const times = history.filter((entry) =>
    rows.some((row) => row.asn === entry.asn && row.direction === entry.direction && isOfOwner(entry, row)),
  );
  return times.map(({ first_seen: time }) => time).sort()[0] ?? null;
}

const PEER_COLUMNS: readonly Column<PeerSummary>[] = [
  { title: 'PEER', cell: (row) => row.operator || '-', minWidth: 18, tightWidth: 10 },
  { title: 'DIRECTION', cell: (row) => row.direction },
  { title: 'CONNECTIONS', cell: (row) => String(row.connections), right: true, dropOrder: 1 },
  { title: 'SENT', cell: (row) => unit(row.sent_bytes), right: true, dropOrder: 2 },
  { title: 'RECEIVED', cell: (row) => unit(row.received_bytes), right: true, dropOrder: 2 },
  { title: 'FIRST SEEN', cell: (row) => row.first_seen?.replace('T', ' ').replace(/\.\d+Z$/, '') ?? '-', dropOrder: 3 },
];

function unit(bytes: number | null): string {
  return bytes === null ? '-' : bytesOf(bytes);
}

function drawInspection(
  { target, processes, listeners, peers, connections }: Inspection,
  display: Display,
): ViewLine[] {
  const { paint, width } = display;
  const title = (text: string): string => paint(fit(text, width), 'title');
  const indented = { ...display, width: width - 2 };
  const table = <T>(columns: readonly Column<T>[], rows: readonly T[]): string[] => {
    const { title, lines } = layTable(columns, rows, indented);
    return [title, ...lines].map((line) => `  ${line}`);
  };
  const isEmpty = listeners.length + connections.length === 0;
  const more = connections.length - MAX_CONNECTIONS;
  const lines = [
    title(isEmpty ? `${target}: no sockets` : target),
    ...processes.flatMap((row) => [title(ownerOf(row)), ...factsOf(row).map((line) => fit(`  ${line}`, width))]),
    ...(listeners.length === 0 ? [] : [title(plural(listeners.length, 'listener'))]),
    ...listeners.map((row) => fit(`  ${row.transport ?? '-'} ${endpoint(row.local_address, row.local_port)}`, width)),
    ...(peers.length === 0 ? [] : [title(plural(peers.length, 'peer')), ...table(PEER_COLUMNS, peers)]),
    ...(connections.length === 0
      ? []
      : [
          title(plural(connections.length, 'connection')),
          ...table(connectionColumns(processes.length === 1), connections.slice(0, MAX_CONNECTIONS)),
        ]),
    ...(more > 0 ? [paint(`  and ${more} more`, 'faint')] : []),
  ];
  return lines.map((text) => ({ text, key: null }));
}

/** What is known of the process of a row. */
function factsOf(row: Row): string[] {
  const pod = [row.namespace, row.pod, row.container].filter((part) => part !== null).join('/');
  const facts: [name: string, value: string | null][] = [
    ['program', row.exe === null ? null : row.exe + (row.exe_deleted ? ' (deleted)' : '')],
    ['command', row.cmdline],
    ['user', row.user ?? (row.uid === null ? null : String(row.uid))],
    ['parents', row.parents?.join(' < ') || null],
    ['workload', row.workload],
    ['pod', pod || null],
    ['cgroup', row.cgroup],
    ['started', row.process_started_at?.replace(/\.\d+Z$/, 'Z') ?? null],
    ['memory', row.resident_memory_bytes === null ? null : bytesOf(row.resident_memory_bytes)],
  ];
  return facts.flatMap(([name, value]) => (value === null ? [] : [`${name.padEnd(9)} ${cleanLabel(value)}`]));
}
