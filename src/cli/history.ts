import { parseFilters } from '../rows/filter.ts';
import { reasonOf, UsageError } from '../common/errors.ts';
import type { Timer } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { parseOrigin } from '../enrich/asn/cache.ts';
import type { Direction, Row } from '../model.ts';
import { formatStorage } from '../store/open.ts';
import { StoreReader } from '../store/sqlite-reader.ts';
import { CONTACT_PREFIXES, Contacts } from '../unusual/contacts.ts';
import { withoutRelease } from '../unusual/grammar/what.ts';
import { ownerJson, timeText } from '../unusual/summary.ts';
import type { ApiClient } from './api-client.ts';
import { foldersOf } from './exporter-reports.ts';
import { jsonLine, plural } from './terminal/format.ts';
import { csvRecord, operatorOf } from './terminal/row-columns.ts';
import { layTable, type Column, type Display } from './terminal/table.ts';
import { wrap } from './terminal/width.ts';

/** Options of `history`, as unparsed text. */
export interface HistoryOptions {
  readonly filters: readonly string[];
  readonly since?: string;
  readonly sort: string;
  readonly output: 'table' | 'json' | 'jsonl' | 'csv';
  /** The API of an exporter to read instead of a store. */
  readonly client?: ApiClient | undefined;
  readonly display: Display;
  /** Replaces characters that the terminal cannot show; null if it shows all. */
  readonly encode?: ((text: string) => string) | null;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly clock: Timer;
}

/** That a workload was connected to an operator. Times are RFC 3339. */
export interface HistoryRow {
  readonly namespace: string | null;
  readonly workload: string;
  readonly direction: Direction;
  readonly asn: number;
  readonly as_name: string | null;
  readonly first_seen: string;
  /** Accurate to a day in a store, because that is written once a day. */
  readonly last_seen: string;
}

const KEYS = ['namespace', 'workload', 'direction', 'asn', 'as_name', 'first_seen', 'last_seen'] as const;

const COLUMNS: readonly Column<HistoryRow>[] = [
  { title: 'FIRST SEEN', cell: (row) => timeOf(row.first_seen) },
  { title: 'LAST SEEN', cell: (row) => timeOf(row.last_seen), dropOrder: 3 },
  { title: 'DIRECTION', cell: (row) => row.direction, dropOrder: 2 },
  {
    title: 'WORKLOAD',
    cell: ({ namespace, workload }) => (namespace === null ? workload : `${namespace}/${workload}`),
    minWidth: 10,
    tightWidth: 8,
  },
  { title: 'OPERATOR', cell: operator, minWidth: 18, tightWidth: 10 },
];

/** The keys that --sort accepts, and their headings. */
const SORT_KEYS: Readonly<Record<string, (typeof KEYS)[number] | 'operator'>> = {
  ...Object.fromEntries(KEYS.map((key) => [key, key])),
  'first seen': 'first_seen',
  'last seen': 'last_seen',
  first: 'first_seen',
  last: 'last_seen',
  operator: 'operator',
};

/**
 * Prints which workload was connected to which operator, when first and when last, from the store or the API of an exporter. Throws
 * UsageError for an invalid option, and a one-line Error if there is nothing to read. Returns 0, or 1 after a message.
 */
export async function history(config: Config, options: HistoryOptions): Promise<number> {
  const { output, display, stdout, stderr, clock } = options;
  const matches = parseFilters(options.filters);
  const since = options.since === undefined ? -Infinity : clock.now() - parseSince(options.since);
  const compare = parseSort(options.sort);
  const found = await readHistory(config, options);
  if (!found) return 1;
  const rows = found.rows.filter((row) => Date.parse(row.first_seen) >= since && matches(asRow(row)));
  rows.sort(compare);
  const summary = `${plural(rows.length, 'entry', 'entries')} from ${found.source}`;
  switch (output) {
    case 'json':
      stdout.write(`[${rows.map((row) => `\n${jsonLine(row)}`).join(',')}\n]\n`);
      break;
    case 'jsonl':
      stdout.write(rows.map((row) => `${jsonLine(row)}\n`).join(''));
      break;
    case 'csv':
      stdout.write([KEYS, ...rows.map((row) => KEYS.map((key) => row[key]))].map(csvRecord).join(''));
      break;
    case 'table': {
      const { title, lines } = layTable(COLUMNS, rows, display);
      const end = wrap(summary, display.width).map((line) => display.paint(line, 'faint'));
      const text = [title, ...lines, ...end].map((line) => `${line}\n`).join('');
      stdout.write(options.encode?.(text) ?? text);
      return 0;
    }
  }
  stderr.write(`${summary}\n`);
  return 0;
}

/** What is remembered, for other commands; empty if it cannot be read. */
export async function knownHistory(
  config: Config,
  options: Pick<HistoryOptions, 'client' | 'clock'>,
): Promise<readonly HistoryRow[]> {
  try {
    return (await readHistory(config, { ...options, stderr: { write: () => undefined } }))?.rows ?? [];
  } catch {
    return [];
  }
}

/** Whether an entry is about the owner of a row. */
export function isOfOwner(entry: HistoryRow, { namespace, workload, process }: Row): boolean {
  return entry.namespace === namespace && entry.workload === (workload ?? withoutRelease(process ?? ''));
}

