import { parseAddress } from '../../src/common/address.ts';
import type { ConnectionTable } from '../../src/collect/connection-table.ts';
import { DEFAULT_EPHEMERAL_PORTS, type PortRange } from '../../src/collect/direction.ts';
import { parseSocketRows, SocketRows, stateOf, TABLES, type Table } from '../../src/collect/net-tcp-udp-raw.ts';
import type { OwnerLabels } from '../../src/model.ts';
import { formatAddress } from '../../src/common/address.ts';

/** A socket row in words; ends as "192.0.2.1:443" or "[::1]:443", no remote for a listener. */
export interface KernelRow {
  readonly table: Table;
  readonly state: number;
  readonly local: string;
  readonly remote?: string;
  readonly inode?: number;
  readonly uid?: number;
  readonly receiveQueue?: number;
  readonly sendQueue?: number;
  readonly netns?: number;
}

/** Prints a row as a little-endian kernel does. */
export function printRow(row: KernelRow): string {
  const end = (text: string): string => {
    const [, bracketed, bare, port = ''] = /^(?:\[(.+)\]|(.+)):(\d+)$/.exec(text) ?? [];
    const words = parseAddress(bracketed ?? bare ?? '') ?? [0, 0, 0, 0];
    const six = row.table.endsWith('6');
    return `${(six ? words : words.slice(3)).map((word) => hex(swap(word), 8)).join('')}:${hex(Number(port), 4)}`;
  };
  const unspecified = row.table.endsWith('6') ? '[::]:0' : '0.0.0.0:0';
  const timer = row.state === 6 ? '03' : '00';
  const queues = `${hex(row.sendQueue ?? 0, 8)}:${hex(row.receiveQueue ?? 0, 8)}`;
  const ends = `${end(row.local)} ${end(row.remote ?? unspecified)}`;
  return `   0: ${ends} ${hex(row.state, 2)} ${queues} ${timer}:00000000 00000000 ${String(row.uid ?? 0).padStart(5)}        0 ${row.inode ?? 0} 1 0\n`;
}

/** One scan of namespace 0 (or the one given, where a row has none) that sees these rows; local addresses as given, unknown by default. */
export function scan(
  table: ConnectionTable,
  rows: readonly KernelRow[],
  {
    now = 1_000,
    own = null,
    netns = 0,
    open = [],
    ephemeral = DEFAULT_EPHEMERAL_PORTS,
  }: {
    now?: number;
    own?: readonly string[] | null;
    netns?: number;
    open?: readonly number[];
    ephemeral?: PortRange;
  } = {},
): void {
  table.begin(now);
  for (const row of rows) {
    const number = TABLES.indexOf(row.table);
    const batch = new SocketRows(1);
    const bytes = Buffer.from(printRow(row));
    parseSocketRows(bytes, 0, bytes.length, number & 1 ? 6 : 4, true, batch);
    if (batch.count !== 1) throw new Error(`Cannot print row "${JSON.stringify(row)}": it does not parse`);
    table.merge(row.netns ?? netns, number, batch);
  }
  table.end(
    {
      ownOf: () => own && ((address) => own.includes(formatAddress(address))),
      ephemeralPortsOf: () => ephemeral,
    },
    (inode) => open.includes(inode),
  );
}

/** Gives a connection an owner with these labels and no process. */
export function setLabels(table: ConnectionTable, index: number, labels: OwnerLabels): void {
  table.setOwner(index, { process: null, holders: [], evidence: null, labels, reason: null });
}

/** The connections of a table in words, sorted: "tcp established 10.0.0.1:5000 > 10.0.0.2:443 outbound". */
export function describeTable(table: ConnectionTable): string[] {
  return [...table.indexes()]
    .map((i) => {
      const number = table.table[i] ?? 0;
      const local = `${formatAddress(table.localAddress(i))}:${table.localPort[i]}`;
      const remote = `${formatAddress(table.remoteAddress(i))}:${table.remotePort[i]}`;
      const ends = table.hasRemote(i) ? `${local} > ${remote}` : local;
      const left = table.isDuplicate(i) ? ' duplicate' : '';
      return `${TABLES[number]} ${stateOf(number, table.state[i] ?? 0)} ${ends} ${table.direction[i]}${left}`;
    })
    .sort();
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}

function swap(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
