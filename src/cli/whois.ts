import type { Timer } from '../common/clock.ts';
import { formatAddress, parseAddress } from '../common/address.ts';
import { AsnCache, openCache, type Answer } from '../enrich/asn/cache.ts';
import type { Limits } from '../enrich/asn/cymru-whois.ts';
import { FileDatabase } from '../enrich/asn/file-database.ts';
import { mayQuery, networkOf } from '../common/network-class.ts';
import { openProvider, type ProviderConfig } from '../enrich/asn/open.ts';
import { queryOnce } from '../enrich/asn/query-scheduler.ts';
import { readAnswers, type Provider } from '../enrich/asn/query-batch.ts';
import { openStore, type StorageConfig } from '../store/open.ts';
import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import type { Address, Origin, Remote, Rules } from '../model.ts';
import { linesOf } from '../parse/line-splitter.ts';
import { csvRecord } from './terminal/row-columns.ts';
import { renderTable, type Column } from './terminal/table.ts';
import { jsonLine } from './terminal/format.ts';

/** Options of `whois`. Nothing is stored if `storagePath` and `storageServer` are null. */
export interface WhoisOptions extends ProviderConfig, StorageConfig {
  readonly output: 'table' | 'json' | 'jsonl' | 'csv';
  readonly rules: Pick<Rules, 'networks' | 'asnNeverSend'>;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly clock: Timer;
  /** Returns a number in [0, 1). */
  readonly random: () => number;
  readonly limits?: Limits;
  /** Cancels the query; known results are printed. */
  readonly signal?: AbortSignal;
}

/** The capacity of the cache. */
const MAX_ADDRESSES = 50_000;

interface WhoisRow {
  readonly address: string;
  readonly network: string;
  readonly asn: number | null;
  readonly asns: readonly number[] | null;
  readonly as_name: string | null;
  readonly as_country: string | null;
  readonly bgp_prefix: string | null;
  readonly registry: string | null;
  readonly registry_country: string | null;
}

/**
 * Prints the network operator of each address, in input order. Answers come from the store, then from the provider. Only public
 * addresses are queried, and only their /24 or /48 is sent. An invalid address, or more than 50,000 addresses, is reported as one
 * line. A stream is read line by line with `linesOf`; after the signal, the addresses read so far are used.
 * Resolves with the exit code: 2 for an invalid argument, 1 for an invalid line of a stream or if the provider fails, else 0.
 */
export async function whois(
  addresses: AsyncIterable<Uint8Array> | readonly string[],
  options: WhoisOptions,
): Promise<number> {
  const { stdout, stderr, rules, output, clock, limits, signal } = options;
  const isList = isArguments(addresses);
  const report = (message: string): void => void stderr.write(`${withoutControls(message)}\n`);
  const provider = await openProvider(options, { clock, report, limits });
  const rows: { readonly address: Address; readonly remote: Remote }[] = [];
  const cache = openCache(options.provider) ?? new AsnCache();
  const isQueryable = (remote: Remote): boolean =>
    mayQuery(remote, rules.asnNeverSend, rules.networks, cache.blockOf(remote.address));
  let code = 0;
  for await (const line of isList ? addresses : textsOf(addresses, signal)) {
    if (rows.length === MAX_ADDRESSES) {
      stderr.write(`Cannot look up more than ${MAX_ADDRESSES} addresses at once\n`);
      code ||= 1;
      break;
    }
    const text = line.trim();
    const address = parseScopedAddress(text);
    if (address) {
      const remote = networkOf(address, () => false, rules.networks);
      rows.push({ address, remote });
      if (isQueryable(remote)) cache.lookup(remote.address, clock.now());
    } else if (text !== '' || isList) {
      stderr.write(`Cannot read address "${cleanLabel(text)}": must be an IPv4 or IPv6 address\n`);
      code = isList ? 2 : 1;
    }
  }
  const failure = await resolve(cache, provider, report, options);
  if (failure !== null) {
    stderr.write(`${withoutControls(failure)}\n`);
    code ||= 1;
  }
  const now = clock.now();
  const described = rows.map(({ address, remote }) => {
    const origin = isQueryable(remote) ? cache.lookup(remote.address, now) : null;
    return describe(address, remote, origin);
  });
  stdout.write(render(described, output));
  return code;
}

