import type { ConnectionTable } from '../collect/connection-table.ts';
import { LISTEN, SYN_RECV, transportOf } from '../collect/net-tcp-udp-raw.ts';
import type { ProcessStart } from '../collect/process-starts.ts';
import { isUser, tenantOfConnection } from '../collect/tenant.ts';
import { formatAddress } from '../common/address.ts';
import { FairMap } from '../common/fair-map.ts';
import { classify } from '../common/network-class.ts';
import type { OwnerLabeler } from '../enrich/owner-labels.ts';
import type { Peer, Peers } from '../enrich/peers.ts';
import type { Address, Direction, OwnerLabels, Process, State, Transport } from '../model.ts';
import type { Owner } from './evidence.ts';
import type { UnusualMemory } from './memory.ts';
import type { Holder, Observation } from './observation.ts';
import { PendingConnections } from './pending.ts';
import { withoutRelease } from './grammar/what.ts';

const HOUR_MS = 3_600_000;
/** First-seen times of closed connections that are kept for an hour. Beyond that, the tenant with the most loses its oldest. */
const MAX_RECENT = 1_000;
/** Names of processes whose release-free form is kept. */
const MAX_NAMES = 10_000;

/** Remote ends that are not on another host, or that no single host answers for. A neighbor with a link-local address is one. */
const NOWHERE: ReadonlySet<string> = new Set(['loopback', 'self', 'multicast', 'unspecified']);

/** The state of a scan that the recorder reads. */
export interface ScanState {
  readonly connections: ConnectionTable;
  readonly names: OwnerLabeler;
  readonly peers: Peers;
  /** The peer of a connection, including those that the last scan closed; null without a remote end. */
  readonly peerOf: (index: number) => Peer | null;
  readonly startOf: (process: Process) => ProcessStart | null;
  /** Whether the local address of a connection is not one of its namespace: a transparent proxy accepted it. */
  readonly isForeign: (index: number) => boolean;
  /** The Service or workload at an address inside the network, such as shop/ledger; null if it has no name. */
  readonly peerNameOf: (address: Address, port: number, transport: Transport) => string | null;
  /** Whether addresses inside the network belong to pods, and so change: then only names are remembered. */
  readonly changesAddresses: boolean;
}

/** When a workload was first seen connected to an ASN, under the labels of a process; milliseconds since 1970. */
export interface FirstSeenAsn {
  readonly owner: OwnerLabels;
  readonly tenant: string;
  readonly direction: 'outbound' | 'inbound';
  readonly asn: string;
  readonly at: number;
}

/** Since when a workload has been watched, under the labels of a process. */
export interface Baseline {
  readonly owner: OwnerLabels;
  readonly tenant: string;
  readonly at: number;
}

/** A group of open connections of one owner to one ASN. */
interface AsnGroup {
  readonly owner: OwnerLabels;
  readonly tenant: string;
  readonly direction: Direction;
  readonly state: State;
  readonly labels: Readonly<Record<string, string>>;
}

/** The labels that sent bytes are counted under. */
interface SentLabels extends Pick<OwnerLabels, 'process' | 'namespace' | 'workload'> {
  readonly direction: Direction;
  readonly network: string;
  readonly asn: string;
}

/** An observation that waits for an ASN or a name. */
interface Waiting {
  readonly labels: OwnerLabels;
  readonly tenant: string;
  readonly openedAt: number;
  readonly address: Address;
  readonly bucket: string | null;
  /** Without its owner. */
  readonly seen: Seen;
}

/** A first-seen time that this node learned. */
interface Recent extends FirstSeenAsn {
  readonly learnedAt: number;
}

type Without<T, Key extends PropertyKey> = T extends unknown ? Omit<T, Key> : never;
type Seen = Without<Observation, 'owner'>;

/**
 * Observes the sockets of each scan for the memory of unusual things: when a socket opens or closes, when more becomes known of it, and
 * once an hour while it is open. What waits for an ASN is observed again when that is known; a connection that closed before its owner
 * was named waits for the name.
 */
