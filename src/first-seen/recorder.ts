import type { ConnectionTable } from '../collect/connection-table.ts';
import { SYN_RECV } from '../collect/net-tcp-udp-raw.ts';
import { ClosedMeetings } from './pending.ts';
import type { FirstSeenMemory } from './memory.ts';
import type { Peer, Peers } from '../enrich/peers.ts';
import type { Address, Direction, OwnerLabels, State } from '../model.ts';
import type { OwnerNames } from '../enrich/owner-labels.ts';

/** What a scan knows of connections and their ends. */
export interface Scene {
  readonly connections: ConnectionTable;
  readonly names: OwnerNames;
  readonly peers: Peers;
  /** The peer of a connection, one that the last scan closed included; null where it has no remote end. */
  readonly peerOf: (index: number) => Peer | null;
}

/** A connection that closed before its owner had a whole name; its operator is known by its ASN or, while that is "", by the bucket asked for. */
interface UnnamedMeeting {
  readonly direction: Direction;
  readonly asn: string;
  readonly bucket: string | null;
  readonly address: Address;
  readonly openedAt: number;
}

/** Open connections of an owner with one network operator. */
interface OperatorGroup {
  readonly owner: OwnerLabels;
  readonly direction: Direction;
  readonly state: State;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Tells first-seen memory which owner met which network operator: of each connection that is new, changed or gone, and of one that
 * closed early when its owner has its whole name and the answer about its remote came.
 */
export class Meetings {
  readonly #memory: FirstSeenMemory;
  readonly #scene: Scene;
  readonly #unnamed = new ClosedMeetings<OwnerLabels, UnnamedMeeting>();
  #firstAt: number | null = null;
  /** When connections were seen first that are not of the first scan and may have been open before: few, if any. */
  readonly #foundAt = new Map<number, number>();

  constructor(memory: FirstSeenMemory, scene: Scene) {
    this.#memory = memory;
    this.#scene = scene;
  }

  /** Takes in a scan of this time (milliseconds since 1970), and which owners have other names since the one before. */
  remember(at: number, renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    this.#memory.begin(at);
    const { connections } = this.#scene;
    for (const [before, labels] of renamed)
      for (const meeting of this.#unnamed.take(before)) this.#meetLate(labels, meeting, at);
    const firstAt = (this.#firstAt ??= at);
    for (const i of connections.closed) {
      this.#meet(i, firstAt);
      this.#foundAt.delete(i);
    }
    if (firstAt !== at) for (const i of connections.opened) if (connections.openedAt[i] === 0) this.#foundAt.set(i, at);
    for (let i = 0; i < connections.length; i++)
      if (connections.changed[i] !== 0 && connections.has(i)) this.#meet(i, firstAt);
  }

  /** Operators of connections that are there now are present to first times. */
  confirm(groups: readonly OperatorGroup[]): void {
    for (const { owner, direction, state, labels } of groups)
      if (!this.#scene.names.isHalfKnown(owner))
        this.#memory.present(owner, direction, state === 'syn_received' ? '' : (labels['asn'] ?? ''));
    this.#memory.end();
  }

  #meet(i: number, firstAt: number): void {
    const { connections, names, peers } = this.#scene;
    const peer = this.#scene.peerOf(i);
    const labels = connections.labels[i];
    const direction = connections.direction[i];
    if (!peer || !labels || !direction || connections.state[i] === SYN_RECV) return;
    const isOpen = connections.has(i);
    // The process may be found at the next scan: until then nobody without a name meets anybody.
    const isSought = connections.ownerEvidence[i] === 'netns' && connections.reason[i] === 'vanished';
    if (isSought && isOpen) return;
    const openedAt = connections.openedAt[i] || (this.#foundAt.get(i) ?? firstAt);
    const { asn, address } = peer;
    if (names.isHalfKnown(labels)) {
      const bucket = peers.awaits(peer);
      if (!isOpen && (asn !== '' || bucket !== null))
        this.#awaitName(labels, { direction, asn, bucket, address, openedAt });
    } else if (asn !== '') this.#memory.meet(labels, direction, asn, openedAt);
    else if (!isOpen) this.#awaitAnswer(labels, direction, peers.awaits(peer), address, openedAt);
  }

  /** The owner of a connection that is closed has names by now, or other ones. */
  #meetLate(labels: OwnerLabels, meeting: UnnamedMeeting, at: number): void {
    const { names, peers } = this.#scene;
    if (names.isHalfKnown(labels)) {
      this.#awaitName(labels, meeting);
      return;
    }
    const { direction, address, bucket, openedAt } = meeting;
    const asn = meeting.asn === '' ? (peers.asnOf(address, at) ?? '') : meeting.asn;
    if (asn !== '') this.#memory.meet(labels, direction, asn, openedAt);
    else this.#awaitAnswer(labels, direction, bucket, address, openedAt);
  }

  #awaitName(labels: OwnerLabels, meeting: UnnamedMeeting): void {
    const { direction, asn, bucket } = meeting;
    this.#unnamed.add(labels, `${direction} ${asn === '' ? bucket : asn}`, meeting);
  }

  #awaitAnswer(
    labels: OwnerLabels,
    direction: Direction,
    bucket: string | null,
    address: Address,
    openedAt: number,
  ): void {
    if (bucket !== null) this.#memory.wait(bucket, labels, direction, address, openedAt);
  }
}
