import type { HashCost } from '../collect/hash-walks.ts';
import type { Commands } from '../collect/ss-netstat.ts';
import { Procfs } from '../collect/procfs.ts';
import { parseAddress } from '../common/address.ts';
import type { Log } from '../common/log.ts';
import { classify } from '../common/network-class.ts';
import { isUncoordinated, type Config } from '../config/config.ts';
import { FileDatabase } from '../enrich/asn/file-database.ts';
import { formatStorage } from '../store/open.ts';
import type { Access } from '../web/access.ts';
import type { RunningServices } from './services.ts';

/** What the start line is about. */
export interface StartedParts {
  readonly addresses: readonly string[];
  readonly source: Procfs | Commands;
  readonly access: Access | null;
  readonly services: Pick<RunningServices, 'provider' | 'watched'>;
}

/**
 * Logs one line: what runs, what it reads, who can read it, and what leaves the host. In a log for people, a line with the address of the
 * status page comes first.
 */
export function logStart(
  config: Config,
  log: Log,
  version: string,
  { addresses, source, access, services: { provider, watched } }: StartedParts,
): void {
  const queriesServer = provider !== null && !(provider instanceof FileDatabase);
  const sent = [
    ...(queriesServer ? ['network address of the /24 or /48 of public peers'] : []),
    ...(config.collectors.rdns ? ["addresses of remotes to the host's resolver"] : []),
    ...(config.otlp ? ['the metrics by otlp'] : []),
    ...(config.storageServer
      ? ['ASNs of peers and the time each process first connected to them, to the shared store']
      : []),
    ...(watched ? ['the name of the node to the kubernetes api'] : []),
  ];
  const authentication = access?.authentication ?? 'none';
  const isOpen = authentication === 'none' && addresses.some(isExposed);
  const url = urlOf(addresses, Boolean(access?.tls));
  if (config.log.format === 'text' && url !== null) log.info(`peerscope ${version} is running: open ${url}`);
  log[isOpen ? 'warn' : 'info'](
    {
      version,
      ...(source instanceof Procfs
        ? { procfs: config.procfs, owners_through: source.access }
        : { source: source.last, lacks: 'namespaces, containers, counters, and process details except pid and name' }),
      listen: addresses.join(' '),
      tls: Boolean(access?.tls),
      authentication,
      storage: formatStorage(config),
      asn_provider: provider === null ? 'none' : config.asn.provider,
      ...(provider instanceof FileDatabase ? { asn_database: provider.file } : {}),
      ...(queriesServer ? { asn_server: provider.server } : {}),
      sends: sent.join(' and ') || 'nothing',
      ...(queriesServer ? { off: '--asn.provider=none' } : {}),
      ...(config.otlp ? { otlp_endpoint: shownUrl(config.otlp.url) } : {}),
      ...(watched ? { kubernetes: watched.join(' ') } : {}),
      ...(isOpen
        ? { warning: 'without authentication, anyone who can reach the listen address can read the metrics' }
        : {}),
    },
    'peerscope started',
  );
  if (queriesServer && isUncoordinated(config))
    log.warn(
      { advice: 'share answers through --storage.url, or use a database with --asn.provider=mmdb or tsv' },
      'the exporters of this cluster share no store: each queries the whois server once in ten minutes',
    );
}

/** Logs what the walks over the TCP hash of the host cost, and the setting that makes them cheap. */
export function logHashCost(log: Log, { namespaces, reads, msPerRead, msPerScan }: HashCost): void {
  log.info(
    {
      namespaces,
      tcp_table_reads: reads,
      ms_per_read: Number(msPerRead.toFixed(2)),
      ms_per_scan: Math.round(msPerScan),
      advice:
        'set net.ipv4.tcp_child_ehash_entries=4096 (Linux 6.1 and later): network namespaces made after that get a small hash of their own',
    },
    'a scan is slow because each read of the TCP tables of a network namespace walks the TCP hash of the whole host',
  );
}

/** Logs that bytes and ended connections are read from now on, or why they are not. */
export function logSocketSource(log: Log, failure: string | null): void {
  if (failure === null) log.info('bytes and ended connections are read through netlink');
  else log.warn({ reason: failure }, 'bytes and ended connections are not read: sockets come from procfs alone');
}

/** The URL of the status page for a browser on this machine; null without a TCP address. */
export function urlOf(addresses: readonly string[], tls: boolean): string | null {
  const [address] = addresses.filter((one) => !one.startsWith('unix:'));
  if (address === undefined) return null;
  return `${tls ? 'https' : 'http'}://${address.replace(/^(\[::\]|0\.0\.0\.0)(?=:\d+$)/, 'localhost')}`;
}

/** False for an address that only this machine can reach. */
function isExposed(shown: string): boolean {
  if (shown.startsWith('unix:')) return false;
  const address = parseAddress(shown.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
  return address === undefined || classify(address).network !== 'loopback';
}

/** A URL without its possibly secret parts: user, password and query. */
export function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}
