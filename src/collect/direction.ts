import { compareAddresses } from '../common/address.ts';
import type { ServiceNames } from '../common/etc-services.ts';
import type { Address, Direction, DirectionEvidence } from '../model.ts';
import { isWildcard, type ConnectionColumns } from './connection-columns.ts';
import type { EndsIndex } from './ends-hash.ts';
import { ListenerIndex } from './listener-index.ts';
import { FIN_WAIT2, LISTEN, RAW, SYN_RECV, SYN_SENT, TIME_WAIT, transportOf, UDP } from './net-tcp-udp-raw.ts';

/** Says whether an address belongs to a network namespace. */
export type IsOwn = (address: Address) => boolean;

/** The first and the last port that the kernel gives to clients (ip_local_port_range). */
export type PortRange = readonly [first: number, last: number];

/** The range of a new network namespace (net/ipv4/af_inet.c). It is not inherited from another namespace. */
export const DEFAULT_EPHEMERAL_PORTS: PortRange = [32_768, 60_999];

/** What directions need to know of the network namespaces, by their numbers. */
export interface NamespaceFacts {
  /** The test for the addresses of a namespace; null if they are unknown. */
  readonly ownOf: (netns: number) => IsOwn | null;
  readonly ephemeralPortsOf: (netns: number) => PortRange;
}

/** Which end the ports show as the service: the local one above 0, the remote one below 0. A guess has the size 1. */
type ServiceEnd = -2 | -1 | 0 | 1 | 2;

const FTP_DATA = 20;
/** Ports that rresvport(3), bindresvport(3) and the NFS client of the kernel bind for a client that root started. */
const RESERVED: PortRange = [512, 1023];
/** Services are registered below the default ephemeral ports; a name of a port above is chance. */
const LAST_SERVICE = 32_767;

/** Decides the direction of each connection, and which end of it is the service. */
export class Directions {
  readonly #columns: ConnectionColumns;
  readonly #ends: EndsIndex;
  readonly #services: ServiceNames;
  readonly #listeners: ListenerIndex;

  constructor(columns: ConnectionColumns, ends: EndsIndex, services: ServiceNames) {
    this.#columns = columns;
    this.#ends = ends;
    this.#listeners = new ListenerIndex(columns, (...end) => ends.hashOfLocal(...end));
    this.#services = services;
  }

  /** Takes in a connection that opened. Its direction is final after `decide`. */
  open(i: number): void {
    const columns = this.#columns;
    const listens = !columns.hasRemote(i) || columns.state[i] === LISTEN;
    columns.direction[i] = listens ? 'listen' : 'outbound';
    if (!listens) return;
    this.#listeners.add(i);
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
    if (columns.direction[i] === 'listen') this.#listeners.delete(i);
  }

  /**
   * Decides the direction of a connection that opened, by the first rule that holds:
   * 1. Its mirror, the same connection with the ends exchanged, is in the namespace: loopback. A mirror from an earlier scan keeps its
   *    direction.
   * 2. The remote is a loopback address, or an own address in a state that leaves no mirror: loopback. An own address alone proves
   *    nothing, because IPVS puts every service address on the host.
   * 3. Its state is SYN_SENT, or it is a raw socket, which accepts nothing: outbound.
   * 4. A listener accepts on its local end, or its state is SYN_RECV: inbound.
   * 5. The ports show which end is the service, see `#serviceEnd`: inbound or outbound.
   * 6. The local address is not one of the namespace (a transparent proxy accepted it): inbound.
   * 7. Otherwise a guess, with the evidence "port". The absence of a listener proves nothing: it may have been closed after accept().
   * What the row itself shows has no other evidence: null.
   */
  decide(i: number, { ownOf, ephemeralPortsOf }: NamespaceFacts): void {
    const columns = this.#columns;
    if (columns.direction[i] === 'listen' || (columns.pair[i] ?? -1) >= 0) return;
    const netns = columns.netns[i] ?? 0;
    const ephemeral = ephemeralPortsOf(netns);
    const mirror = this.#ends.mirrorOf(i);
    if (mirror >= 0) {
      const isNew = columns.openedIn[mirror] === columns.openedIn[i];
      this.#set(i, 'loopback', 'listener', isNew ? this.#localEndServes(i, ephemeral) : columns.serves[mirror] === 0);
      if (mirror === i) return;
      if (isNew) this.#set(mirror, 'loopback', 'listener', columns.serves[i] === 0);
      columns.pair[i] = mirror;
      columns.pair[mirror] = i;
      columns.touch(mirror);
      return;
    }
    const remote = columns.remoteAddress(i);
    const state = columns.state[i] ?? 0;
    const leavesNoMirror = state === SYN_SENT || state === TIME_WAIT || state === FIN_WAIT2 || columns.ended[i] === 1;
    if (isLoopback(remote) || (leavesNoMirror && ownOf(netns)?.(remote)))
      this.#set(i, 'loopback', 'listener', this.#localEndServes(i, ephemeral));
    else if (state === SYN_SENT) this.#set(i, 'outbound', null, false);
    // A raw socket without a peer receives copies of all packets of its protocol. Its port is the number of the protocol.
    else if ((columns.table[i] ?? 0) >= RAW) this.#set(i, 'outbound', null, false);
    else if (this.listenerOf(i) >= 0) this.#set(i, 'inbound', 'listener', true);
    else if (state === SYN_RECV) this.#set(i, 'inbound', null, true);
    else {
      const end = this.#serviceEnd(i, ephemeral);
      const isCertain = Math.abs(end) > 1;
      const isForeign =
        !isCertain && !isWildcard(columns.local, i * 4) && ownOf(netns)?.(columns.localAddress(i)) === false;
      const serves = isForeign || end > 0;
      this.#set(i, serves ? 'inbound' : 'outbound', isCertain || isForeign ? null : 'port', serves);
    }
  }

