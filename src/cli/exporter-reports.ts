import type { Config } from '../config/config.ts';
import { UNIT_STORAGE, StoreReader } from '../store/sqlite-reader.ts';
import { Expectations } from '../unusual/expectations.ts';
import { SUMMARY_PREFIXES, summarize, type Summary } from '../unusual/summary.ts';

/** Workloads that `lines` names. */
const MOST_WORKLOADS = 5;

/** The reports and decisions in the store folder of the exporter, read only. */
export class ExporterReports {
  readonly #reader: StoreReader;
  readonly #expectations: Expectations;

  private constructor(reader: StoreReader, expectations: Expectations) {
    this.#reader = reader;
    this.#expectations = expectations;
  }

  /**
   * Opens the first folder with a store that this user can read: that of the systemd unit unless another is given, then the configured
   * one. Null if there is none. Throws a one-line Error if another user could have written the store.
   */
  static open(config: Pick<Config, 'storagePath' | 'isStorageGiven' | 'rules'>): ExporterReports | null {
    for (const folder of foldersOf(config)) {
      const reader = StoreReader.open(folder);
      if (reader) return new ExporterReports(reader, new Expectations(config.rules));
    }
    return null;
  }

  /** What is unusual in the hour before `now`, in milliseconds since 1970. */
  summary(now: number): Summary {
    const records = SUMMARY_PREFIXES.flatMap((prefix) => this.#reader.records(prefix));
    return summarize(records, this.#expectations, now);
  }

  /** The same, and closes the store. */
  summaryOnce(now: number): Summary {
    try {
      return this.summary(now);
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#reader.close();
  }
}

/** Where the store of the exporter may be. */
export function foldersOf({ storagePath, isStorageGiven }: Pick<Config, 'storagePath' | 'isStorageGiven'>): string[] {
  return [...(isStorageGiven ? [] : [UNIT_STORAGE]), ...(storagePath === null ? [] : [storagePath])];
}

/** One line for each unusual workload, most unusual first, and for the rest together. */
export function unusualLines({ unusual }: Pick<Summary, 'unusual'>): string[] {
  const lines = unusual
    .slice(0, MOST_WORKLOADS)
    .map(({ owner: { namespace, workload }, severity, points, reports }) => {
      const name = namespace === '' ? workload : `${namespace}/${workload}`;
      const sum = `${severity}, ${points} ${points === 1 ? 'point' : 'points'}`;
      return `Unusual: ${name} (${sum}): ${reports.map(({ what }) => what).join(', ')}`;
    });
  const more = unusual.length - lines.length;
  return more > 0 ? [...lines, `Unusual: ${more} more, see peerscope unusual`] : lines;
}
