import type { ConnectionTable } from '../collect/connection-table.ts';
import type { ScannedNamespaces } from '../collect/namespace-tables.ts';
import { grown } from '../collect/net-tcp-udp-raw.ts';
import type { SocketSource } from '../collect/netlink.ts';
import type { EndedSockets } from '../collect/sock-diag.ts';
import { tenantOfConnection } from '../collect/tenant.ts';
import { FairMap } from '../common/fair-map.ts';
import type { Address, Direction, OwnerLabels } from '../model.ts';
import type { RoundTrips } from './ended-groups.ts';
import { EndedMatcher, type Unlisted } from './ended-sockets.ts';
import { TrafficCounters, type AsnLabels, type AsnTraffic, type Traffic } from './traffic-counters.ts';

/** How long an ended connection waits for its ASN and for the name of its owner, and an open one is observed once in. */
const WAIT_MS = 60_000;
const ROUND_TRIP_MS = 60_000;
/** Ended connections that may wait. Beyond that, the oldest of the tenant with the most stops waiting. */
const MAX_PENDING = 10_000;

/** The remote end of a connection. */
export interface Remote {
  readonly network: string;
  readonly address: Address;
  /** The `asn` label; "" while it is not resolved. */
  readonly asn: string;
}

/** What the ledger needs to know of connections. */
export interface LedgerSources {
  readonly connections: ConnectionTable;
  readonly namespaces: ScannedNamespaces;
  readonly remoteOf: (index: number) => Remote | null;
  /** Whether the ASN of a connection will be known. */
  readonly awaitsAsn: (index: number) => boolean;
  readonly asnOf: (address: Address, at: number) => string | null;
  /** Whether the name of an owner will change. */
  readonly isProvisional: (labels: OwnerLabels) => boolean;
  readonly ownerOf: (index: number) => OwnerLabels;
  /** Names the endpoint group of a connection, now and after its ASN is known. */
  readonly endpointOf: (index: number) => (asn: string) => string;
  /** Called with the bytes that were sent since the last call. */
  readonly sent?: (labels: AsnLabels, bytes: number, tenant: string) => void;
}

/** The labels that a connection is counted under. */
interface Account {
  labels: OwnerLabels;
  readonly tenant: string;
  readonly direction: Direction;
  readonly network: string;
  asn: string;
  readonly awaitsAsn: boolean;
  readonly address: Address | null;
  /** Null for the end of a loopback connection that the endpoint family leaves out. */
  readonly endpoint: ((asn: string) => string) | null;
}

/** An ended connection that waits for its ASN or the name of its owner. */
interface Pending {
  readonly account: Account;
  readonly amounts: Amounts;
  readonly since: number;
}

interface Amounts {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly retransmittedBytes: number;
  readonly closedConnections: number;
  readonly roundTrips: RoundTrips | null;
}

/** A connection that the scan before closed: its account, and the totals that were counted. */
interface Departed extends Account {
  readonly isKnown: boolean;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly retransmittedBytes: number;
}

/** A group of open connections with equal labels. */
export interface Group {
  readonly labels: Readonly<Record<string, string>>;
  readonly tenant: string;
  readonly direction: Direction;
  readonly isEndpoint: boolean;
}

interface GroupSums {
  sentBytes: number;
  receivedBytes: number;
  retransmittedBytes: number;
}

const ZERO: Amounts = { sentBytes: 0, receivedBytes: 0, retransmittedBytes: 0, closedConnections: 0, roundTrips: null };

/**
 * Counts the payload and the round-trip times of TCP connections from the totals that the kernel keeps of each.
 *
 * An increment is the difference to the total that was counted last, never below 0. What the first scan finds starts at its current
 * totals; what opens later starts at 0. An ended connection adds what is missing; one that no scan saw adds its totals. The totals of
 * a connection that was open before the first scan and was never in a dump are dropped.
 */
export class TrafficLedger {
  /** Connections that ended without totals. */
  closedWithoutTotals = 0;
  readonly #sources: LedgerSources;
  readonly #matcher: EndedMatcher<Departed>;
  readonly #counters: TrafficCounters;
  readonly #pending = new FairMap<Pending, null>(MAX_PENDING);
  /** By index: the totals that were counted, whether they are complete, and when a round-trip time was last observed. */
  #sent = new Float64Array(0);
  #received = new Float64Array(0);
  #retransmitted = new Float64Array(0);
  #isKnown = new Uint8Array(0);
  #observedAt = new Float64Array(0);

