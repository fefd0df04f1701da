import type { ConnectionTable } from '../collect/connection-table.ts';
import { SYN_RECV } from '../collect/net-tcp-udp-raw.ts';
import { PendingConnections } from './pending.ts';
import type { FirstSeenMemory } from './memory.ts';
import type { Peer, Peers } from '../enrich/peers.ts';
import type { Address, Direction, OwnerLabels, State } from '../model.ts';
import type { FirstSeenDirection } from '../store/contract.ts';
import type { OwnerLabeler } from '../enrich/owner-labels.ts';

/** The state of a scan that the recorder reads. */
export interface ScanState {
  readonly connections: ConnectionTable;
  readonly names: OwnerLabeler;
  readonly peers: Peers;
  /** The peer of a connection, including those that the last scan closed; null without a remote end. */
  readonly peerOf: (index: number) => Peer | null;
}

/** A connection that closed before its owner was fully named; while its ASN is "", `bucket` is the pending ASN lookup. */
interface UnnamedConnection {
  readonly direction: FirstSeenDirection;
  readonly asn: string;
  readonly bucket: string | null;
  readonly address: Address;
  readonly openedAt: number;
}

/** A group of open connections of one owner to one ASN. */
interface AsnGroup {
  readonly owner: OwnerLabels;
  readonly direction: Direction;
  readonly state: State;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Records in first-seen memory which owner is connected to which ASN: for each connection that opened, changed or closed. A connection
 * that closed early is recorded once its owner is fully named and its ASN is resolved.
 */
export class FirstSeenRecorder {
  readonly #memory: FirstSeenMemory;
  readonly #scan: ScanState;
  readonly #unnamed = new PendingConnections<OwnerLabels, UnnamedConnection>();
  #firstAt: number | null = null;
  /** When connections of later scans with an unknown opening time were first seen; few, if any. */
  readonly #foundAt = new Map<number, number>();

  constructor(memory: FirstSeenMemory, scan: ScanState) {
    this.#memory = memory;
    this.#scan = scan;
  }

  /** Records the connections of a scan; `at` in milliseconds since 1970, `renamed` the owners whose names changed since the last scan. */
  record(at: number, renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    this.#memory.begin(at);
    const { connections } = this.#scan;
    for (const [before, labels] of renamed)
      for (const connection of this.#unnamed.take(before)) this.#recordClosed(labels, connection, at);
    const firstAt = (this.#firstAt ??= at);
    for (const i of connections.closed) {
      this.#recordOne(i, firstAt);
      this.#foundAt.delete(i);
    }
    if (firstAt !== at) for (const i of connections.opened) if (connections.openedAt[i] === 0) this.#foundAt.set(i, at);
    for (let i = 0; i < connections.length; i++)
      if (connections.changed[i] !== 0 && connections.has(i)) this.#recordOne(i, firstAt);
  }

  /** Marks the owners and ASNs of open connections as present, and ends the scan. */
  markPresent(groups: readonly AsnGroup[]): void {
    for (const { owner, direction, state, labels } of groups)
      if (!this.#scan.names.isProvisional(owner))
        this.#memory.markPresent(owner, direction, state === 'syn_received' ? '' : (labels['asn'] ?? ''));
    this.#memory.end();
  }

  #recordOne(i: number, firstAt: number): void {
    const { connections, names, peers } = this.#scan;
    const peer = this.#scan.peerOf(i);
    const labels = connections.labels[i];
    const direction = connections.evidence[i] === 'port' ? '' : connections.direction[i];
    if (!peer || !labels || direction === undefined || connections.state[i] === SYN_RECV) return;
    const isOpen = connections.has(i);
    // Wait one scan: the process may still be found.
    const mayBeFound = connections.ownerEvidence[i] === 'netns' && connections.reason[i] === 'vanished';
    if (mayBeFound && isOpen) return;
    const openedAt = connections.openedAt[i] || (this.#foundAt.get(i) ?? firstAt);
    const { asn, address } = peer;
    if (names.isProvisional(labels)) {
      const bucket = peers.pendingBucket(peer);
      if (!isOpen && (asn !== '' || bucket !== null))
        this.#awaitName(labels, { direction, asn, bucket, address, openedAt });
    } else if (asn !== '') this.#memory.record(labels, direction, asn, openedAt);
    else if (!isOpen) this.#awaitAsn(labels, direction, peers.pendingBucket(peer), address, openedAt);
  }

  /** Records a closed connection whose owner has new names. */
  #recordClosed(labels: OwnerLabels, connection: UnnamedConnection, at: number): void {
    const { names, peers } = this.#scan;
    if (names.isProvisional(labels)) {
      this.#awaitName(labels, connection);
      return;
    }
    const { direction, address, bucket, openedAt } = connection;
    const asn = connection.asn === '' ? (peers.asnOf(address, at) ?? '') : connection.asn;
    if (asn !== '') this.#memory.record(labels, direction, asn, openedAt);
    else this.#awaitAsn(labels, direction, bucket, address, openedAt);
  }

  #awaitName(labels: OwnerLabels, connection: UnnamedConnection): void {
    const { direction, asn, bucket } = connection;
    this.#unnamed.add(labels, `${direction} ${asn === '' ? bucket : asn}`, connection);
  }

  #awaitAsn(
    labels: OwnerLabels,
    direction: FirstSeenDirection,
    bucket: string | null,
    address: Address,
    openedAt: number,
  ): void {
    if (bucket !== null) this.#memory.defer(bucket, labels, direction, address, openedAt);
  }
}
