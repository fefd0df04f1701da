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
 * The protocol counters of all namespaces, added up by pod. The increase of each namespace since its last read is added, so that a sum
 * never decreases while namespaces come and go. The counters of a pod end with its last namespace.
 * There are at most `limit` sums: further pods are added to `other`, and stay there until they end.
 */
export class ProtocolCounters {
  /** TCP connections that all namespaces opened, actively and passively, between their last two reads. */
  opened = 0;
  readonly #limit: number;
  readonly #byPod: boolean;
  readonly #last = new Map<number, { pod: string; counts: ProtocolCounts }>();
  readonly #pods = new Map<string, Total>();
  readonly #other: Total = { labels: { namespace: OTHER, pod: OTHER }, counts: { ...NONE } };

  /** With `byPod` false, the counters of all pods of a Kubernetes namespace are added up. */
  constructor(limit: number, byPod = true) {
    this.#limit = limit;
    this.#byPod = byPod;
  }

  /** Begins a scan. Namespaces that are no longer `present` are forgotten. */
  begin(present: (netns: number) => boolean): void {
    this.opened = 0;
    for (const netns of this.#last.keys()) if (!present(netns)) this.#last.delete(netns);
    const alive = new Set([...this.#last.values()].map(({ pod }) => pod));
    for (const pod of this.#pods.keys()) if (!alive.has(pod) && pod !== NO_POD) this.#pods.delete(pod);
  }

  /** Adds the increase of a namespace since it was last added. */
  add(netns: number, { namespace, pod: name }: Owner, counts: ProtocolCounts): void {
    const owner = { namespace, pod: this.#byPod ? name : '' };
    const pod = keyOf(owner);
    const last = this.#last.get(netns);
    const grown = (name: ProtocolCounter): number => Math.max(0, counts[name] - (last?.counts[name] ?? 0));
    const total = this.#totalOf(pod, owner);
    for (const name of NAMES) total.counts[name] += grown(name);
    if (last) this.opened += grown('activeOpens') + grown('passiveOpens');
    this.#last.set(netns, { pod, counts });
  }

  /** The sums: one for each pod, one for all namespaces without a pod, and `other`. */
  get totals(): readonly Total[] {
    return [...new Set(this.#pods.values())];
  }

  /** Number of pods in `other`. */
  get folded(): number {
    return [...this.#pods.values()].filter((total) => total === this.#other).length;
  }

  #totalOf(pod: string, { namespace, pod: name }: Owner): Total {
    const known = this.#pods.get(pod);
    if (known) return known;
    const whole = new Set(this.#pods.values()).size < this.#limit - 2 || pod === NO_POD;
    const labels = { namespace, pod: escapeOther(name) };
    const total = whole ? { labels, counts: { ...NONE } } : this.#other;
    this.#pods.set(pod, total);
    return total;
  }
}

/** The sums of one pod, with its labels. */
export interface Total {
  readonly labels: { readonly namespace: string; readonly pod: string };
  readonly counts: Record<ProtocolCounter, number>;
}

const NO_POD = JSON.stringify(['', '']);

function keyOf({ namespace, pod }: Owner): string {
  return JSON.stringify([namespace, pod]);
}