  constructor(sources: LedgerSources, seriesLimit: number) {
    this.#sources = sources;
    this.#matcher = new EndedMatcher(sources.connections, sources.namespaces);
    this.#counters = new TrafficCounters(seriesLimit);
  }

  /** The counters so far. */
  get traffic(): Traffic {
    return this.#counters.traffic;
  }

  /** Gives each ended connection that no scan saw a row of its own, for readers of events, or ends that. */
  listEach(isWanted: boolean): void {
    this.#matcher.listsEach = isWanted;
  }

  /** Takes in sockets that ended since the last scan. */
  take(ended: EndedSockets): void {
    this.#matcher.take(ended);
  }

  /** Takes in the nsids of namespaces, by their numbers. */
  learnNsids(nsids: ReadonlyMap<number, number>): void {
    this.#matcher.learnNsids(nsids);
  }

  /** The namespaces, by their numbers, whose nsids are not known. */
  unknownNamespaces(): number[] {
    return this.#matcher.unknownNamespaces();
  }

  /** Matches ended sockets to connections, after the rows of a scan were merged. `began` is when it began (monotonic milliseconds). */
  match(source: SocketSource, at: number, began: number): void {
    this.#counters.beginScan(began);
    this.#open(at);
    this.#matcher.match(source.takeEnded(), source.netns, began);
    this.#grow();
  }

  /**
   * Counts what ended, once owners and peers are known. `at` is milliseconds since 1970. Returns the number of connections that no scan
   * saw and that are not in the table, by direction.
   */
  countEnded(at: number, renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): ReadonlyMap<Direction, number> {
    this.#countPending(at, renamed);
    const ended = this.#matcher.settle((i) => this.#depart(i));
    for (const i of ended.indexes) this.#addOrWait(this.#accountOf(i), this.#finish(i, ended.roundTrips.get(i)), at);
    for (const { owner, row } of ended.departed) this.#addOrWait(owner, this.#finishLate(owner, ended.late, row), at);
    for (const [account, receivedBytes] of ended.lacking) this.#addOrWait(account, { ...ZERO, receivedBytes }, at);
    for (const account of ended.lost) this.#addOrWait(account, { ...ZERO, closedConnections: 1 }, at);
    this.closedWithoutTotals += ended.withoutTotals;
    return this.#countUnlisted(ended.unlisted);
  }

