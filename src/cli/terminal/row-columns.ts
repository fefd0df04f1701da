import { cleanLabel, withoutControls } from '../../common/sanitize.ts';
import { bytesOf, secondsOf } from '../../common/units.ts';
import type { Row } from '../../model.ts';
import { fit } from './width.ts';
import { toneOf, type Tone } from './color.ts';
import type { Column } from './table.ts';
import { UsageError } from '../../common/errors.ts';
import { operatorName } from '../../common/operator-name.ts';

/** The keys of a row in JSON order; also the CSV header. */
export const ROW_KEYS = [
  'transport',
  'family',
  'local_address',
  'local_port',
  'remote_address',
  'remote_port',
  'state',
  'direction',
  'direction_evidence',
  'receive_queue',
  'send_queue',
  'uid',
  'inode',
  'netns',
  'pid',
  'pids',
  'process',
  'owner_evidence',
  'unattributed_reason',
  'process_state',
  'umask',
  'threads',
  'resident_memory_bytes',
  'namespace',
  'pod',
  'container',
  'container_id',
  'workload',
  'network',
  'asn',
  'asns',
  'as_name',
  'bgp_prefix',
  'registry',
  'registry_country',
  'remote_name',
  'service',
  'opened_at',
  'sent_bytes',
  'received_bytes',
  'retransmitted_bytes',
  'round_trip_seconds',
  'min_round_trip_seconds',
  'local_name',
  'user',
  'cgroup',
  'acknowledged_bytes',
  'retransmits',
  'congestion_control',
  'congestion_window',
  'timer',
  'timer_seconds',
  'timer_retransmits',
  'exe',
  'exe_deleted',
  'cmdline',
  'ppid',
  'parents',
  'process_started_at',
] as const satisfies readonly (keyof Row)[];

export type RowKey = (typeof ROW_KEYS)[number];

/** A column of a table, and the keys of the row that it shows. */
export interface RowColumn extends Column<Row> {
  readonly keys: readonly RowKey[];
}

/** The allowed field names, for "must be ...". */
export const KEYS_ALLOWED = `a heading of the table or one of ${ROW_KEYS.join(', ')}`;

/** Parses the name of a field, or a heading of a table such as "remote" or "recv-q"; undefined if it is unknown. */
export function parseField(text: string): RowColumn | undefined {
  const wanted = text.trim().toLowerCase();
  const key = ROW_KEYS.find((one) => one === wanted);
  if (key !== undefined) return fieldColumn(key);
  return [...ROW_COLUMNS, ...MORE_COLUMNS].find(({ title }) => title.toLowerCase() === wanted);
}

/** Parses a list of fields such as "local_address,state". Throws UsageError for an unknown field. */
export function parseFields(text: string): readonly RowColumn[] {
  return text.split(',').map((name) => {
    const field = parseField(name);
    if (field === undefined)
      throw new UsageError(
        `Cannot use --fields ${JSON.stringify(text)}: ${JSON.stringify(name)} must be ${KEYS_ALLOWED}`,
      );
    return { ...field, minWidth: Infinity, tightWidth: Infinity };
  });
}

/** The keys that are read on demand. */
const DETAILS: readonly RowKey[] = ['exe', 'exe_deleted', 'cmdline', 'ppid', 'parents', 'process_started_at', 'cgroup'];

/** Whether fields need the details of a process, which are read on demand. */
export function showsDetails(fields: readonly RowColumn[]): boolean {
  return keysOf(fields).some((key) => DETAILS.includes(key));
}

const state = (row: Row): Tone | null => toneOf(row.state);
const faint = (): Tone => 'faint';

const NETID: RowColumn = { title: 'NETID', keys: ['transport'], cell: (row) => row.transport ?? '-', dropOrder: 5 };
const ENDS: readonly RowColumn[] = [
  { title: 'LOCAL', keys: ['local_address', 'local_port'], cell: localEnd, tightWidth: 12, cut: cutEnd },
  { title: 'REMOTE', keys: ['remote_address', 'remote_port'], cell: remoteEnd, tightWidth: 18, cut: cutEnd },
];
const OWNER: RowColumn = {
  title: 'PROCESS',
  keys: ['process', 'pid'],
  cell: ownerOf,
  minWidth: 14,
  tightWidth: 11,
  cut: cutOwner,
  dropOrder: 1,
};

