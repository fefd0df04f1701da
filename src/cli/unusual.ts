import type { Timer } from '../common/clock.ts';
import { escapeControls, withoutControls } from '../common/sanitize.ts';
import type { Rules } from '../model.ts';
import type { Owner } from '../unusual/evidence.ts';
import { Expectations } from '../unusual/expectations.ts';
import {
  ownerJson,
  SUMMARY_PREFIXES,
  summarize,
  timeText,
  unusualJson,
  type NodeReport,
  type Summary,
  type UnusualWorkload,
} from '../unusual/summary.ts';
import type { ApiClient } from './api-client.ts';
import { ExporterReports, foldersOf } from './exporter-reports.ts';
import { readAllRecords, withStore, type ExporterStorage } from './stored-records.ts';
import { layTable, type Column, type Display } from './terminal/table.ts';
import { wrap } from './terminal/width.ts';

/** Options of `unusual`. */
export interface UnusualViewOptions extends ExporterStorage {
  readonly output: 'table' | 'json';
  readonly rules: Rules;
  /** The API of an exporter to read instead of a store. */
  readonly client?: ApiClient | undefined;
  /** The width of tables; no limit by default. */
  readonly display?: Display;
  /** Replaces characters that the terminal cannot show; null if it shows all. */
  readonly encode?: ((text: string) => string) | null;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly clock: Timer;
}

/**
 * Prints what the exporters of a store reported as unusual in the last hour, and what is declared normal. Returns 3 if something is
 * unusual, else 0. Throws a one-line Error if there is no store to read.
 */
export async function unusual(options: UnusualViewOptions): Promise<number> {
  const { output, client, stdout, stderr, clock, display = WIDE, encode } = options;
  const now = clock.now();
  const summary = client ? await readApi(client) : await readSummary(options, now);
  if (!summary) return 1;
  // The rules of this host do not apply to another exporter, which has applied its own.
  const rules = client ? { expected: [] } : options.rules;
  const tables = (): string => tablesOf(summary, rules, { now, display });
  stdout.write(output === 'json' ? jsonOf(summary, rules, now) : (encode?.(tables()) ?? tables()));
  const from = client && `From the exporter at ${JSON.stringify(client.url)}`;
  if (from !== undefined) (output === 'json' ? stderr : stdout).write(`${wrap(from, display.width).join('\n')}\n`);
  return summary.unusual.length > 0 ? 3 : 0;
}

/** Rejects with a one-line Error. */
async function readApi(client: ApiClient): Promise<Summary> {
  const { unusualOfApi } = await import('./api-answers.ts');
  const task = 'what is unusual';
  const found = await client.linesIfPresent('/api/v1/unusual', task, new AbortController().signal, unusualOfApi);
  const from = `Cannot read ${task} from ${JSON.stringify(client.url)}`;
  if (!found) throw new Error(`${from}: the API is off, or ASN lookups are; --web.enable-api turns the API on`);
  const [summary] = found;
  if (!summary) throw new Error(`${from}: the answer is empty`);
  return summary;
}

/** Reads a folder without a lock, so that root can read the store of another user; a server through its store. Null after a message. */
async function readSummary(options: UnusualViewOptions, now: number): Promise<Summary | null> {
  const { rules, stderr, clock } = options;
  const task = 'read what is unusual';
  if (!options.storageServer) {
    const reports = ExporterReports.open(options);
    if (reports) return reports.summaryOnce(now);
    const tried = foldersOf(options).map((folder) => `"${folder}"`);
    throw new Error(
      `Cannot ${task}: no store in ${tried.join(' and ')} that this user can read. Run as the user of the exporter, or set --storage.path`,
    );
  }
  let summary: Summary | null = null;
  await withStore(options, { task, stderr, clock }, async (store) => {
    const records = await readAllRecords(store, SUMMARY_PREFIXES);
    if (records) summary = summarize(records, new Expectations(rules), now);
    else stderr.write(`Cannot ${task}: the store failed\n`);
    return 0;
  });
  return summary;
}

/** `namespace/workload`, or the workload alone outside Kubernetes. */
export function ownerName({ namespace, workload }: Owner): string {
  return namespace === '' ? workload : `${namespace}/${workload}`;
}

function jsonOf({ unusual, decisions, declared }: Summary, { expected }: Pick<Rules, 'expected'>, now: number): string {
  const reports = unusual.flatMap((workload) => workload.reports);
  const value = {
    ...unusualJson(reports, decisions, now),
    expected: [
      ...expected.map((rule) => ({
        ...{ source: 'configuration', ...ownerJson(rule), what: rule.what },
        ...{ until: rule.until === null ? null : timeText(rule.until), why: rule.why || null },
      })),
      ...declared.map(({ owner, what, at }) => {
        return { source: 'annotation', ...ownerJson(owner), what: [what], seen_at: timeText(at) };
      }),
    ],
  };
  const lines = JSON.stringify(value, null, 2).split('\n');
  return lines.map((line) => `${escapeControls(line)}\n`).join('');
}

