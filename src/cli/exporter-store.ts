import { reasonOf } from '../common/errors.ts';
import type { Config } from '../config/config.ts';
import { readAnswers } from '../enrich/asn/query-batch.ts';
import { decodePolicy, QUERY_POLICY_KEY, type QueryPolicy } from '../enrich/asn/query-policy.ts';
import type { Answer } from '../enrich/asn/cache.ts';
import type { ClusterChange } from '../enrich/kubernetes/cluster-cache.ts';
import { decodePods, STORED_PODS_KEYS } from '../enrich/kubernetes/stored-pods.ts';
import type { StoredAnswers } from '../enrich/asn/open.ts';
import type { Cidr } from '../model.ts';
import { StoreReader, UNIT_STORAGE } from '../store/sqlite-reader.ts';
import { foldersOf } from './exporter-reports.ts';
import { plural } from './terminal/format.ts';

/** What an exporter on this host stored for commands: operators and the names of pods. Read only. */
export class ExporterStore {
  readonly #reader: StoreReader;
  readonly #givesOperators: boolean;
  #podTexts = '';
  #pods = 0;

  private constructor(reader: StoreReader, givesOperators: boolean) {
    this.#reader = reader;
    this.#givesOperators = givesOperators;
  }

  /** The store of the unit, unless another is given; else the one in the configured folder. Null if there is none that can be read. */
  static open(
    config: Pick<Config, 'storagePath' | 'isStorageGiven' | 'storageServer' | 'asn'>,
    report: (line: string) => void,
  ): ExporterStore | null {
    for (const folder of foldersOf(config)) {
      const isOther = folder === UNIT_STORAGE && !config.isStorageGiven && !config.storageServer;
      const { provider, database } = config.asn;
      try {
        const reader = StoreReader.open(folder);
        if (reader) return new ExporterStore(reader, isOther && provider !== 'none' && database === null);
      } catch (error) {
        // The command opens and reports its own store itself.
        if (isOther) report(reasonOf(error));
      }
    }
    return null;
  }

  /** The stored answers for these networks; none if the command reads this store or a database itself. */
  async answers(buckets: readonly Cidr[], now: number): Promise<readonly Answer[]> {
    if (!this.#givesOperators) return [];
    return readAnswers({ read: (keys) => Promise.resolve(this.#reader.read(keys, now)) }, buckets, now);
  }

  /** What the exporter may send; null if it did not say. */
  policy(now: number): QueryPolicy | null {
    try {
      const text = this.#reader.read([QUERY_POLICY_KEY], now).get(QUERY_POLICY_KEY);
      return text === undefined ? null : decodePolicy(text);
    } catch {
      return null;
    }
  }

  /** The pods of this node, if they changed since the last call; else null. */
  changedPods(now: number): ClusterChange | null {
    let found: ReadonlyMap<string, string>;
    try {
      found = this.#reader.read(STORED_PODS_KEYS, now);
    } catch {
      return null;
    }
    const texts = [...found.values()];
    const joined = texts.join('\n');
    if (joined === this.#podTexts) return null;
    this.#podTexts = joined;
    const items = decodePods(texts);
    this.#pods = items.length;
    return { resource: 'pods', change: { kind: 'replace', items } };
  }

  /** A few words: what comes from where; null if nothing does. */
  get source(): string | null {
    const parts = [
      ...(this.#givesOperators ? ['operators'] : []),
      ...(this.#pods > 0 ? [`names of ${plural(this.#pods, 'pod')}`] : []),
    ];
    return parts.length === 0 ? null : `${parts.join(' and ')} from the exporter's store "${this.#reader.folder}"`;
  }

  close(): void {
    this.#reader.close();
  }
}

/** The answers of the exporter, and from the own store what it does not know. */
export async function readKnown(
  exporter: ExporterStore | null,
  own: StoredAnswers | null,
  buckets: readonly Cidr[],
  now: number,
): Promise<readonly Answer[]> {
  const known = (await exporter?.answers(buckets, now)) ?? [];
  const found = new Set(known.map(({ bucket }) => bucket));
  const others = buckets.filter((bucket) => !found.has(bucket));
  return [...known, ...((await own?.read(others)) ?? [])];
}
