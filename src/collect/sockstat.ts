import { TABLES, type Table } from './net-tcp-udp-raw.ts';

/** Number of sockets in a network namespace, as counted by the kernel. */
export interface SocketCounts {
  /** Sockets by table, without those in TIME_WAIT and SYN_RECV. A table that the kernel does not count is missing. */
  readonly inuse: Readonly<Partial<Record<Table, number>>>;
  /** TCP sockets of IPv4 and IPv6 in TIME_WAIT, or in FIN_WAIT2 without an owner. */
  readonly timeWait: number;
}

/**
 * Parses /proc/PID/net/sockstat and sockstat6; null if sockstat is missing or invalid.
 * A null `sockstat6` means that IPv6 is off and its tables are empty; pass "" if it could not be read.
 * Format: sockstat_seq_show() in the kernel's net/ipv4/proc.c, sockstat6_seq_show() in net/ipv6/proc.c.
 */
export function parseSockstat(sockstat: string | null, sockstat6: string | null): SocketCounts | null {
  const lines = new Map(
    `${sockstat ?? ''}\n${sockstat6 ?? ''}`.split('\n').map((line) => {
      const [name = '', ...counts] = line.split(' ');
      return [name, counts];
    }),
  );
  const count = (name: string, key: string): number | undefined => {
    const counts = lines.get(name) ?? [];
    const at = counts.indexOf(key);
    const text = at < 0 ? '' : (counts[at + 1] ?? '');
    return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  };

  const timeWait = count('TCP:', 'tw');
  if (timeWait === undefined) return null;
  const inuse: Partial<Record<Table, number>> = {};
  for (const table of TABLES) {
    const absent = sockstat6 === null && table.endsWith('6');
    const sockets = absent ? 0 : count(`${table.toUpperCase()}:`, 'inuse');
    if (sockets !== undefined) inuse[table] = sockets;
  }
  return { inuse, timeWait };
}

/** Says whether both are known and equal. */
export function equalCounts(one: SocketCounts | null, other: SocketCounts | null = null): boolean {
  if (!one || !other || one.timeWait !== other.timeWait) return false;
  return TABLES.every((table) => one.inuse[table] === other.inuse[table]);
}

/**
 * Says whether a table may have rows; without counters every table may.
 * A socket in SYN_RECV is not counted, but its listener is.
 */
export function mayHoldRows(counters: SocketCounts | null, table: Table): boolean {
  if (!counters) return true;
  const timeWait = table === 'tcp' || table === 'tcp6' ? counters.timeWait : 0;
  return counters.inuse[table] !== 0 || timeWait > 0;
}
