/** Above so many rows it is not the walk over the hash that a read of a table costs. */
const FEW_ROWS = 64;
/** Less is not worth a word: milliseconds of a read, and of all reads of a scan. */
const SLOW_READ_MS = 1;
const SLOW_SCAN_MS = 100;

/** What the walks over the host's TCP hash took of one scan. */
export interface HashCost {
  readonly namespaces: number;
  /** Reads of tcp and tcp6, two for a namespace. */
  readonly reads: number;
  readonly msPerRead: number;
  readonly msPerScan: number;
}

/**
 * What it costs that every read of a TCP table walks the whole hash, which all network namespaces share unless
 * net.ipv4.tcp_child_ehash_entries gives each its own. Reads of few rows are nothing but that walk: their median, times all reads of
 * the scan, is the cost. The mean would blame the hash for a few reads during which the thread did not run (a CPU limit).
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

  /** The cost of the scan, the first time that it is worth a word; else null. */
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