/** The rows, and where they are from in words. */
interface Found {
  readonly rows: HistoryRow[];
  readonly source: string;
}

/** Null after a message. Rejects with a one-line Error. */
async function readHistory(
  config: Config,
  { client, stderr, clock }: Pick<HistoryOptions, 'client' | 'stderr' | 'clock'>,
): Promise<Found | null> {
  if (client) {
    const { historyOfApi } = await import('./api-answers.ts');
    return { rows: await historyOfApi(client), source: `the exporter at ${JSON.stringify(client.url)}` };
  }
  if (!config.storageServer) return readFolder(config, clock.now());
  const { readAllRecords, withStore } = await import('./stored-records.ts');
  const contacts = new Contacts();
  const task = 'read the history';
  const code = await withStore(config, { task, stderr, clock }, async (store) => {
    const records = await readAllRecords(store, CONTACT_PREFIXES);
    if (!records) stderr.write(`Cannot ${task}: the store failed\n`);
    for (const record of records ?? []) contacts.addRecord(record, clock.now());
    return records ? 0 : 1;
  });
  // A server stores the names of operators by network, which the entries do not have.
  return code === 0 ? { rows: rowsOf(contacts, new Map()), source: `the store ${formatStorage(config)}` } : null;
}

/** Reads the store in the configured folder, or in that of the unit if none is configured, without a lock. */
function readFolder(config: Config, now: number): Found {
  const folders = foldersOf(config);
  for (const folder of folders) {
    const reader = StoreReader.open(folder);
    if (!reader) continue;
    try {
      return { rows: readRows(reader, now), source: `the store in "${reader.folder}"` };
    } catch (error) {
      throw new Error(`Cannot read the history from "${reader.folder}": ${reasonOf(error)}`, { cause: error });
    } finally {
      reader.close();
    }
  }
  const tried = folders.map((folder) => `"${folder}"`).join(' and ');
  throw new Error(
    `Cannot read the history: no store in ${tried} that this user can read. Run as the user of the exporter, or set --storage.path`,
  );
}

function readRows(reader: StoreReader, now: number): HistoryRow[] {
  const names = new Map<number, string>();
  for (const text of reader.texts('asn:1:', now)) {
    const { asns: [asn] = [], name } = parseOrigin(text) ?? {};
    if (asn !== undefined && name) names.set(asn, name);
  }
  const contacts = new Contacts();
  for (const prefix of CONTACT_PREFIXES) for (const record of reader.records(prefix)) contacts.addRecord(record, now);
  for (const { key, at, lastAt } of reader.firstSeen(now)) {
    const text = key.startsWith('first:') ? String(at) : JSON.stringify([at, at, at]);
    contacts.addRecord({ key, text }, now, lastAt);
  }
  return rowsOf(contacts, names);
}

function rowsOf(contacts: Contacts, names: ReadonlyMap<number, string>): HistoryRow[] {
  return contacts.sorted().map(({ owner, direction, asn, firstAt, lastAt }) => ({
    ...ownerJson(owner),
    ...{ direction, asn, as_name: names.get(asn) ?? null, first_seen: timeText(firstAt), last_seen: timeText(lastAt) },
  }));
}

/** Its fields as a row, for filters. Other fields are unknown. */
function asRow({ namespace, workload, direction, asn, as_name }: HistoryRow): Row {
  const known: Partial<Row> = { namespace, workload, direction, asn, as_name, network: 'public', pids: [] };
  return new Proxy(known as Row, { get: (row, key) => row[key as keyof Row] ?? null });
}

function parseSince(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,6}(?:\.\d+)?)([smhdw])$/.exec(text) ?? [];
  const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 };
  const seconds = units[unit];
  if (seconds === undefined)
    throw new UsageError(`Cannot use --since ${JSON.stringify(text)}: must be a duration such as 90m, 24h or 7d`);
  return Number(number) * seconds * 1_000;
}

function parseSort(text: string): (a: HistoryRow, b: HistoryRow) => number {
  const orders = text.split(',').map((part) => {
    const [, name = '', direction = 'asc'] = /^([^:]*)(?::(asc|desc))?$/.exec(part.trim().toLowerCase()) ?? [];
    const key = Object.hasOwn(SORT_KEYS, name) ? SORT_KEYS[name] : undefined;
    if (key === undefined)
      throw new UsageError(
        `Cannot use --sort ${JSON.stringify(text)}: ${JSON.stringify(part)} must be one of ${KEYS.join(', ')}, optionally followed by :desc`,
      );
    return { key, sign: direction === 'desc' ? -1 : 1 };
  });
  return (a, b) => {
    for (const { key, sign } of orders) {
      const [left, right] = key === 'operator' ? [operator(a), operator(b)] : [a[key], b[key]];
      if (left === right) continue;
      if (left === null || right === null) return left === null ? 1 : -1;
      return sign * (left < right ? -1 : 1);
    }
    return 0;
  };
}

function operator({ asn, as_name }: HistoryRow): string {
  return operatorOf({ asn, as_name, network: 'public' });
}

function timeOf(text: string): string {
  return text.slice(0, 16).replace('T', ' ');
}
