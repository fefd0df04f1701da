import { cleanLabel } from '../label.ts';
import type { Row } from '../model.ts';
import type { Column } from './table.ts';

/** The columns of a table of rows. */
export const ROW_COLUMNS: readonly Column<Row>[] = [
  { title: 'NETID', cell: (row) => row.transport ?? '-' },
  { title: 'STATE', cell: (row) => row.state ?? '-' },
  { title: 'RECV-Q', cell: (row) => String(row.receive_queue ?? '-'), right: true },
  { title: 'SEND-Q', cell: (row) => String(row.send_queue ?? '-'), right: true },
  { title: 'LOCAL', cell: (row) => endpoint(row.local_address, row.local_port) },
  {
    title: 'REMOTE',
    cell: (row) => (hasRemote(row) ? endpoint(row.remote_address ?? row.remote_name, row.remote_port) : '*'),
  },
  { title: 'DIRECTION', cell: (row) => row.direction ?? '-' },
  {
    title: 'PROCESS',
    cell: (row) => owner(row),
  },
  { title: 'WORKLOAD', cell: (row) => row.pod ?? row.workload ?? '-' },
  { title: 'PEER', cell: peer },
];

/** The keys of a row, in the order of its JSON: the header of CSV. */
const KEYS = [
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
] as const satisfies readonly (keyof Row)[];

export const CSV_HEADER = `${KEYS.join(',')}\n`;

/** A line of CSV (RFC 4180 with line feeds); several values stand in one field, a blank between them, and control characters read U+FFFD. */
export function csvLine(row: Row): string {
  const field = (value: Row[keyof Row]): string => {
    const text = Array.isArray(value) ? value.join(' ') : String(value ?? '');
    const clean = text.replace(/\p{Cc}/gu, '\ufffd');
    return /[",]/.test(clean) ? `"${clean.replaceAll('"', '""')}"` : clean;
  };
  return `${KEYS.map((key) => field(row[key])).join(',')}\n`;
}

function owner({ process: name, pid }: Row): string {
  const process = name === null ? null : cleanLabel(name);
  if (process === null) return pid === null ? '-' : String(pid);
  return pid === null ? process : `${process}/${pid}`;
}

/** One that was cut in the text of another tool has no address, and maybe a port. */
function hasRemote(row: Row): boolean {
  return row.remote_address !== null || row.remote_port !== null || row.remote_name !== null;
}

function endpoint(known: string | null, port: number | null): string {
  const address = known ?? '?';
  if (port === null) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function peer(row: Row): string {
  return [row.remote_address === null ? null : row.remote_name, operator(row)]
    .filter((part) => part !== null && part !== '')
    .join(' ');
}

function operator(row: Row): string {
  if (row.network === null) return '';
  if (row.asn === null) return row.network;
  return row.asn === 0 ? 'not announced' : `AS${row.asn}${row.as_name === null ? '' : ` ${row.as_name}`}`;
}
