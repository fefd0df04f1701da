/** The workload at the other end of a connection. Both are empty if it is not known. */
export interface PeerWorkload {
  readonly namespace: string;
  readonly workload: string;
}

export const UNKNOWN_PEER: PeerWorkload = { namespace: '', workload: '' };

/** How many scans an endpoint with several peers keeps no peer: an hour at the usual interval. A label that flaps costs series. */
const SEVERAL_SCANS = 240;
const MOST_ENDPOINTS = 20_000;

interface Known {
  peer: PeerWorkload;
  seenAt: number;
  severalAt: number;
}

/**
 * The peer of each service endpoint of an owner, if there is only one. It follows from the other labels, so it adds no series: it is
 * empty if several workloads are behind the endpoint or call it, and if the endpoint is folded.
 */
export class EndpointPeers {
  readonly #known = new Map<string, Known>();
  readonly #isOn: boolean;
  #scan = 0;

  /** Without `isOn` no peer is ever known: there is no cluster that names workloads. */
  constructor(isOn = true) {
    this.#isOn = isOn;
  }

  /** Begins a scan. Forgets endpoints without connections. */
  beginScan(): void {
    this.#scan++;
    const isFull = this.#known.size > MOST_ENDPOINTS;
    if (!isFull && this.#scan % SEVERAL_SCANS !== 0) return;
    const oldest = this.#scan - (isFull ? 1 : SEVERAL_SCANS);
    for (const [key, { seenAt }] of this.#known) if (seenAt < oldest) this.#known.delete(key);
  }

  /** Takes in that a connection with these labels has this peer. */
  note(labels: Readonly<Record<string, string>>, peer: PeerWorkload): void {
    if (!this.#isOn) return;
    const key = keyOf(labels);
    const known = this.#known.get(key);
    if (!known) {
      if (this.#known.size <= 2 * MOST_ENDPOINTS)
        this.#known.set(key, { peer, seenAt: this.#scan, severalAt: -Infinity });
      return;
    }
    known.seenAt = this.#scan;
    if (known.peer.namespace === peer.namespace && known.peer.workload === peer.workload) return;
    known.peer = peer;
    known.severalAt = this.#scan;
  }

  /** The sole peer of the connections with these labels. */
  of(labels: Readonly<Record<string, string>>): PeerWorkload {
    const known = this.#isOn ? this.#known.get(keyOf(labels)) : undefined;
    return known && this.#scan - known.severalAt >= SEVERAL_SCANS ? known.peer : UNKNOWN_PEER;
  }
}

function keyOf(labels: Readonly<Record<string, string>>): string {
  const { process, namespace, workload, endpoint_group: endpoint, direction } = labels;
  return `${direction} ${process}\n${namespace}\n${workload}\n${endpoint}`;
}