/** The columns of a table of rows. */
export const ROW_COLUMNS: readonly RowColumn[] = [
  NETID,
  {
    title: 'STATE',
    keys: ['state'],
    cell: (row) => row.state ?? '-',
    tone: state,
    tightWidth: 6,
    isTightLast: true,
    cut: cutState,
    dropOrder: 4,
  },
  {
    title: 'RECV-Q',
    keys: ['receive_queue'],
    cell: (row) => String(row.receive_queue ?? '-'),
    right: true,
    dropOrder: 9,
    isZeroEmpty: true,
  },
  {
    title: 'SEND-Q',
    keys: ['send_queue'],
    cell: (row) => String(row.send_queue ?? '-'),
    right: true,
    dropOrder: 8,
    isZeroEmpty: true,
  },
  ...ENDS,
  { title: 'SERVICE', keys: ['service'], cell: (row) => row.service ?? '', minWidth: 7, dropOrder: 7 },
  { title: 'DIRECTION', keys: ['direction'], cell: (row) => row.direction ?? '-', tightWidth: 9, dropOrder: 3 },
  OWNER,
  {
    title: 'WORKLOAD',
    keys: ['namespace', 'pod', 'workload'],
    cell: (row) => row.pod ?? row.workload ?? '-',
    minWidth: 8,
    dropOrder: 6,
  },
  {
    title: 'PEER',
    keys: ['as_name', 'asn', 'network', 'remote_name'],
    cell: peerOf,
    minWidth: 18,
    tightWidth: 10,
    cut: cutPeer,
    dropOrder: 2,
  },
];

/** Additional columns of a wide table. */
const MORE_COLUMNS: readonly RowColumn[] = [
  { title: 'SENT', keys: ['sent_bytes'], cell: (row) => unitOf(row.sent_bytes, bytesOf), right: true },
  { title: 'RECEIVED', keys: ['received_bytes'], cell: (row) => unitOf(row.received_bytes, bytesOf), right: true },
  {
    title: 'RETRANSMITTED',
    keys: ['retransmitted_bytes'],
    cell: (row) => unitOf(row.retransmitted_bytes, bytesOf),
    right: true,
  },
  {
    title: 'ROUND TRIP',
    keys: ['round_trip_seconds'],
    cell: (row) => unitOf(row.round_trip_seconds, secondsOf),
    right: true,
  },
  { title: 'PREFIX', keys: ['bgp_prefix'], cell: (row) => row.bgp_prefix ?? '-' },
  { title: 'REGISTRY', keys: ['registry'], cell: (row) => row.registry ?? '-' },
  { title: 'COUNTRY', keys: ['registry_country'], cell: (row) => row.registry_country ?? '-' },
  { title: 'PROCESS STATE', keys: ['process_state'], cell: (row) => row.process_state ?? '-' },
  { title: 'UMASK', keys: ['umask'], cell: (row) => row.umask ?? '-' },
  { title: 'THREADS', keys: ['threads'], cell: (row) => String(row.threads ?? '-'), right: true },
  {
    title: 'MEMORY',
    keys: ['resident_memory_bytes'],
    cell: (row) => unitOf(row.resident_memory_bytes, bytesOf),
    right: true,
  },
  { title: 'UID', keys: ['uid'], cell: (row) => String(row.uid ?? '-'), right: true },
  { title: 'NETNS', keys: ['netns'], cell: (row) => String(row.netns ?? '-'), right: true },
  { title: 'USER', keys: ['user'], cell: (row) => row.user ?? '-' },
  {
    title: 'STARTED',
    keys: ['process_started_at'],
    cell: (row) => row.process_started_at?.replace(/\.\d+Z$/, 'Z') ?? '-',
  },
  { title: 'PPID', keys: ['ppid'], cell: (row) => String(row.ppid ?? '-'), right: true },
  { title: 'PARENTS', keys: ['parents'], cell: (row) => row.parents?.join(' < ') || '-' },
  {
    title: 'EXE',
    keys: ['exe', 'exe_deleted'],
    cell: (row) => (row.exe === null ? '-' : row.exe + (row.exe_deleted ? ' (deleted)' : '')),
  },
  { title: 'CMDLINE', keys: ['cmdline'], cell: (row) => row.cmdline ?? '-' },
  { title: 'CGROUP', keys: ['cgroup'], cell: (row) => row.cgroup ?? '-' },
  {
    title: 'CONTAINER',
    keys: ['container', 'container_id'],
    cell: (row) => row.container ?? row.container_id?.slice(0, 12) ?? '-',
  },
];

function unitOf(value: number | null, format: (value: number) => string): string {
  return value === null ? '-' : format(value);
}

/** The columns of `list`: `fields` if set, otherwise the default columns, without SERVICE if `isNumeric`. */
export function columnsOf({
  isWide,
  isNumeric,
  fields,
}: {
  isWide: boolean;
  isNumeric: boolean;
  fields: readonly RowColumn[] | null;
}): readonly Column<Row>[] {
  if (fields) return fields;
  const columns = isWide
    ? [...ROW_COLUMNS, ...MORE_COLUMNS].map((column) => ({ ...column, minWidth: Infinity }))
    : ROW_COLUMNS;
  return columns.filter(({ title }) => !isNumeric || title !== 'SERVICE');
}