export class UnusualRecorder {
  readonly #memory: UnusualMemory;
  readonly #scan: ScanState;
  readonly #unnamed = new PendingConnections<OwnerLabels, Waiting>();
  readonly #unresolved = new PendingConnections<string, Waiting>();
  /** By index: when it was observed, and what was known of it. */
  #observedAt: number[] = [];
  #labels: (OwnerLabels | undefined)[] = [];
  #asns: (string | undefined)[] = [];
  #holders: (Holder | undefined)[] = [];
  /** When connections of later scans with an unknown opening time were first seen; few, if any. */
  readonly #foundAt = new Map<number, number>();
  #firstAt: number | null = null;
  /** What this scan observed, so that many equal connections cost little. */
  readonly #done = new Map<OwnerLabels, Set<string>>();
  /** First-seen times that this node learned in the past hour. */
  readonly #recent = new FairMap<string, Recent>(MAX_RECENT);
  readonly #names = new Map<string, string>();
  readonly #owners = new WeakMap<OwnerLabels, Map<string, Owner>>();
  readonly #starts = new WeakMap<Process, Holder>();
  #at = 0;

  constructor(memory: UnusualMemory, scan: ScanState) {
    this.#memory = memory;
    this.#scan = scan;
  }

  /** Begins a scan; `at` in milliseconds since 1970. */
  begin(at: number): void {
    this.#at = at;
    this.#memory.begin(at);
  }

