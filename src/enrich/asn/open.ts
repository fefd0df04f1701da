import type { Clock, Timer } from '../../common/clock.ts';
import { cymruProvider, type Limits, type ServerAddress } from './cymru-whois.ts';
import { FileDatabase, type Lookup } from './file-database.ts';
import { type Provider, readAnswers } from './query-batch.ts';
import { isDatabase, type AsnProviderName } from '../../common/asn-providers.ts';
import type { Cidr } from '../../model.ts';
import type { Answer } from './cache.ts';
import { openExistingStore, type StorageConfig } from '../../store/open.ts';

/** Which provider maps addresses to ASNs. */
export interface ProviderConfig {
  readonly provider: AsnProviderName;
  /** The bulk whois server of `cymru`. */
  readonly server: ServerAddress;
  /** The file of a provider that reads one. */
  readonly database: string | null;
}

/**
 * Opens the configured provider and loads only its modules: a `Provider` is queried over the network, a
 * `FileDatabase` is a local file; null for `none`. `report` receives later failures of the file. Rejects with a
 * one-line message if the file cannot be read now.
 */
export async function openProvider(
  { provider, server, database }: ProviderConfig,
  { clock, report, limits }: { clock: Clock; report: (message: string) => void; limits?: Limits | undefined },
): Promise<Provider | FileDatabase | null> {
  if (isDatabase(provider)) {
    if (database === null) throw new Error(`Cannot use ASN provider "${provider}": no database is configured`);
    const { loadDatabase } = await import('./database-thread.ts');
    const load = (file: string): Promise<Lookup> => loadDatabase({ format: provider, file });
    return FileDatabase.open({ provider, file: database, load, clock, report });
  }
  switch (provider) {
    case 'cymru':
      return cymruProvider(server, limits);
    case 'cymru-dns':
      return (await import('./cymru-dns.ts')).cymruDnsProvider(clock);
    case 'none':
      return null;
  }
}

/** Answers that are available without a network provider. */
export interface StoredAnswers {
  /** Returns the available answers for these buckets. */
  read(buckets: readonly Cidr[]): Promise<readonly Answer[]>;
  close(): Promise<void>;
}

/**
 * Opens the file database if the provider is a file, else the store. Rejects with a one-line message if the database
 * cannot be read. Null without a provider.
 */
export async function openStoredAnswers(
  { asn, ...storage }: { readonly asn: ProviderConfig } & StorageConfig,
  { clock, report }: { clock: Timer; report: (message: string) => void },
): Promise<StoredAnswers | null> {
  if (asn.provider === 'none') return null;
  if (asn.database !== null) {
    const database = await openProvider(asn, { clock, report });
    if (database instanceof FileDatabase)
      return { read: (buckets) => database.query(buckets), close: () => Promise.resolve() };
  }
  const store = await openExistingStore(storage, { clock, report });
  return {
    read: (buckets) => readAnswers(store, buckets, clock.now()),
    close: async () => store?.close(),
  };
}
