import type { Timer } from '../../common/clock.ts';
import type { Cidr } from '../../model.ts';
import type { Answer } from './cache.ts';
import { Database } from './file-database.ts';
import { openProvider, type ProviderChoice } from './open.ts';
import { recall } from './query-batch.ts';
import { findStore, type StorageChoice } from '../../store/open.ts';

/** What can be told of networks without asking anybody over the network of the provider. */
export interface KnownAnswers {
  /** The answers that there are for these buckets. */
  recall(buckets: readonly Cidr[]): Promise<readonly Answer[]>;
  close(): Promise<void>;
}

/**
 * Opens what is known already: the database of this host where the provider is one, else the store of those who ask. Rejects with
 * one line where the database cannot be read; null where there is no provider.
 */
export async function openKnown(
  { asn, ...storage }: { readonly asn: ProviderChoice } & StorageChoice,
  { clock, report }: { clock: Timer; report: (message: string) => void },
): Promise<KnownAnswers | null> {
  if (asn.provider === 'none') return null;
  if (asn.database !== null) {
    const database = await openProvider(asn, { clock, report });
    if (database instanceof Database)
      return { recall: (buckets) => database.ask(buckets), close: () => Promise.resolve() };
  }
  const store = await findStore(storage, { clock, report });
  return {
    recall: (buckets) => recall(store, buckets, clock.now()),
    close: async () => store?.close(),
  };
}
