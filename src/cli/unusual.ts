import type { Timer } from '../common/clock.ts';
import { escapeControls } from '../common/sanitize.ts';
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
import { renderTable, type Column } from './terminal/table.ts';

/** Options of `unusual`. */
export interface UnusualViewOptions extends ExporterStorage {
  readonly output: 'table' | 'json';
  readonly rules: Rules;
  /** The API of an exporter to read instead of a store. */
  readonly client?: ApiClient | undefined;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly clock: Timer;
}

/**
 * Prints what the exporters of a store reported as unusual in the last hour, and what is declared normal. Returns 3 if something is
 * unusual, else 0. Throws a one-line Error if there is no store to read.
 */
export async function unusual(options: UnusualViewOptions): Promise<number> {
  const { output, client, stdout, stderr, clock } = options;
  const now = clock.now();
  const summary = client ? await readApi(client) : await readSummary(options, now);
  if (!summary) return 1;
  // The rules of this host do not apply to another exporter, which has applied its own.
  const rules = client ? { expected: [] } : options.rules;
  stdout.write(output === 'json' ? jsonOf(summary, rules, now) : tablesOf(summary, rules, now));
  if (client) (output === 'json' ? stderr : stdout).write(`From the exporter at ${JSON.stringify(client.url)}\n`);
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

type ReportRow = NodeReport & Pick<UnusualWorkload, 'severity'>;

const REPORT_COLUMNS: readonly Column<ReportRow>[] = [
  { title: 'SEVERITY', cell: ({ severity }) => severity },
  { title: 'WORKLOAD', cell: ({ owner }) => ownerName(owner) },
  { title: 'POINTS', cell: ({ points }) => String(points), right: true },
  { title: 'WHAT', cell: ({ what }) => what },
  { title: 'PROCESS', cell: ({ process }) => process || '-' },
  { title: 'FIRST SEEN', cell: ({ at }) => timeText(at) },
  { title: 'NODE', cell: ({ node }) => node || '-' },
  { title: 'REASON', cell: ({ reason }) => reason },
];

const DECISION_COLUMNS: readonly Column<Summary['decisions'][number]>[] = [
  { title: 'WORKLOAD', cell: ({ owner }) => ownerName(owner) },
  { title: 'WHAT', cell: ({ what }) => what },
  { title: 'DECISION', cell: ({ decision }) => (decision.isAccepted ? 'normal' : 'not normal') },
  { title: 'AT', cell: ({ decision }) => timeText(decision.at) },
  { title: 'BY', cell: ({ decision }) => decision.by },
  { title: 'WHY', cell: ({ decision }) => decision.why || '-' },
];

interface ExpectedRow {
  readonly owner: Owner;
  readonly what: string;
  readonly source: string;
  readonly until: string;
  readonly why: string;
}

const EXPECTED_COLUMNS: readonly Column<ExpectedRow>[] = [
  { title: 'WORKLOAD', cell: ({ owner }) => ownerName(owner) },
  { title: 'WHAT', cell: ({ what }) => what },
  { title: 'BY', cell: ({ source }) => source },
  { title: 'UNTIL', cell: ({ until }) => until },
  { title: 'WHY', cell: ({ why }) => why },
];

function tablesOf(
  { unusual, decisions, declared }: Summary,
  { expected }: Pick<Rules, 'expected'>,
  now: number,
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
    reports.length > 0 ? renderTable(REPORT_COLUMNS, reports) : 'Nothing is unusual.\n',
    ...(decisions.length > 0 ? [`Decisions\n${renderTable(DECISION_COLUMNS, decisions)}`] : []),
    ...(rules.length > 0 ? [`Expected\n${renderTable(EXPECTED_COLUMNS, rules)}`] : []),
  ];
  return sections.join('\n');
}
