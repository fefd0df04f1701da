/** Above this many rows, the walk over the hash is not the main cost of a read. */
const FEW_ROWS = 64;
/** Costs below these are not reported: milliseconds of a read, and of all reads of a scan. */
const SLOW_READ_MS = 1;
const SLOW_SCAN_MS = 100;

/** The cost of walks over the TCP hash of the host in one scan. */
export interface HashCost {
  readonly namespaces: number;
  /** Reads of tcp and tcp6, two for a namespace. */
  readonly reads: number;
  readonly msPerRead: number;
  readonly msPerScan: number;
}

/**
 * Measures the cost of walks over the TCP hash. Every read of a TCP table walks the whole hash, which all network namespaces share unless
 * net.ipv4.tcp_child_ehash_entries gives each its own. A read of few rows costs only that walk: the median of such reads, times all
 * reads of the scan, is the cost. A few reads during which the thread did not run (a CPU limit) do not move the median.
 */
export class HashWalks {
  readonly #namespaces = new Set<number>();
  #reads = 0;
  /** The milliseconds of each read of few rows. */
  #shortReads: number[] = [];
  #isReported = false;

  /** Begins a scan. */
  begin(): void {
    this.#namespaces.clear();
    this.#reads = 0;
    this.#shortReads = [];
  }

  /** Adds a read of tcp or tcp6 of a namespace. */
  add(namespace: number, rows: number, ms: number): void {
    this.#namespaces.add(namespace);
    this.#reads++;
    if (rows <= FEW_ROWS && !this.#isReported) this.#shortReads.push(ms);
  }

  /** The cost of the scan, the first time that it is high; otherwise null. */
  takeCost(): HashCost | null {
    if (this.#isReported) return null;
    const sorted = this.#shortReads.sort((a, b) => a - b);
    const msPerRead = sorted[sorted.length >> 1] ?? 0;
    const msPerScan = msPerRead * this.#reads;
    if (msPerRead < SLOW_READ_MS || msPerScan < SLOW_SCAN_MS) return null;
    this.#isReported = true;
    return { namespaces: this.#namespaces.size, reads: this.#reads, msPerRead, msPerScan };
  }
}
