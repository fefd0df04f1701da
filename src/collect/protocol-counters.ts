import { escapeOther, OTHER } from '../common/other.ts';
import type { OwnerLabels } from '../model.ts';
import { parseSnmp, type SnmpCounters } from './snmp.ts';

/** The published protocol counters, each with its section and name in the kernel's files. */
const PUBLISHED = {
  activeOpens: ['Tcp', 'ActiveOpens'],
  passiveOpens: ['Tcp', 'PassiveOpens'],
  attemptFails: ['Tcp', 'AttemptFails'],
  retransmittedSegments: ['Tcp', 'RetransSegs'],
  listenOverflows: ['TcpExt', 'ListenOverflows'],
  udpReceiveBufferErrors: ['Udp', 'RcvbufErrors'],
} as const;

export type ProtocolCounter = keyof typeof PUBLISHED;
type Owner = Pick<OwnerLabels, 'namespace' | 'pod'>;
export type ProtocolCounts = Readonly<Record<ProtocolCounter, number>>;

const NAMES = Object.keys(PUBLISHED) as ProtocolCounter[];
/** The published names by section: a kernel has hundreds of counters. */
const IS_PUBLISHED: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  Map.groupBy(Object.values(PUBLISHED), ([section]) => section)
    .entries()
    .map(([section, counters]) => [section, new Set<string>(counters.map(([, counter]) => counter))]),
);
const NONE: ProtocolCounts = {
  activeOpens: 0,
  passiveOpens: 0,
  attemptFails: 0,
  retransmittedSegments: 0,
  listenOverflows: 0,
  udpReceiveBufferErrors: 0,
};

/** The published counters of one namespace, from the content of snmp, netstat and snmp6; missing counters are 0. */
export function readProtocolCounts(snmp: string, netstat: string, snmp6: string): ProtocolCounts {
  const sections: SnmpCounters = new Map([...parseSnmp(snmp, IS_PUBLISHED), ...parseSnmp(netstat, IS_PUBLISHED)]);
  const counts: Record<ProtocolCounter, number> = { ...NONE };
  for (const name of NAMES) {
    const [section, counter] = PUBLISHED[name];
    counts[name] = sections.get(section)?.get(counter) ?? 0;
  }
  const [, udp6 = '0'] = /^Udp6RcvbufErrors[ \t]+(-?\d{1,20})$/m.exec(snmp6) ?? [];
  counts.udpReceiveBufferErrors += Number(udp6);
  return counts;
}

/**
 * The protocol counters of all network namespaces, added up by pod and by Kubernetes namespace. The increase of each network namespace
 * since its last read is added, so that a sum never decreases while they come and go.
 */
export class ProtocolCounters {
  /** TCP connections that all namespaces opened, actively and passively, between their last two reads. */
  opened = 0;
  /** By pod, with one sum for all network namespaces without a pod. */
  readonly byPod: ProtocolSums;
  /** By Kubernetes namespace. */
  readonly byNamespace: ProtocolSums;
  readonly #hasPods: boolean;
  readonly #last = new Map<number, { owner: Owner; counts: ProtocolCounts }>();

  /** With `hasPods` false, the counters of all pods of a Kubernetes namespace are added up. */
  constructor(limit: number, hasPods = true) {
    this.byPod = new ProtocolSums(limit);
    this.byNamespace = new ProtocolSums(limit);
    this.#hasPods = hasPods;
  }

  /** Begins a scan. Namespaces that are no longer `present` are forgotten. */
  begin(present: (netns: number) => boolean): void {
    this.opened = 0;
    for (const netns of this.#last.keys()) if (!present(netns)) this.#last.delete(netns);
    const owners = [...this.#last.values()].map(({ owner }) => owner);
    this.byPod.keep(owners);
    this.byNamespace.keep(owners.map(withoutPod));
  }

  /** Adds the increase of a namespace since it was last added. */
  add(netns: number, { namespace, pod }: Owner, counts: ProtocolCounts): void {
    const owner = { namespace, pod: this.#hasPods ? pod : '' };
    const last = this.#last.get(netns);
    const grown = { ...NONE } as Record<ProtocolCounter, number>;
    for (const name of NAMES) grown[name] = Math.max(0, counts[name] - (last?.counts[name] ?? 0));
    this.byPod.add(owner, grown);
    this.byNamespace.add(withoutPod(owner), grown);
    if (last) this.opened += grown.activeOpens + grown.passiveOpens;
    this.#last.set(netns, { owner, counts });
  }
}

/** Sums of owners, which end with their owner. There are at most `limit`: further owners are added to `other`, and stay there. */
export class ProtocolSums {
  readonly #limit: number;
  readonly #sums = new Map<string, Total>();
  readonly #other: Total = { labels: { namespace: OTHER, pod: OTHER }, counts: { ...NONE } };

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Forgets all but these owners, and the host. */
  keep(owners: readonly Owner[]): void {
    const alive = new Set(owners.map(keyOf));
    for (const owner of this.#sums.keys()) if (!alive.has(owner) && owner !== NO_POD) this.#sums.delete(owner);
  }

  add(owner: Owner, grown: ProtocolCounts): void {
    const { counts } = this.#totalOf(owner);
    for (const name of NAMES) counts[name] += grown[name];
  }

  /** The sums: one for each owner, and `other`. */
  get totals(): readonly Total[] {
    return [...new Set(this.#sums.values())];
  }

  /** Number of owners in `other`. */
  get folded(): number {
    return [...this.#sums.values()].filter((total) => total === this.#other).length;
  }

  #totalOf(owner: Owner): Total {
    const key = keyOf(owner);
    const known = this.#sums.get(key);
    if (known) return known;
    const whole = new Set(this.#sums.values()).size < this.#limit - 2 || key === NO_POD;
    const labels = { namespace: owner.namespace, pod: escapeOther(owner.pod) };
    const total = whole ? { labels, counts: { ...NONE } } : this.#other;
    this.#sums.set(key, total);
    return total;
  }
}

const withoutPod = ({ namespace }: Owner): Owner => ({ namespace, pod: '' });

/** The sums of one pod, with its labels. */
export interface Total {
  readonly labels: { readonly namespace: string; readonly pod: string };
  readonly counts: Record<ProtocolCounter, number>;
}

const NO_POD = JSON.stringify(['', '']);

function keyOf({ namespace, pod }: Owner): string {
  return JSON.stringify([namespace, pod]);
}