  /**
   * Which end the ports show as the service:
   * 1. Port 20 of TCP is that of an FTP server that connects to its client.
   * 2. A reserved port without a service, against one from 1024 on, is that of a client that root started (NFS, GlusterFS, rsh). This
   *    is certain only if the other port has a service.
   * 3. Only one of them is ephemeral: the other.
   * 4. Only one of them has a service: that one; a guess if that is a reserved port of this host, which a client may have bound.
   * 5. A guess: a reserved port is not the service (as in 2), otherwise the lower port is. Of two ephemeral ports, none.
   * The other end of the same connection gets the opposite answer.
   */
  #serviceEnd(i: number, ephemeral: PortRange): ServiceEnd {
    const { localPort, remotePort } = this.#columns;
    const local = localPort[i] ?? 0;
    const remote = remotePort[i] ?? 0;
    if (local === remote) return 0;
    const table = this.#columns.table[i] ?? 0;
    if (table < UDP && local === FTP_DATA && remote > RESERVED[1]) return -2;
    if (table < UDP && remote === FTP_DATA && local > RESERVED[1]) return 2;
    const hasService = (port: number): boolean => this.#hasService(table, port);
    const localIsReserved = isIn(RESERVED, local) && remote > RESERVED[1];
    const remoteIsReserved = isIn(RESERVED, remote) && local > RESERVED[1];
    if (localIsReserved && !hasService(local)) return hasService(remote) ? -2 : -1;
    if (remoteIsReserved && !hasService(remote)) return hasService(local) ? 2 : 1;
    const localIsEphemeral = isIn(ephemeral, local);
    const remoteIsEphemeral = isIn(ephemeral, remote);
    if (localIsEphemeral !== remoteIsEphemeral) return localIsEphemeral ? -2 : 2;
    const localHasService = hasService(local);
    if (localHasService !== hasService(remote)) return localHasService ? (localIsReserved ? 1 : 2) : -2;
    if (localIsReserved) return -1;
    if (remoteIsReserved) return 1;
    if (localIsEphemeral || (local <= RESERVED[1] && remote <= RESERVED[1])) return 0;
    return local < remote ? 1 : -1;
  }

  #hasService(table: number, port: number): boolean {
    return port <= LAST_SERVICE && this.#services(transportOf(table), port) !== null;
  }

  /** The listener that accepts on the local end of a connection; -1 for none. */
  listenerOf(i: number): number {
    const { netns, table, local, localPort } = this.#columns;
    return this.listenerAt(netns[i] ?? 0, table[i] ?? 0, local, i * 4, localPort[i] ?? 0);
  }

  /** The listener on an address and port: on the exact address, otherwise on the wildcard of the table; -1 for none. */
  listenerAt(netns: number, table: number, address: ArrayLike<number>, at: number, port: number): number {
    return this.#listeners.at(netns, table, address, at, port);
  }

  #set(i: number, direction: Direction, evidence: DirectionEvidence | null, serves: boolean): void {
    const columns = this.#columns;
    columns.guessed += Number(evidence === 'port') - Number(columns.evidence[i] === 'port');
    columns.evidence[i] = evidence;
    columns.direction[i] = direction;
    columns.serves[i] = serves ? 1 : 0;
    columns.touch(i);
  }

  /** Of a loopback connection: the end with a listener is the service, otherwise the one that the ports show, then the lower address. */
  #localEndServes(i: number, ephemeral: PortRange): boolean {
    const { local, localPort, remote, remotePort } = this.#columns;
    const listensHere = this.#isListenedOn(i, local, localPort[i] ?? 0);
    const listensThere = this.#isListenedOn(i, remote, remotePort[i] ?? 0);
    if (listensHere !== listensThere) return listensHere;
    const end = this.#serviceEnd(i, ephemeral);
    if (end !== 0) return end > 0;
    const ports = (localPort[i] ?? 0) - (remotePort[i] ?? 0);
    return (ports || compareAddresses(this.#columns.localAddress(i), this.#columns.remoteAddress(i))) < 0;
  }

  /** The table of either address family may hold the listener: the two ends of a connection can be in different tables. */
  #isListenedOn(i: number, addresses: Uint32Array, port: number): boolean {
    const netns = this.#columns.netns[i] ?? 0;
    const table = (this.#columns.table[i] ?? 0) & ~1;
    return (
      this.listenerAt(netns, table, addresses, i * 4, port) >= 0 ||
      this.listenerAt(netns, table + 1, addresses, i * 4, port) >= 0
    );
  }
}

function isIn([first, last]: PortRange, port: number): boolean {
  return port >= first && port <= last;
}

function isLoopback([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && ((c === 0xffff && d >>> 24 === 127) || (c === 0 && d === 1));
}
