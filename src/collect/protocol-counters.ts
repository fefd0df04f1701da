import { OTHER } from '../common/other.ts';
import type { OwnerLabels } from '../model.ts';
import { parseSnmp, parseSnmp6, type SnmpCounters } from './snmp.ts';

/** The protocol counters that are published: what each is called there, and the section and name the kernel has it under. */
const PUBLISHED = {
  activeOpens: ['Tcp', 'ActiveOpens'],
  passiveOpens: ['Tcp', 'PassiveOpens'],
  attemptFails: ['Tcp', 'AttemptFails'],
  retransmittedSegments: ['Tcp', 'RetransSegs'],
  listenOverflows: ['TcpExt', 'ListenOverflows'],
  udpReceiveBufferErrors: ['Udp', 'RcvbufErrors'],
} as const;

export type ProtocolCounter = keyof typeof PUBLISHED;
export type ProtocolCounts = Readonly<Record<ProtocolCounter, number>>;

const NAMES = Object.keys(PUBLISHED) as ProtocolCounter[];
const NONE: ProtocolCounts = {
  activeOpens: 0,
  passiveOpens: 0,
  attemptFails: 0,
  retransmittedSegments: 0,
  listenOverflows: 0,
  udpReceiveBufferErrors: 0,
};

/** The published counters of one namespace, from the texts of snmp, netstat and snmp6; what is missing there counts 0. */
export function readProtocolCounts(snmp: string, netstat: string, snmp6: string): ProtocolCounts {
  const sections: SnmpCounters = new Map([...parseSnmp(snmp), ...parseSnmp(netstat)]);
  const counts: Record<ProtocolCounter, number> = { ...NONE };
  for (const name of NAMES) {
    const [section, counter] = PUBLISHED[name];
    counts[name] = sections.get(section)?.get(counter) ?? 0;
  }
  counts.udpReceiveBufferErrors += parseSnmp6(snmp6).get('Udp6RcvbufErrors') ?? 0;
  return counts;
}

/**
 * The protocol counters of all namespaces, added up by the pod that a namespace belongs to. Each adds what its namespaces counted
 * since they were last read, so that it never falls while namespaces come and go; a pod's counters end with its last namespace.
 * There are at most `limit` of them: what finds no place is added to those of `other`, and stays there as long as its pod lives.
 */
export class ProtocolCounters {
  /** TCP connections that all namespaces opened, actively and passively, between their last two readings. */
  opened = 0;
  readonly #limit: number;
  readonly #last = new Map<number, { pod: string; counts: ProtocolCounts }>();
  readonly #pods = new Map<string, Total>();
  readonly #other: Total = { labels: { namespace: OTHER, pod: OTHER }, counts: { ...NONE } };

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Begins a scan; namespaces that are not `present` any more are forgotten. */
  begin(present: (netns: number) => boolean): void {
    this.opened = 0;
    for (const netns of this.#last.keys()) if (!present(netns)) this.#last.delete(netns);
    const alive = new Set([...this.#last.values()].map(({ pod }) => pod));
    for (const pod of this.#pods.keys()) if (!alive.has(pod) && pod !== NO_POD) this.#pods.delete(pod);
  }

  /** Adds what a namespace counted since it was last added. */
  add(netns: number, owner: OwnerLabels, counts: ProtocolCounts): void {
    const pod = keyOf(owner);
    const last = this.#last.get(netns);
    const grown = (name: ProtocolCounter): number => Math.max(0, counts[name] - (last?.counts[name] ?? 0));
    const total = this.#totalOf(pod, owner);
    for (const name of NAMES) total.counts[name] += grown(name);
    if (last) this.opened += grown('activeOpens') + grown('passiveOpens');
    this.#last.set(netns, { pod, counts });
  }

  /** The sums so far: one for each pod, one for all that belongs to none, one for what found no place. */
  get totals(): readonly Total[] {
    return [...new Set(this.#pods.values())];
  }

  /** Pods that are counted under `other`. */
  get folded(): number {
    return [...this.#pods.values()].filter((total) => total === this.#other).length;
  }

  #totalOf(pod: string, { namespace, pod: name }: OwnerLabels): Total {
    const known = this.#pods.get(pod);
    if (known) return known;
    const whole = new Set(this.#pods.values()).size < this.#limit - 2 || pod === NO_POD;
    const labels = { namespace, pod: /^_*other$/.test(name) ? `_${name}` : name };
    const total = whole ? { labels, counts: { ...NONE } } : this.#other;
    this.#pods.set(pod, total);
    return total;
  }
}

/** The sums of one pod, by the names it is published under. */
export interface Total {
  readonly labels: { readonly namespace: string; readonly pod: string };
  readonly counts: Record<ProtocolCounter, number>;
}

const NO_POD = JSON.stringify(['', '']);

function keyOf({ namespace, pod }: OwnerLabels): string {
  return JSON.stringify([namespace, pod]);
}
