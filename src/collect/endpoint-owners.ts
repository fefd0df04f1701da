import type { OwnerLabels, Process } from '../model.ts';
import type { ConnectionTable } from './connection-table.ts';
import type { ScannedNamespaces } from './namespace-tables.ts';
import { UDP } from './net-tcp-udp-raw.ts';

/** Remote endpoints that are remembered for each network namespace; the oldest goes first. */
const MAX_ENDPOINTS = 4_096;
/** In all: beyond it, the network namespace with most endpoints loses its oldest. */
const MAX_IN_ALL = 65_536;
/** Network namespaces for which they are remembered. */
const MAX_NAMESPACES = 1_024;

/** The owner of every connection to an endpoint that scans saw. */
export interface Caller {
  readonly labels: OwnerLabels;
  /** Null if several processes with these labels call it. */
  readonly process: Process | null;
}

/**
 * Which owner calls which remote TCP endpoint, by network namespace: so a connection known only by its end has an owner, if
 * all that scans saw of its endpoint have the same.
 */
export class EndpointOwners {
  readonly #connections: ConnectionTable;
  readonly #namespaces: Pick<ScannedNamespaces, 'namespace'>;
  #size = 0;
  /** By number of the namespace; the inode shows that a number was given to another one. */
  readonly #byNetns = new Map<number, { readonly inode: number; readonly callers: Map<string, Caller | null> }>();

  constructor(connections: ConnectionTable, namespaces: Pick<ScannedNamespaces, 'namespace'>) {
    this.#connections = connections;
    this.#namespaces = namespaces;
  }

  /** Takes in a connection and the process that holds it. */
  learn(i: number, process: Process): void {
    if (!this.#isCall(i)) return;
    const callers = this.#callersIn(this.#connections.netns[i] ?? 0);
    const key = this.#endpointOf(i);
    const known = callers.get(key);
    const { labels } = process;
    if (known === null || (known?.labels === labels && known.process === null)) return;
    callers.delete(key);
    if (known && known.labels !== labels) callers.set(key, null);
    else callers.set(key, { labels, process: !known || known.process === process ? process : null });
    if (known === undefined) this.#size++;
    if (callers.size > MAX_ENDPOINTS) this.#dropOldest(callers);
    if (this.#size > MAX_IN_ALL) this.#dropOldest(this.#largest());
  }

  /** The sole caller of the remote endpoint of a connection; null if there is none, or more than one. */
  callerOf(i: number): Caller | null {
    if (!this.#isCall(i)) return null;
    return this.#callersIn(this.#connections.netns[i] ?? 0).get(this.#endpointOf(i)) ?? null;
  }

  /** Replaces labels by others. */
  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    if (changed.size === 0) return;
    for (const { callers } of this.#byNetns.values())
      for (const [key, caller] of callers) {
        const labels = caller && changed.get(caller.labels);
        if (labels) callers.set(key, { ...caller, labels });
      }
  }

  #dropOldest(callers: Map<string, Caller | null>): void {
    if (callers.delete(callers.keys().next().value ?? '')) this.#size--;
  }

  #largest(): Map<string, Caller | null> {
    let largest = new Map<string, Caller | null>();
    for (const { callers } of this.#byNetns.values()) if (callers.size > largest.size) largest = callers;
    return largest;
  }

  #forget(netns: number): void {
    this.#size -= this.#byNetns.get(netns)?.callers.size ?? 0;
    this.#byNetns.delete(netns);
  }

  #isCall(i: number): boolean {
    const { table, serves, direction } = this.#connections;
    return (table[i] ?? 0) < UDP && serves[i] === 0 && direction[i] !== 'listen';
  }

  #endpointOf(i: number): string {
    const { table, remotePort } = this.#connections;
    return `${table[i]} ${this.#connections.remoteAddress(i).join(' ')} ${remotePort[i]}`;
  }

  #callersIn(netns: number): Map<string, Caller | null> {
    const inode = this.#namespaces.namespace(netns)?.inode ?? 0;
    let known = this.#byNetns.get(netns);
    if (known?.inode !== inode) {
      this.#forget(netns);
      this.#byNetns.set(netns, (known = { inode, callers: new Map() }));
      if (this.#byNetns.size > MAX_NAMESPACES) this.#forget(this.#byNetns.keys().next().value ?? 0);
    }
    return known.callers;
  }
}