  /** Observes the sockets of the scan; `renamed` are the owners whose names changed since the last scan. */
  record(renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    const { connections } = this.#scan;
    const at = this.#at;
    for (const [before, labels] of renamed)
      for (const waiting of this.#unnamed.take(before)) {
        this.#take({ ...waiting, labels }, false);
        // The answer may have come before the name.
        if (waiting.bucket !== null) this.resolve(waiting.bucket, at);
      }
    const firstAt = (this.#firstAt ??= at);
    for (const i of connections.closed) {
      this.#recordOne(i, firstAt);
      this.#observedAt[i] = 0;
      this.#labels[i] = undefined;
      this.#holders[i] = undefined;
      this.#foundAt.delete(i);
    }
    if (firstAt !== at) for (const i of connections.opened) if (connections.openedAt[i] === 0) this.#foundAt.set(i, at);
    const { changed } = connections;
    for (let i = 0; i < connections.length; i++)
      if ((changed[i] !== 0 || Math.abs(at - (this.#observedAt[i] ?? 0)) >= HOUR_MS) && connections.has(i))
        this.#recordOne(i, firstAt);
    this.#done.clear();
    this.#memory.end();
  }

  /** Adds bytes that were sent to a public address. */
  addSent({ process, namespace, workload, direction, network, asn }: SentLabels, bytes: number, tenant: string): void {
    if (direction !== 'outbound' || (network !== 'public' && asn === '') || (process === '' && workload === '')) return;
    const owner = this.#ownerAt({ process, namespace, workload }, tenant);
    const holder = { process, startedAt: null, containerStartedAt: null };
    this.#memory.addBytes(owner, holder, asn === '' ? null : Number(asn), bytes);
  }

  /** Observes what waited for the ASN of a bucket, with the time at which it was seen. */
  resolve(bucket: string, now: number): void {
    this.#at = now;
    this.#unresolved.resolve(bucket, ({ labels, tenant, address, seen }) => {
      const asn = this.#scan.peers.asnOf(address, now);
      if (asn === null) return false;
      if (asn !== '0' && seen.event !== 'listen') this.#observe(labels, tenant, { ...seen, asn: Number(asn) });
      return true;
    });
  }

  /** The first-seen times of the operators that open connections go to, and of those that were first met in the past hour. */
  firstSeen(groups: readonly AsnGroup[]): { readonly asns: FirstSeenAsn[]; readonly baselines: Baseline[] } {
    const asns = new Map<string, FirstSeenAsn>();
    /** One for each process, namespace and workload. */
    const owners = new Map<string, readonly [OwnerLabels, tenant: string]>();
    let last: OwnerLabels | null = null;
    for (const { owner, tenant, direction, state, labels } of groups) {
      if ((owner.process === '' && owner.workload === '') || this.#scan.names.isProvisional(owner)) continue;
      // The groups of an owner follow each other.
      if (owner !== last) owners.set(nameOfOwner(owner), [owner, tenant]);
      last = owner;
      const asn = state === 'syn_received' ? '' : (labels['asn'] ?? '');
      if (asn === '' || asn === '0' || (direction !== 'outbound' && direction !== 'inbound')) continue;
      const found = this.#firstSeenOf({ owner, tenant, direction, asn });
      if (found) asns.set(keyOf(found), found);
    }
    for (const [key, recent] of this.#recent) {
      const found = this.#firstSeenOf(recent);
      // The store may know an earlier time.
      const isOld = found !== null && found.at < recent.at;
      if (isOld || Math.abs(this.#at - recent.learnedAt) >= HOUR_MS) this.#recent.delete(key);
      else if (found) {
        asns.set(key, found);
        owners.set(nameOfOwner(recent.owner), [recent.owner, recent.tenant]);
      }
    }
    const baselines = [...owners.values()].flatMap(([owner, tenant]) => {
      const at = this.#memory.sinceOf(this.#ownerOf(owner, tenant));
      return at === null ? [] : [{ owner, tenant, at }];
    });
    return { asns: [...asns.values()], baselines };
  }

  #firstSeenOf({ owner, tenant, direction, asn }: Omit<Recent, 'at' | 'learnedAt'>): FirstSeenAsn | null {
    const at = this.#memory.firstAtOf(this.#ownerOf(owner, tenant), direction, Number(asn));
    return at === null ? null : { owner, tenant, direction, asn, at };
  }

  #recordOne(i: number, firstAt: number): void {
    const { connections, names } = this.#scan;
    const labels = connections.labels[i];
    const table = connections.table[i] ?? 0;
    const isOpen = connections.has(i);
    if (!labels || connections.state[i] === SYN_RECV) return;
    // Wait one scan: the process may still be found.
    const isGuessed = connections.ownerEvidence[i] === 'netns' || connections.ownerEvidence[i] === 'uid';
    const mayBeFound = isGuessed && connections.reason[i] === 'vanished';
    if ((mayBeFound || names.isProvisional(labels)) && isOpen) return;
    const peer = this.#scan.peerOf(i);
    const asn = peer?.asn ?? '';
    const isKnown = this.#labels[i] === labels && this.#asns[i] === asn;
    if (isKnown && Math.abs(this.#at - (this.#observedAt[i] ?? 0)) < HOUR_MS) return;
    this.#observedAt[i] = this.#at;
    this.#labels[i] = labels;
    this.#asns[i] = asn;
    const transport = transportOf(table);
    const direction = connections.direction[i];
    const tenant = tenantOfConnection(connections, i);
    if (transport === 'raw' || direction === 'loopback' || (peer && NOWHERE.has(peer.network))) {
      this.#memory.watch(this.#ownerOf(labels, tenant), this.#at, tenant);
      return;
    }
    if (this.#isDone(labels, i, peer, direction)) return;
    const openedAt = connections.openedAt[i] || (this.#foundAt.get(i) ?? firstAt);
    const holder = this.#holderOf(labels, connections.process[i] ?? null);
    const before = this.#holders[i];
    this.#holders[i] = holder;
    if (before !== holder) this.#noteProgram(labels, tenant, holder, connections.process[i] ?? null);
    const isPassed = before !== undefined && before !== holder && holder.process !== '';
    const observed = { holder, at: openedAt, ...(isPassed && { heldAt: this.#at }) };
    const seen = this.#seenOf(i, transport, peer, observed);
    if (seen.length === 0) {
      this.#memory.watch(this.#ownerOf(labels, tenant), this.#at, tenant);
      return;
    }
    const bucket = peer && this.#scan.peers.pendingBucket(peer);
    const address = peer?.address ?? NO_ADDRESS;
    if (peer && this.#mayBeCall(i, transport, this.#ownerOf(labels, tenant)))
      seen.push(this.#callOf(i, transport, peer, observed));
    for (const one of seen) this.#take({ labels, tenant, openedAt, address, bucket, seen: one }, isOpen);
  }

  /**
   * Whether a connection that looks inbound may be a call. Its ports prove nothing: a program can bind any port before it connects. A
   * listener does, also one that this workload had before.
   */
  #mayBeCall(i: number, transport: Transport, owner: Owner): boolean {
    const { connections, isForeign } = this.#scan;
    if (connections.direction[i] !== 'inbound' || connections.evidence[i] === 'listener' || isForeign(i)) return false;
    return !this.#memory.hasListener(owner, transport, connections.localPort[i] ?? 0);
  }

  /** Observes a socket, and keeps it if it waits for a name or an ASN. */
  #take(waiting: Waiting, isOpen: boolean): void {
    const { labels, tenant, bucket, seen } = waiting;
    const name = nameOf(seen);
    if (!isOpen && this.#scan.names.isProvisional(labels)) {
      this.#unnamed.add(labels, `${bucket ?? ''} ${name}`, waiting, tenant);
      return;
    }
    this.#observe(labels, tenant, seen);
    if (bucket === null) return;
    const key = JSON.stringify([labels.namespace, labels.workload, tenant, name]);
    this.#unresolved.add(bucket, key, waiting, tenant);
  }

  #observe(labels: OwnerLabels, tenant: string, seen: Seen): void {
    const owner = this.#ownerOf(labels, tenant);
    this.#memory.observe({ ...seen, owner, tenant });
    // A process or user outside of units has a memory of its own. Until that is learned, the process is something new for the host.
    if (labels.workload === '' && labels.process !== '' && !this.#memory.isLearned(owner))
      this.#memory.observe({ ...seen, owner: isUser(tenant) ? USERS : HOST });
    if (seen.event === 'listen' || !seen.asn) return;
    const firstAt = this.#memory.firstAtOf(owner, seen.event, seen.asn);
    if (firstAt !== null && Math.abs(this.#at - firstAt) >= HOUR_MS) return;
    const recent = { owner: labels, direction: seen.event, asn: String(seen.asn), at: seen.at, tenant };
    const key = keyOf(recent);
    if (!this.#recent.has(key)) this.#recent.set(key, { ...recent, learnedAt: this.#at }, tenant);
  }

  /** The main process of a unit shows what the unit runs: another file is an update. A process that init adopted later does not count. */
  #noteProgram(labels: OwnerLabels, tenant: string, holder: Holder, process: Process | null): void {
    if (labels.namespace !== '' || labels.workload === '' || process?.ppid !== 1 || !process.executable?.inode) return;
    const { path, device, inode } = process.executable;
    const isMain = holder.startedAt !== null && holder.startedAt === holder.containerStartedAt;
    if (isMain)
      this.#memory.noteVersion(this.#ownerOf(labels, tenant), `${device} ${inode} ${path}`.slice(0, 200), this.#at);
  }

  /** Says whether this scan has already observed an equal connection, and notes it. */
  #isDone(labels: OwnerLabels, i: number, peer: Peer | null, direction: Direction | undefined): boolean {
    const { connections } = this.#scan;
    const port = direction === 'outbound' ? connections.remotePort[i] : connections.localPort[i];
    const remote = peer ? `${peer.network} ${peer.asn} ${peer.asn === '' ? peer.address.join(' ') : ''}` : '';
    const key = `${connections.process[i]?.pid ?? ''} ${connections.table[i]} ${direction} ${port} ${remote}`;
    let done = this.#done.get(labels);
    if (!done) this.#done.set(labels, (done = new Set()));
    if (done.has(key)) return true;
    done.add(key);
    return false;
  }

  #seenOf(
    i: number,
    transport: Transport,
    peer: Peer | null,
    observed: Pick<Observation, 'holder' | 'at' | 'heldAt'>,
  ): Seen[] {
    const { connections } = this.#scan;
    const localPort = connections.localPort[i] ?? 0;
    if (connections.direction[i] === 'listen') {
      const isOpen = connections.state[i] === LISTEN || transport !== 'tcp';
      if (!isOpen || classify(connections.localAddress(i)).network === 'loopback') return [];
      return [{ ...observed, event: 'listen', transport, port: localPort }];
    }
    if (!peer) return [];
    if (connections.direction[i] !== 'inbound') return [this.#callOf(i, transport, peer, observed)];
    const { asn, isPublic } = operatorOf(peer);
    return [{ ...observed, event: 'inbound', network: isPublic ? 'public' : 'inside', asn, localPort }];
  }

  #callOf(i: number, transport: Transport, peer: Peer, observed: Pick<Observation, 'holder' | 'at' | 'heldAt'>): Seen {
    const { connections, changesAddresses } = this.#scan;
    const { asn, isPublic } = operatorOf(peer);
    const port = connections.remotePort[i] ?? 0;
    const outbound = { ...observed, event: 'outbound' as const, transport, asn, port };
    if (peer.network === 'cloud_metadata') return { ...outbound, network: 'cloud_metadata', peer: null };
    if (isPublic) return { ...outbound, network: 'public', peer: null };
    const name = this.#scan.peerNameOf(peer.address, port, transport);
    return { ...outbound, network: 'inside', peer: name ?? (changesAddresses ? null : formatAddress(peer.address)) };
  }

  #ownerOf(labels: OwnerLabels, tenant: string): Owner {
    const known = this.#owners.get(labels)?.get(tenant);
    if (known) return known;
    const owner = this.#ownerAt(labels, tenant);
    const owners = this.#owners.get(labels) ?? new Map<string, Owner>();
    this.#owners.set(labels, owners.set(tenant, owner));
    return owner;
  }

  /**
   * The workload or unit. Outside of services the user, whatever names their processes have: else a user could teach what is usual for a
   * process of root. For root the process, or the host if the kernel keeps no user for a socket.
   */
  #ownerAt(
    { namespace, workload, process }: Pick<OwnerLabels, 'namespace' | 'workload' | 'process'>,
    tenant: string,
  ): Owner {
    if ((workload === '' || workload === LOGIN) && isUser(tenant)) return { namespace, workload: tenant };
    if (workload !== '') return { namespace, workload };
    return process === '' ? HOST : { namespace, workload: this.#withoutRelease(process) };
  }

  #holderOf({ process: name }: OwnerLabels, process: Process | null): Holder {
    if (!process) return { process: name, startedAt: null, containerStartedAt: null };
    const known = this.#starts.get(process);
    const path = process.executable?.path;
    if (known?.process === name && known.executable === path) return known;
    const { startOf } = this.#scan;
    let start: ProcessStart | null | undefined;
    const started = (): ProcessStart | null => (start === undefined ? (start = startOf(process)) : start);
    // Read only for what is new.
    const holder: Holder = {
      process: name,
      get startedAt() {
        return started()?.startedAt ?? null;
      },
      get containerStartedAt() {
        return started()?.containerStartedAt ?? null;
      },
      ...(path !== undefined && { executable: path }),
    };
    this.#starts.set(process, holder);
    return holder;
  }

  #withoutRelease(process: string): string {
    let name = this.#names.get(process);
    if (name === undefined) {
      name = withoutRelease(process);
      if (this.#names.size >= MAX_NAMES) this.#names.clear();
      this.#names.set(process, name);
    }
    return name;
  }
}

function operatorOf({ asn: text, network }: Peer): { readonly asn: number | null; readonly isPublic: boolean } {
  const asn = text === '' ? null : Number(text);
  return { asn, isPublic: network === 'public' || (asn !== null && asn > 0) };
}

const NO_ADDRESS: Address = [0, 0, 0, 0];
/** The owner of sockets that neither a workload nor a user has, and of processes outside of units that are not learned yet. */
const HOST: Owner = { namespace: '', workload: 'host' };
/** The same for the processes of users, who choose names and numbers of them. */
const USERS: Owner = { namespace: '', workload: 'users' };
/** The workload of all logins: one is of root, another one of a user. */
const LOGIN = 'session.scope';

function nameOfOwner({ process, namespace, workload }: OwnerLabels): string {
  return JSON.stringify([process, namespace, workload]);
}

function keyOf({ owner, direction, asn }: FirstSeenAsn): string {
  return `${nameOfOwner(owner)} ${direction} ${asn}`;
}

function nameOf(seen: Seen): string {
  if (seen.event === 'outbound') return `outbound ${seen.transport} ${seen.port} ${seen.holder.process}`;
  if (seen.event === 'inbound') return `inbound ${seen.localPort} ${seen.holder.process}`;
  return `listen ${seen.transport} ${seen.port} ${seen.holder.process}`;
}
