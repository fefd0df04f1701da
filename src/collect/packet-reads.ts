import { parseSnmp } from './snmp.ts';

/**
 * Milliseconds of a scan in which namespaces are read where packets came and went but no connection opened or closed. Each of these reads
 * walks the TCP hash of the whole host, which takes several milliseconds.
 */
const BUDGET_MS = 50;

const CONNECTIONS: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['Tcp', new Set(['ActiveOpens', 'PassiveOpens', 'AttemptFails', 'EstabResets', 'CurrEstab'])],
]);

/** Those counters of an snmp file that change with every TCP connection that opens, is established or ends, as text. */
export function connectionCounters(snmp: string): string {
  return [...(parseSnmp(snmp, CONNECTIONS).get('Tcp') ?? [])].join(' ');
}

/** The time that a scan has for namespaces in which only packets came and went. */
export class PacketReads {
  #leftMs = 0;

  begin(): void {
    this.#leftMs = BUDGET_MS;
  }

  get isOver(): boolean {
    return this.#leftMs <= 0;
  }

  use(ms: number): void {
    this.#leftMs -= ms;
  }
}