/** The columns of connections in a group. `isOneProcess` shows the pid only. */
export function connectionColumns(isOneProcess: boolean): readonly Column<Row>[] {
  const pid: Column<Row> = { title: 'PID', cell: (row) => String(row.pid ?? '-'), right: true };
  return [
    isOneProcess ? pid : { ...OWNER, dropOrder: 4 },
    { ...NETID, dropOrder: 5 },
    ...ENDS,
    { title: 'STATE', cell: (row) => row.state ?? '-', tone: state, tightWidth: 6, isTightLast: true, cut: cutState },
    { title: 'AS', cell: operatorOf, tone: faint, minWidth: 10, tightWidth: 10, cut: cutPeer, dropOrder: 2 },
  ];
}

function fieldColumn(key: RowKey): RowColumn {
  const isNumber = [
    ...['port', 'queue', 'uid', 'inode', 'netns', 'pid', 'threads', 'bytes', 'asn'],
    ...['seconds', 'retransmits', 'window'],
  ].some((word) => key.endsWith(word));
  return {
    title: key.toUpperCase(),
    keys: [key],
    cell: (row) => textOf(row[key]) || '-',
    ...(isNumber && { right: true }),
    ...(key === 'state' && { tone: state }),
  };
}

/** The selected fields of a row; null selects all. */
export function pick(row: Row, fields: readonly RowColumn[] | null): Partial<Row> {
  return fields ? Object.fromEntries(keysOf(fields).map((key) => [key, row[key]])) : row;
}

export function csvHeader(fields: readonly RowColumn[] | null = null): string {
  return csvRecord(keysOf(fields));
}

export function csvLine(row: Row, fields: readonly RowColumn[] | null = null): string {
  return csvRecord(keysOf(fields).map((key) => row[key]));
}

function keysOf(fields: readonly RowColumn[] | null): readonly RowKey[] {
  return fields ? [...new Set(fields.flatMap(({ keys }) => keys))] : ROW_KEYS;
}

type Value = string | number | boolean | readonly (string | number)[] | null;

/** A CSV line (RFC 4180 with line feeds). Lists are joined with spaces; control characters become U+FFFD. */
export function csvRecord(values: readonly Value[]): string {
  const field = (value: Value): string => {
    const clean = withoutControls(textOf(value));
    return /[",]/.test(clean) ? `"${clean.replaceAll('"', '""')}"` : clean;
  };
  return `${values.map(field).join(',')}\n`;
}

function textOf(value: Value): string {
  return Array.isArray(value) ? value.join(' ') : String(value ?? '');
}

/** The owner as "process/pid", or the part that is known. */
export function ownerOf({ process: name, pid }: Pick<Row, 'process' | 'pid'>): string {
  const process = name === null ? null : cleanLabel(name);
  if (process === null) return pid === null ? '-' : String(pid);
  return pid === null ? process : `${process}/${pid}`;
}

/** Truncates the name and keeps the pid. */
function cutOwner(owner: string, cells: number): string {
  const [pid = ''] = /\/\d+$/.exec(owner) ?? [];
  const room = cells - pid.length;
  return room < 2 ? fit(owner, cells) : fit(owner.slice(0, owner.length - pid.length), room) + pid;
}

/** The first letters, as ss has them. */
function cutState(name: string, cells: number): string {
  return fit(name === 'established' ? 'estab' : name === 'unconnected' ? 'unconn' : name, cells);
}

/** Leaves out the AS number, because the name says more. */
function cutPeer(peer: string, cells: number): string {
  return fit(peer.replace(/^AS\d+ /, ''), cells);
}

/** Truncates the address and keeps the port. */
function cutEnd(end: string, cells: number): string {
  const [tail = ''] = /\]?:\d+$/.exec(end) ?? [];
  const room = cells - tail.length;
  return room < 2 ? fit(end, cells) : fit(end.slice(0, end.length - tail.length), room) + tail;
}

function localEnd(row: Row): string {
  return endpoint(row.local_address, row.local_port);
}

function remoteEnd(row: Row): string {
  return hasRemote(row) ? endpoint(row.remote_address ?? row.remote_name, row.remote_port) : '*';
}

/** Whether a row has a remote. A row parsed from text may have a port without an address. */
export function hasRemote(row: Row): boolean {
  return row.remote_address !== null || row.remote_port !== null || row.remote_name !== null;
}

export function endpoint(addressText: string | null, port: number | null): string {
  const address = addressText ?? '?';
  if (port === null) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function peerOf(row: Row): string {
  const operator = operatorOf(row);
  const name = row.remote_address === null ? null : row.remote_name;
  if (name === null || name === '') return operator;
  return operator === '' ? name : `${name} ${operator}`;
}

/** The AS of the remote, or else its kind of network; "" without a remote. */
export function operatorOf({ network, asn, as_name: name }: Pick<Row, 'network' | 'asn' | 'as_name'>): string {
  if (network === null) return '';
  if (asn === null) return network;
  if (asn === 0) return 'not announced';
  // The configuration names other networks.
  const shown = network === 'public' ? operatorName(asn, name) : name;
  return `AS${asn}${shown === null ? '' : ` ${shown}`}`;
}