  /** Connections outside the table have neither an owner nor a remote: their labels are empty. Returns their numbers. */
  #countUnlisted(unlisted: ReadonlyMap<Direction, Unlisted>): ReadonlyMap<Direction, number> {
    const numbers = new Map<Direction, number>();
    for (const [direction, { connections: closedConnections, ...bytes }] of unlisted) {
      const labels = { process: '', namespace: '', workload: '', direction, network: '', asn: '' };
      this.#counters.addAsn(labels, { ...bytes, closedConnections });
      numbers.set(direction, closedConnections);
    }
    return numbers;
  }

  /** Counts what open connections have transferred since the last scan, by their groups. */
  countOpen(groupOf: (index: number) => Group | null, at: number): void {
    const { connections } = this.#sources;
    const { hasTotals, ended, sentBytes, receivedBytes, retransmittedBytes, minRoundTripUs } = connections;
    const sums = new Map<Group, GroupSums>();
    for (let i = 0; i < connections.length; i++) {
      if (hasTotals[i] !== 1 || ended[i] === 1 || !connections.has(i)) continue;
      const sent = (sentBytes[i] ?? 0) - (this.#sent[i] ?? 0);
      const received = (receivedBytes[i] ?? 0) - (this.#received[i] ?? 0);
      const retransmitted = (retransmittedBytes[i] ?? 0) - (this.#retransmitted[i] ?? 0);
      const isObserved = (minRoundTripUs[i] ?? 0) > 0 && Math.abs(at - (this.#observedAt[i] ?? 0)) >= ROUND_TRIP_MS;
      if (this.#isKnown[i] === 0) this.#remember(i);
      if ((sent <= 0 && received <= 0 && retransmitted <= 0 && !isObserved) || this.#waits(i, at)) continue;
      const group = groupOf(i);
      if (!group) continue;
      let sum = sums.get(group);
      if (!sum) sums.set(group, (sum = { sentBytes: 0, receivedBytes: 0, retransmittedBytes: 0 }));
      sum.sentBytes += Math.max(0, (sentBytes[i] ?? 0) - (this.#sent[i] ?? 0));
      sum.receivedBytes += Math.max(0, (receivedBytes[i] ?? 0) - (this.#received[i] ?? 0));
      sum.retransmittedBytes += Math.max(0, (retransmittedBytes[i] ?? 0) - (this.#retransmitted[i] ?? 0));
      this.#remember(i);
      if (isObserved) this.#observe(i, group, at);
    }
    for (const [{ labels, tenant, direction, isEndpoint }, sum] of sums) {
      const { process = '', namespace = '', workload = '', network = '', asn = '', endpoint_group = '' } = labels;
      const owner = { process, namespace, workload };
      this.#addAsn({ ...owner, direction, network, asn }, { ...sum, closedConnections: 0 }, tenant);
      if (isEndpoint) this.#counters.addEndpoint({ ...owner, endpoint_group, direction }, sum, tenant);
    }
  }

  #addAsn(labels: AsnLabels, traffic: AsnTraffic, tenant: string): void {
    this.#counters.addAsn(labels, traffic, tenant);
    if (traffic.sentBytes > 0) this.#sources.sent?.(labels, traffic.sentBytes, tenant);
  }

  /** Sets where the counts of new connections begin. */
  #open(at: number): void {
    const { connections } = this.#sources;
    this.#grow();
    for (const i of connections.opened) {
      const mayBeOlder = connections.openedAt[i] === 0;
      this.#isKnown[i] = mayBeOlder ? 0 : 1;
      this.#sent[i] = 0;
      this.#received[i] = 0;
      this.#retransmitted[i] = 0;
      this.#observedAt[i] = at;
      if (mayBeOlder && connections.hasTotals[i] === 1) this.#remember(i);
    }
  }

  /** Marks the totals of a connection as counted. */
  #remember(i: number): void {
    const { sentBytes, receivedBytes, retransmittedBytes } = this.#sources.connections;
    this.#isKnown[i] = 1;
    this.#sent[i] = Math.max(this.#sent[i] ?? 0, sentBytes[i] ?? 0);
    this.#received[i] = Math.max(this.#received[i] ?? 0, receivedBytes[i] ?? 0);
    this.#retransmitted[i] = Math.max(this.#retransmitted[i] ?? 0, retransmittedBytes[i] ?? 0);
  }

  #observe(i: number, { labels, direction }: Group, at: number): void {
    this.#observedAt[i] = at;
    const { network = '', asn = '' } = labels;
    const seconds = (this.#sources.connections.minRoundTripUs[i] ?? 0) / 1e6;
    this.#counters.addRoundTrip({ direction, network, asn }, seconds, 1);
  }

  /** Whether the labels of an open connection are not final. Its bytes are counted once they are. */
  #waits(i: number, at: number): boolean {
    const { connections, isProvisional, ownerOf, awaitsAsn } = this.#sources;
    const openedAt = connections.openedAt[i] ?? 0;
    if (openedAt === 0 || Math.abs(at - openedAt) >= WAIT_MS) return false;
    return connections.reason[i] === 'vanished' || isProvisional(ownerOf(i)) || awaitsAsn(i);
  }

  #accountOf(i: number): Account {
    const { connections, remoteOf, awaitsAsn, ownerOf, endpointOf } = this.#sources;
    const remote = remoteOf(i);
    const direction = connections.direction[i] ?? 'outbound';
    const isLeftOut = direction === 'loopback' && connections.serves[i] === 0;
    return {
      labels: ownerOf(i),
      tenant: tenantOfConnection(connections, i),
      direction,
      network: remote?.network ?? '',
      asn: remote?.asn ?? '',
      awaitsAsn: awaitsAsn(i),
      address: remote?.address ?? null,
      endpoint: isLeftOut ? null : endpointOf(i),
    };
  }

  #depart(i: number): Departed {
    return {
      ...this.#accountOf(i),
      isKnown: this.#isKnown[i] === 1,
      sentBytes: this.#sent[i] ?? 0,
      receivedBytes: this.#received[i] ?? 0,
      retransmittedBytes: this.#retransmitted[i] ?? 0,
    };
  }

  /** What an ended connection adds. */
  #finish(i: number, roundTrips: RoundTrips | undefined): Amounts {
    const { connections } = this.#sources;
    const isGroup = connections.isEndedOnly(i);
    const closedConnections = isGroup ? connections.weightOf(i) : 1;
    const rtt = connections.minRoundTripUs[i] ?? 0;
    const times = roundTrips ?? (rtt > 0 ? { sumUs: rtt, count: 1 } : null);
    if (connections.hasTotals[i] !== 1 || (!isGroup && this.#isKnown[i] !== 1)) {
      this.closedWithoutTotals += closedConnections;
      return { ...ZERO, closedConnections, roundTrips: times };
    }
    const sent = (connections.sentBytes[i] ?? 0) - (isGroup ? 0 : (this.#sent[i] ?? 0));
    const received = (connections.receivedBytes[i] ?? 0) - (isGroup ? 0 : (this.#received[i] ?? 0));
    const retransmitted = (connections.retransmittedBytes[i] ?? 0) - (isGroup ? 0 : (this.#retransmitted[i] ?? 0));
    return this.#amounts(sent, received, retransmitted, closedConnections, times);
  }

  #finishLate(departed: Departed, late: EndedSockets, row: number): Amounts {
    const rtt = late.minRoundTripUs[row] ?? 0;
    const times = rtt > 0 ? { sumUs: rtt, count: 1 } : null;
    if (late.hasTotals[row] !== 1 || !departed.isKnown) {
      this.closedWithoutTotals++;
      return { ...ZERO, closedConnections: 1, roundTrips: times };
    }
    const sent = (late.sentBytes[row] ?? 0) - departed.sentBytes;
    const received = (late.receivedBytes[row] ?? 0) - departed.receivedBytes;
    const retransmitted = (late.retransmittedBytes[row] ?? 0) - departed.retransmittedBytes;
    return this.#amounts(sent, received, retransmitted, 1, times);
  }

  /**
   * tcp_disconnect() in the kernel sets the totals of a socket to 0: what was counted before stays. A FIN that arrived while a dump read
   * the socket may have been counted as a byte.
   */
  #amounts(
    sent: number,
    received: number,
    retransmitted: number,
    closedConnections: number,
    roundTrips: RoundTrips | null,
  ): Amounts {
    if (sent < 0 || received < -1) this.closedWithoutTotals++;
    return {
      sentBytes: Math.max(0, sent),
      receivedBytes: Math.max(0, received),
      retransmittedBytes: Math.max(0, retransmitted),
      closedConnections,
      roundTrips,
    };
  }

  #addOrWait(account: Account, amounts: Amounts, at: number): void {
    if (!account.awaitsAsn && !this.#sources.isProvisional(account.labels)) {
      this.#add(account, amounts);
      return;
    }
    const lost = this.#pending.set({ account, amounts, since: at }, null, account.tenant);
    if (lost) this.#add(lost.key.account, lost.key.amounts);
  }

  #countPending(at: number, renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    const { isProvisional, asnOf } = this.#sources;
    const asns = new Map<string, string | null>();
    for (const [entry] of this.#pending) {
      const { account, amounts, since } = entry;
      account.labels = renamed.get(account.labels) ?? account.labels;
      if (account.asn === '' && account.awaitsAsn && account.address) {
        const key = account.address.join(' ');
        let asn = asns.get(key);
        if (asn === undefined) asns.set(key, (asn = asnOf(account.address, at)));
        account.asn = asn ?? '';
      }
      const waits = (account.awaitsAsn && account.asn === '') || isProvisional(account.labels);
      if (waits && Math.abs(at - since) < WAIT_MS) continue;
      this.#pending.delete(entry);
      this.#add(account, amounts);
    }
  }

  #add({ labels, tenant, direction, network, asn, endpoint }: Account, amounts: Amounts): void {
    const { process, namespace, workload } = labels;
    const owner = { process, namespace, workload };
    const counters = this.#counters;
    this.#addAsn({ ...owner, direction, network, asn }, amounts, tenant);
    if (endpoint && amounts.sentBytes + amounts.receivedBytes > 0)
      counters.addEndpoint({ ...owner, endpoint_group: endpoint(asn), direction }, amounts, tenant);
    const { roundTrips } = amounts;
    if (roundTrips && roundTrips.count > 0)
      counters.addRoundTrip({ direction, network, asn }, roundTrips.sumUs / 1e6, roundTrips.count);
  }

  #grow(): void {
    const capacity = this.#sources.connections.scanOf.length;
    if (this.#sent.length >= capacity) return;
    this.#sent = grown(this.#sent, new Float64Array(capacity));
    this.#received = grown(this.#received, new Float64Array(capacity));
    this.#retransmitted = grown(this.#retransmitted, new Float64Array(capacity));
    this.#isKnown = grown(this.#isKnown, new Uint8Array(capacity));
    this.#observedAt = grown(this.#observedAt, new Float64Array(capacity));
  }
}
