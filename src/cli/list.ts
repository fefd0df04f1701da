import { cidrContains } from '../address.ts';
import { SYSTEM_CLOCK } from '../clock.ts';
import type { Config } from '../config.ts';
import { Commands } from '../collect/commands.ts';
import type { Procfs } from '../collect/procfs.ts';
import { openSource } from '../collect/source.ts';
import { AsnCache } from '../enrich/asn.ts';
import { openKnown } from '../enrich/known.ts';
import { hasNames } from '../enrich/networks.ts';
import { parseFilters } from '../filter.ts';
import type { Address, Row, Rules } from '../model.ts';
import { rowsOf } from '../row.ts';
import { Scrape } from '../scrape.ts';
import { readServices } from '../services.ts';
import { ROW_COLUMNS } from './row-output.ts';
import { renderTable } from './table.ts';

/** Which connections are listed, and by which names. */
export interface ListOptions {
  readonly filters: readonly string[];
  /** Whether the host's resolver is asked for the names of remotes. */
  readonly resolve?: boolean | undefined;
  /** The services database; by default that of the host. */
  readonly services?: string;
}

const RESOLVE_MS = 3_000;

/** Where a command prints. */
export interface Streams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/**
 * Prints the connections that the filters want, as a table or as one JSON array; ASNs come from what is known already, and names
 * of remotes from the host's resolver, where that is wanted. The coverage line speaks of all connections: what has no process cannot meet a filter that names one.
 */
export async function list(
  config: Config,
  output: 'table' | 'json',
  { stdout, stderr }: Streams,
  { filters, resolve = false, services }: ListOptions,
): Promise<number> {
  const wants = parseFilters(filters);
  const cache = config.asn.provider === 'none' ? null : new AsnCache();
  const collectors = { ...config.collectors, 'first-seen': false };
  const source = openSource(config.source, config.procfs);
  const scrape = new Scrape(source, { ...config, collectors }, SYSTEM_CLOCK, cache);
  const { unreadableNamespaces } = scrape.run(Infinity);
  const report = (line: string): void => void stderr.write(`${line}\n`);
  const known = cache && (await openKnown(config, { clock: SYSTEM_CLOCK, report }));
  if (known) scrape.learn(cache.accept(await known.recall(cache.takeQuestions())));
  await known?.close();
  const remote = resolve ? await namesOf(scrape, config.rules) : (): null => null;
  const all = rowsOf(scrape, { service: readServices(services), remote });
  const rows = all.filter(wants);
  if (output === 'json') {
    stdout.write(`[${rows.map((row) => `\n${JSON.stringify(row)}`).join(',')}\n]\n`);
    stderr.write(`${coverage(all, unreadableNamespaces, source)}\n`);
  } else {
    stdout.write(renderTable(ROW_COLUMNS, rows));
    stdout.write(`${coverage(all, unreadableNamespaces, source)}\n`);
  }
  return 0;
}

/** Asks the host's own resolver for the names of the remotes; none that the operator never sends to a provider, none of fixed meaning. */
async function namesOf(scrape: Scrape, { asnNeverSend }: Rules): Promise<(address: Address) => string | null> {
  const { ReverseDns } = await import('../enrich/rdns.ts');
  const mayAsk = (address: Address): boolean => !asnNeverSend.some((cidr) => cidrContains(cidr, address));
  const names = new ReverseDns({ clock: SYSTEM_CLOCK, mayAsk });
  const remotes = [...scrape.connections.indexes()].filter((i) => hasNames(scrape.peerOf(i)?.network ?? 'self'));
  await names.ask(
    remotes.map((i) => scrape.connections.remoteAddress(i)),
    RESOLVE_MS,
  );
  return (address) => names.nameOf(address);
}

/** One line on what could not be seen, and why. */
export function coverage(rows: readonly Row[], unreadableNamespaces: number, source: Procfs | Commands): string {
  const reasons = new Map<string, number>();
  for (const { unattributed_reason: reason } of rows) if (reason) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const unattributed = [...reasons.values()].reduce((total, count) => total + count, 0);
  const why = [...reasons].sort().map(([reason, count]) => `${count} ${MEANING[reason] ?? reason}`);
  const total = `${rows.length} ${rows.length === 1 ? 'socket' : 'sockets'}`;
  const parts = [unattributed === 0 ? total : `${unattributed} of ${total} without a process: ${why.join(', ')}`];
  if (unattributed === 0 && rows.length > 0) parts.push('all with their process');
  if (unreadableNamespaces > 0) parts.push(`${unreadableNamespaces} network namespaces could not be read`);
  if (source instanceof Commands) parts.push(`told by ${source.last ?? 'nobody'}: no namespaces, no containers`);
  if (source instanceof Commands && source.malformed > 0) parts.push(`${source.malformed} lines could not be read`);
  return parts.join(', ');
}

const MEANING: Readonly<Record<string, string>> = {
  permission: 'perhaps of a process that may not be read',
  no_descriptor: 'held by no process',
  vanished: 'vanished',
  other_pid_namespace: 'in another PID namespace',
};
