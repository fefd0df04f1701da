import { compareAddresses } from '../common/address.ts';
import type { Address, Direction, DirectionEvidence } from '../model.ts';
import { isWildcard, sameAddress, type ConnectionColumns } from './connection-columns.ts';
import type { EndsIndex } from './ends-hash.ts';
import { FIN_WAIT2, LISTEN, RAW, SYN_SENT, TIME_WAIT } from './net-tcp-udp-raw.ts';

/** Says whether an address belongs to a network namespace. */
export type IsOwn = (address: Address) => boolean;

/** Decides the direction of each connection, and which end of it is the service. */
export class Directions {
  readonly #columns: ConnectionColumns;
  readonly #ends: EndsIndex;
  readonly #listeners = new Map<number, number[]>();

  constructor(columns: ConnectionColumns, ends: EndsIndex) {
    this.#columns = columns;
    this.#ends = ends;
  }

  /** Takes in a connection that opened. Its direction is final after `decide`. */
  open(i: number): void {
    const columns = this.#columns;
    const listens = !columns.hasRemote(i) || columns.state[i] === LISTEN;
    columns.direction[i] = listens ? 'listen' : 'outbound';
    if (!listens) return;
    const key = listenerKey(columns.netns[i] ?? 0, columns.table[i] ?? 0, columns.localPort[i] ?? 0);
    const others = this.#listeners.get(key);
    if (others) others.push(i);
    else this.#listeners.set(key, [i]);
  }

  /** Takes out a connection that closed. */
  close(i: number): void {
    const columns = this.#columns;
    if (columns.evidence[i] === 'port') columns.guessed--;
    const mate = columns.pair[i] ?? -1;
    if (mate >= 0) {
      columns.pair[mate] = -1;
      columns.touch(mate);
    }
    if (columns.direction[i] !== 'listen') return;
    const key = listenerKey(columns.netns[i] ?? 0, columns.table[i] ?? 0, columns.localPort[i] ?? 0);
    const others = (this.#listeners.get(key) ?? []).filter((other) => other !== i);
    if (others.length > 0) this.#listeners.set(key, others);
    else this.#listeners.delete(key);
  }

  /**
   * Decides the direction of a connection that opened, by the first rule that holds:
   * 1. Its mirror, the same connection with the ends exchanged, is in the namespace: loopback. A mirror from an earlier scan keeps its
   *    direction.
   * 2. The remote is a loopback address, or an own address in a state that leaves no mirror: loopback. An own address alone proves
   *    nothing, because IPVS puts every service address on the host.
   * 3. A listener accepts on its local end: inbound.
   * 4. Only its local port is below 1024: inbound, as a guess.
   * 5. Otherwise outbound.
   */
  decide(i: number, isOwn: (netns: number) => IsOwn): void {
    const columns = this.#columns;
    if (columns.direction[i] === 'listen' || (columns.pair[i] ?? -1) >= 0) return;
    const mirror = this.#ends.mirrorOf(i);
    if (mirror >= 0) {
      const isNew = columns.openedIn[mirror] === columns.openedIn[i];
      this.#set(i, 'loopback', 'listener', isNew ? this.#localEndServes(i) : columns.serves[mirror] === 0);
      if (mirror === i) return;
      if (isNew) this.#set(mirror, 'loopback', 'listener', columns.serves[i] === 0);
      columns.pair[i] = mirror;
      columns.pair[mirror] = i;
      columns.touch(mirror);
      return;
    }
    const remote = columns.remoteAddress(i);
    const state = columns.state[i] ?? 0;
    const leavesNoMirror = state === SYN_SENT || state === TIME_WAIT || state === FIN_WAIT2;
    if (isLoopback(remote) || (leavesNoMirror && isOwn(columns.netns[i] ?? 0)(remote)))
      this.#set(i, 'loopback', 'listener', this.#localEndServes(i));
    else if (this.#isAccepted(i)) this.#set(i, 'inbound', 'listener', true);
    else if (this.#hasServicePort(i)) this.#set(i, 'inbound', 'port', true);
    else this.#set(i, 'outbound', 'listener', false);
  }

  /** The listener that accepts on the local end of a connection; -1 for none. */
  listenerOf(i: number): number {
    const { netns, table, local, localPort } = this.#columns;
    return this.#listenerAt(netns[i] ?? 0, table[i] ?? 0, local, i * 4, localPort[i] ?? 0);
  }

  /** The listener on an address and port: on the exact address, otherwise on the wildcard of the table; -1 for none. */
  #listenerAt(netns: number, table: number, address: ArrayLike<number>, at: number, port: number): number {
    const { local } = this.#columns;
    let wildcard = -1;
    for (const i of this.#listeners.get(listenerKey(netns, table, port)) ?? []) {
      if (sameAddress(local, i * 4, address, at)) return i;
      if (wildcard < 0 && isWildcard(local, i * 4)) wildcard = i;
    }
    return wildcard;
  }

  #set(i: number, direction: Direction, evidence: DirectionEvidence, serves: boolean): void {
    const columns = this.#columns;
    columns.guessed += Number(evidence === 'port') - Number(columns.evidence[i] === 'port');
    columns.evidence[i] = evidence;
    columns.direction[i] = direction;
    columns.serves[i] = serves ? 1 : 0;
    columns.touch(i);
  }

  /** Of a loopback connection: the end with a listener is the service, otherwise the end with the lower port, then address. */
  #localEndServes(i: number): boolean {
    const { local, localPort, remote, remotePort } = this.#columns;
    const listensHere = this.#isListenedOn(i, local, localPort[i] ?? 0);
    const listensThere = this.#isListenedOn(i, remote, remotePort[i] ?? 0);
    if (listensHere !== listensThere) return listensHere;
    const ports = (localPort[i] ?? 0) - (remotePort[i] ?? 0);
    return (ports || compareAddresses(this.#columns.localAddress(i), this.#columns.remoteAddress(i))) < 0;
  }

  /** The table of either address family may hold the listener: the two ends of a connection can be in different tables. */
  #isListenedOn(i: number, addresses: Uint32Array, port: number): boolean {
    const netns = this.#columns.netns[i] ?? 0;
    const table = (this.#columns.table[i] ?? 0) & ~1;
    return (
      this.#listenerAt(netns, table, addresses, i * 4, port) >= 0 ||
      this.#listenerAt(netns, table + 1, addresses, i * 4, port) >= 0
    );
  }

  /** A raw socket without a peer receives copies of all packets of its protocol: it accepts nothing. */
  #isAccepted(i: number): boolean {
    return (this.#columns.table[i] ?? 0) < RAW && this.listenerOf(i) >= 0;
  }

  #hasServicePort(i: number): boolean {
    const port = this.#columns.localPort[i] ?? 0;
    return port > 0 && port < 1024 && (this.#columns.remotePort[i] ?? 0) >= 1024;
  }
}

function listenerKey(netns: number, table: number, port: number): number {
  return (netns * 8 + table) * 65536 + port;
}

function isLoopback([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && ((c === 0xffff && d >>> 24 === 127) || (c === 0 && d === 1));
}
