import type { Clock, Timer } from '../../common/clock.ts';
import { cymruProvider, type Limits, type Server } from './cymru-whois.ts';
import { Database, type Lookup } from './file-database.ts';
import { type Provider, recall } from './query-batch.ts';
import type { Cidr } from '../../model.ts';
import type { Answer } from './cache.ts';
import { findStore, type StorageChoice } from '../../store/open.ts';

/** Who is to say which network operator an address belongs to. */
export interface ProviderChoice {
  readonly provider: 'cymru' | 'cymru-dns' | 'mmdb' | 'tsv' | 'none';
  /** The bulk whois server of `cymru`. */
  readonly server: Server;
  /** The file of `mmdb` and `tsv`. */
  readonly database: string | null;
}

/**
 * Opens the provider of this name and loads only what that one needs: a `Provider` is asked over the network, a `Database` is a file
 * of this host; null for none. `report` takes what goes wrong with the file later. Rejects with one line where it cannot be read now.
 */
export async function openProvider(
  { provider, server, database }: ProviderChoice,
  { clock, report, limits }: { clock: Clock; report: (message: string) => void; limits?: Limits | undefined },
): Promise<Provider | Database | null> {
  const open = (load: (file: string) => Promise<Lookup>): Promise<Database> => {
    if (database === null) throw new Error(`Cannot use ASN provider "${provider}": no database is named`);
    return Database.open({ provider, file: database, load, clock, report });
  };
  switch (provider) {
    case 'cymru':
      return cymruProvider(server, limits);
    case 'cymru-dns':
      return (await import('./cymru-dns.ts')).cymruDnsProvider(clock);
    case 'mmdb':
      return open((await import('./mmdb.ts')).loadMmdb);
    case 'tsv':
      return open((await import('./ip2asn-tsv.ts')).loadTsv);
    case 'none':
      return null;
  }
}

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