function isArguments(addresses: AsyncIterable<Uint8Array> | readonly string[]): addresses is readonly string[] {
  return Array.isArray(addresses);
}

async function* textsOf(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): AsyncGenerator<string> {
  try {
    for await (const lines of linesOf(chunks)) for (const { text } of lines) yield* text.split('\r');
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
}

/** Parses an address and ignores the zone of an IPv6 address, which names a local interface. */
function parseScopedAddress(text: string): Address | undefined {
  return parseAddress(text.includes(':') ? text.replace(/%.*$/s, '') : text);
}

/** Resolves the open questions of the cache. Returns null, or one line with the reason why some have no fresh answer. */
async function resolve(
  cache: AsnCache,
  provider: Provider | FileDatabase | null,
  report: (message: string) => void,
  options: WhoisOptions,
): Promise<string | null> {
  const { clock, random, signal } = options;
  const buckets = cache.takeQueries();
  if (buckets.length === 0) return null;
  const onAnswers = (answers: readonly Answer[]): void => void cache.accept(answers);
  const unresolved = (answered: number, what: string, reason: string): string | null => {
    const open = buckets.length - answered;
    return open === 0 ? null : `Cannot resolve ${open} of ${buckets.length} ${what}: ${reason}`;
  };
  if (provider instanceof FileDatabase) {
    const answers = await provider.query(buckets);
    onAnswers(answers);
    return unresolved(answers.length, 'addresses', `not in "${provider.file}"`);
  }
  const store = await openStore(options, { clock, report });
  try {
    if (provider === null) {
      const answers = await readAnswers(store, buckets, clock.now());
      onAnswers(answers);
      return unresolved(answers.length, 'networks', '--asn.provider is "none"');
    }
    const queryContext = { provider, store, onAnswers, report, clock, random };
    return await queryOnce(buckets, queryContext, signal ?? new AbortController().signal);
  } finally {
    await store?.close();
  }
}

function describe(address: Address, remote: Remote, origin: Origin | null): WhoisRow {
  const asns = origin?.asns ?? (remote.asn === null ? null : [remote.asn]);
  return {
    address: formatAddress(address),
    network: remote.network,
    asn: asns && (asns[0] ?? 0),
    asns,
    as_name: origin ? origin.name : remote.asn === null ? null : remote.network,
    as_country: origin?.asCountry ?? null,
    bgp_prefix: origin?.prefix ?? null,
    registry: origin?.registry ?? null,
    registry_country: origin?.registryCountry ?? null,
  };
}

function render(rows: readonly WhoisRow[], output: WhoisOptions['output']): string {
  switch (output) {
    case 'json':
      return `[${rows.map((row) => `\n${jsonLine(row)}`).join(',')}\n]\n`;
    case 'jsonl':
      return rows.map((row) => `${jsonLine(row)}\n`).join('');
    case 'csv':
      return renderCsv(rows);
    case 'table':
      return renderTable(TABLE_COLUMNS, rows);
  }
}

const TABLE_COLUMNS: readonly Column<WhoisRow>[] = [
  { title: 'ADDRESS', cell: (row) => row.address },
  { title: 'ASN', cell: (row) => String(row.asn ?? '-'), right: true },
  { title: 'AS NAME', cell: (row) => (row.asn === 0 ? 'not announced' : (row.as_name ?? '-')) },
  { title: 'PREFIX', cell: (row) => row.bgp_prefix ?? '-' },
  { title: 'REGISTRY', cell: (row) => row.registry ?? '-' },
  { title: 'REGISTRY COUNTRY', cell: (row) => row.registry_country ?? '-' },
  { title: 'NETWORK', cell: (row) => row.network },
];

const CSV_COLUMNS = [
  'address',
  'network',
  'asn',
  'asns',
  'as_name',
  'as_country',
  'bgp_prefix',
  'registry',
  'registry_country',
] as const;

function renderCsv(rows: readonly WhoisRow[]): string {
  return csvRecord(CSV_COLUMNS) + rows.map((row) => csvRecord(CSV_COLUMNS.map((column) => row[column]))).join('');
}
