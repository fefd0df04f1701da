import { parseFilters } from '../rows/filter.ts';
import { reasonOf, UsageError } from '../common/errors.ts';
import type { Config } from '../config/config.ts';
import { parseOrigin } from '../enrich/asn/cache.ts';
import type { Direction, Row } from '../model.ts';
import { formatStorage } from '../store/open.ts';
import { StoreReader, UNIT_STORAGE } from '../store/sqlite-reader.ts';
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
  readonly display: Display;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** That an owner was connected to an operator. `direction` is null if it was a guess. */
export interface HistoryRow {
  readonly process: string | null;
  readonly namespace: string | null;
  readonly workload: string | null;
  readonly direction: Direction | null;
  readonly asn: number;
  readonly as_name: string | null;
  readonly first_seen: string;
  /** Accurate to a day, because the store is written once a day. */
  readonly last_seen: string;
}

const KEYS = ['process', 'namespace', 'workload', 'direction', 'asn', 'as_name', 'first_seen', 'last_seen'] as const;

const COLUMNS: readonly Column<HistoryRow>[] = [
  { title: 'FIRST SEEN', cell: (row) => timeOf(row.first_seen) },
  { title: 'LAST SEEN', cell: (row) => timeOf(row.last_seen), dropOrder: 3 },
  { title: 'DIRECTION', cell: (row) => row.direction ?? '-', dropOrder: 2 },
  { title: 'PROCESS', cell: (row) => row.process ?? '-', minWidth: 10, tightWidth: 8 },
  {
    title: 'WORKLOAD',
    cell: ({ namespace, workload }) => [namespace, workload].filter((part) => part !== null).join('/') || '-',
    minWidth: 10,
    dropOrder: 4,
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
 * Prints which owner was connected to which operator, when first and when last, from the store of the exporter. Throws UsageError for an
 * invalid option, and a one-line Error if there is no store to read. Returns exit code 0.
 */
export function history(config: Config, options: HistoryOptions): number {
  const { output, display, stdout, stderr, now } = options;
  const matches = parseFilters(options.filters);
  const since = options.since === undefined ? -Infinity : now - parseSince(options.since);
  const compare = parseSort(options.sort);
  const reader = openReader(config);
  let rows: HistoryRow[];
  try {
    rows = readRows(reader, now).filter((row) => Date.parse(row.first_seen) >= since && matches(asRow(row)));
  } finally {
    reader.close();
  }
  rows.sort(compare);
  const summary = `${plural(rows.length, 'entry', 'entries')} from the store in "${reader.folder}"`;
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
      stdout.write([title, ...lines, ...end].map((line) => `${line}\n`).join(''));
      return 0;
    }
  }
  stderr.write(`${summary}\n`);
  return 0;
}

/** What the store remembers, for other commands; empty if it cannot be read. */
export function knownHistory(config: Config, now: number): readonly HistoryRow[] {
  try {
    const reader = config.storageServer ? null : findReader(config);
    if (!reader) return [];
    try {
      return readRows(reader, now);
    } finally {
      reader.close();
    }
  } catch {
    return [];
  }
}

function foldersOf({ storagePath, isStorageGiven }: Config): string[] {
  return [...(isStorageGiven ? [] : [UNIT_STORAGE]), ...(storagePath === null ? [] : [storagePath])];
}

/** The store in the configured folder, or in that of the unit if none is configured; null if it does not exist. */
function findReader(config: Config): StoreReader | null {
  for (const folder of foldersOf(config)) {
    const reader = StoreReader.open(folder);
    if (reader) return reader;
  }
  return null;
}

function openReader(config: Config): StoreReader {
  if (config.storageServer) {
    const server = formatStorage(config) ?? '';
    throw new Error(`Cannot read the history from "${server}": only a storage folder can be listed`);
  }
  const reader = findReader(config);
  if (reader) return reader;
  const tried = foldersOf(config)
    .map((folder) => `"${folder}"`)
    .join(' and ');
  throw new Error(
    `Cannot read the history: no store in ${tried} that this user can read. Run as the user of the exporter, or set --storage.path`,
  );
}

function readRows(reader: StoreReader, now: number): HistoryRow[] {
  const names = new Map<number, string>();
  try {
    for (const text of reader.texts('asn:1:', now)) {
      const { asns: [asn] = [], name } = parseOrigin(text) ?? {};
      if (asn !== undefined && name) names.set(asn, name);
    }
    return [...reader.firstSeen(now)].flatMap(({ category, key, at, lastAt }) => {
      const fields = category === 'baseline' ? null : fieldsOf(key);
      if (!fields) return [];
      const [process = '', namespace = '', workload = '', direction = '', asn = ''] = fields;
      return {
        process: process || null,
        namespace: namespace || null,
        workload: workload || null,
        direction: (direction || null) as Direction | null,
        asn: Number(asn),
        as_name: names.get(Number(asn)) ?? null,
        first_seen: new Date(at).toISOString(),
        last_seen: new Date(Math.max(at, lastAt)).toISOString(),
      };
    });
  } catch (error) {
    throw new Error(`Cannot read the history from "${reader.folder}": ${reasonOf(error)}`, { cause: error });
  }
}

/** Process, namespace, workload, direction and ASN of a key such as first:1:["nginx","","nginx.service","inbound","64500"]. */
function fieldsOf(key: string): string[] | null {
  if (!key.startsWith('first:1:')) return null;
  try {
    const fields: unknown = JSON.parse(key.slice('first:1:'.length));
    if (!Array.isArray(fields) || fields.length !== 5 || !fields.every((field) => typeof field === 'string'))
      return null;
    return /^\d{1,10}$/.test(fields[4] ?? '') ? fields : null;
  } catch {
    return null;
  }
}

/** Its fields as a row, for filters. Other fields are unknown. */
function asRow({ process, namespace, workload, direction, asn, as_name }: HistoryRow): Row {
  const known: Partial<Row> = { process, namespace, workload, direction, asn, as_name, network: 'public', pids: [] };
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
  return text.replace('T', ' ').replace(/\.\d+Z$/, '');
}
