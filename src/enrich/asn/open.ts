import type { Clock } from '../../common/clock.ts';
import { cymruProvider, type Limits, type Server } from './cymru-whois.ts';
import { Database, type Lookup } from './file-database.ts';
import type { Provider } from './query-batch.ts';

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