/** A file or a pipe. */
const WIDE: Display = { width: Infinity, paint: (text) => text };

type ReportRow = NodeReport & Pick<UnusualWorkload, 'severity'>;

/** How columns of names and of texts get narrower. */
const NAME = { minWidth: 16, tightWidth: 8 } as const;
const TEXT = { minWidth: 10, tightWidth: 4 } as const;

const REPORT_COLUMNS: readonly Column<ReportRow>[] = [
  { title: 'SEVERITY', cell: ({ severity }) => severity },
  { title: 'WORKLOAD', cell: ({ owner }) => ownerName(owner), ...NAME },
  { title: 'POINTS', cell: ({ points }) => String(points), right: true, dropOrder: 1 },
  { title: 'WHAT', cell: ({ what }) => what, ...NAME },
  { title: 'PROCESS', cell: ({ process }) => process || '-', minWidth: 10, dropOrder: 2 },
  { title: 'FIRST SEEN', cell: ({ at }) => timeText(at), dropOrder: 3 },
  { title: 'NODE', cell: ({ node }) => node || '-', minWidth: 8, dropOrder: 4 },
];

const REASON: Column<ReportRow> = { title: 'REASON', cell: ({ reason }) => reason };

const DECISION_COLUMNS: readonly Column<Summary['decisions'][number]>[] = [
  { title: 'WORKLOAD', cell: ({ owner }) => ownerName(owner), ...NAME },
  { title: 'WHAT', cell: ({ what }) => what, ...NAME },
  { title: 'DECISION', cell: ({ decision }) => (decision.isAccepted ? 'normal' : 'not normal') },
  { title: 'AT', cell: ({ decision }) => timeText(decision.at), dropOrder: 2 },
  { title: 'BY', cell: ({ decision }) => decision.by, ...TEXT, dropOrder: 1 },
  { title: 'WHY', cell: ({ decision }) => decision.why || '-', ...TEXT },
];

interface ExpectedRow {
  readonly owner: Owner;
  readonly what: string;
  readonly source: string;
  readonly until: string;
  readonly why: string;
}

const EXPECTED_COLUMNS: readonly Column<ExpectedRow>[] = [
  { title: 'WORKLOAD', cell: ({ owner }) => ownerName(owner), ...NAME },
  { title: 'WHAT', cell: ({ what }) => what, ...NAME },
  { title: 'BY', cell: ({ source }) => source },
  { title: 'UNTIL', cell: ({ until }) => until, dropOrder: 1 },
  { title: 'WHY', cell: ({ why }) => why, ...TEXT },
];

function tablesOf(
  { unusual, decisions, declared }: Summary,
  { expected }: Pick<Rules, 'expected'>,
  { now, display }: { readonly now: number; readonly display: Display },
): string {
  const reports = unusual.flatMap(({ severity, reports }) => reports.map((report) => ({ ...report, severity })));
  const rules = [
    ...expected.map(({ namespace, workload, what, until, why }) => {
      const end = until === null ? '-' : `${timeText(until)}${until <= now ? ' (ended)' : ''}`;
      const owner = { namespace, workload };
      return { owner, what: what.join(', '), source: 'configuration', until: end, why: why || '-' };
    }),
    ...declared.map(({ owner, what }) => ({ owner, what, source: 'annotation', until: '-', why: '-' })),
  ];
  const sections = [
    reports.length > 0 ? reportsOf(reports, display) : 'Nothing is unusual.\n',
    ...(decisions.length > 0 ? [`Decisions\n${tableOf(DECISION_COLUMNS, decisions, display)}`] : []),
    ...(rules.length > 0 ? [`Expected\n${tableOf(EXPECTED_COLUMNS, rules, display)}`] : []),
  ];
  return sections.join('\n');
}

/** The table of reports. On a screen that is narrower, the reason is below each. */
function reportsOf(rows: readonly ReportRow[], display: Display): string {
  const { width, paint } = display;
  const whole = layTable([...REPORT_COLUMNS, REASON], rows, display);
  if (whole.width <= width && whole.omitted.length === 0) return linesOf([whole.title, ...whole.lines]);
  const { title, lines } = layTable(REPORT_COLUMNS, rows, display);
  const reasonOf = ({ reason }: ReportRow): string[] =>
    wrap(withoutControls(reason), Math.max(10, width - 2)).map((line) => `  ${paint(line, 'faint')}`);
  return linesOf([title, ...lines.flatMap((line, i) => [line, ...(rows[i] ? reasonOf(rows[i]) : [])])]);
}

function tableOf<T>(columns: readonly Column<T>[], rows: readonly T[], display: Display): string {
  const { title, lines } = layTable(columns, rows, display);
  return linesOf([title, ...lines]);
}

function linesOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
