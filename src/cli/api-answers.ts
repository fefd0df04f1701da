import { z } from 'zod';
import type { Row } from '../model.ts';
import type { Summary } from '../unusual/summary.ts';
import type { ApiClient } from './api-client.ts';
import type { HistoryRow } from './history.ts';
import { ROW_KEYS, type RowKey } from './terminal/row-columns.ts';

const NUMBERS: ReadonlySet<RowKey> = new Set<RowKey>([
  ...(['local_port', 'remote_port', 'receive_queue', 'send_queue', 'uid', 'inode', 'netns', 'pid', 'ppid'] as const),
  ...(['threads', 'resident_memory_bytes', 'asn', 'sent_bytes', 'received_bytes', 'retransmitted_bytes'] as const),
  ...(['round_trip_seconds', 'min_round_trip_seconds', 'acknowledged_bytes', 'retransmits'] as const),
  ...(['congestion_window', 'timer_seconds', 'timer_retransmits'] as const),
]);
/** The fields that are neither a number nor a text. A field that the exporter does not have yet is unknown. */
const OTHERS: Partial<Record<RowKey, z.ZodType>> = {
  transport: z.enum(['tcp', 'udp', 'udplite', 'raw']).nullable().default(null),
  family: z
    .union([z.literal(4), z.literal(6)])
    .nullable()
    .default(null),
  direction: z.enum(['listen', 'inbound', 'outbound', 'loopback']).nullable().default(null),
  pids: z.array(z.number()).default([]),
  asns: z.array(z.number()).nullable().default(null),
  exe_deleted: z.boolean().nullable().default(null),
  parents: z.array(z.string()).nullable().default(null),
};
const NUMBER = z.number().nullable().default(null);
const TEXT = z.string().nullable().default(null);
const ROW = z.object(
  Object.fromEntries(ROW_KEYS.map((key) => [key, OTHERS[key] ?? (NUMBERS.has(key) ? NUMBER : TEXT)])),
);

const TIME = z.iso.datetime().transform((text) => Date.parse(text));
const OWNER = { namespace: z.string().nullable(), workload: z.string() };
const UNUSUAL = z.object({
  unusual: z.array(
    z.object({
      ...OWNER,
      severity: z.enum(['critical', 'warning', 'info']),
      points: z.number(),
      evidence: z.array(
        z.object({
          kind: z.string(),
          what: z.string(),
          process: z.string().nullable(),
          reach: z.enum(['none', 'few', 'many']),
          points: z.number(),
          reason: z.string(),
          first_seen_at: TIME,
          reported_at: TIME,
        }),
      ),
    }),
  ),
  decisions: z.array(
    z.object({
      ...OWNER,
      what: z.string(),
      accepted: z.boolean(),
      at: TIME,
      by: z.string(),
      why: z.string().nullable(),
    }),
  ),
});

/** Reads a line of `/api/v1/connections?format=jsonl`. Throws a one-line Error if it is not a row. */
export function rowOfApi(line: string): Row {
  return read(ROW, line) as unknown as Row;
}

/** Reads the only line of `/api/v1/unusual`. Throws a one-line Error if it is something else. */
export function unusualOfApi(line: string): Summary {
  const answer = read(UNUSUAL, line);
  type Reports = Summary['unusual'][number]['reports'];
  return {
    unusual: answer.unusual.map(({ namespace, workload, severity, points, evidence }) => {
      const owner = { namespace: namespace ?? '', workload };
      const reports = evidence.map(({ process, first_seen_at: at, reported_at: recordedAt, ...one }) => {
        return { ...one, owner, process: process ?? '', at, recordedAt, node: '' };
      });
      return { owner, severity, points, reports: reports as Reports };
    }),
    decisions: answer.decisions.map(({ namespace, workload, what, accepted: isAccepted, at, by, why }) => {
      return {
        owner: { namespace: namespace ?? '', workload },
        what,
        decision: { isAccepted, at, by, why: why ?? '' },
      };
    }),
    declared: [],
  };
}

const HISTORY = z.object({
  history: z.array(
    z.object({
      namespace: z.string().nullable(),
      workload: z.string(),
      direction: z.enum(['inbound', 'outbound']),
      asn: z.number(),
      as_name: z.string().nullable(),
      first_seen: z.iso.datetime(),
      last_seen: z.iso.datetime(),
    }),
  ),
  next: z.string().nullable(),
});
/** The most pages of `/api/v1/history` that are read: more entries than an exporter remembers. */
const MAX_PAGES = 100;

/** Reads all pages of `/api/v1/history`. Rejects with a one-line Error. */
export async function historyOfApi(client: ApiClient): Promise<HistoryRow[]> {
  const task = 'the history';
  const { signal } = new AbortController();
  const rows: HistoryRow[] = [];
  let after: string | null = null;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const path: string = `/api/v1/history?limit=10000${after === null ? '' : `&after=${encodeURIComponent(after)}`}`;
    const found: z.infer<typeof HISTORY>[] | null = await client.linesIfPresent(path, task, signal, (line) =>
      read(HISTORY, line),
    );
    const from = `Cannot read ${task} from ${JSON.stringify(client.url)}`;
    if (!found) throw new Error(`${from}: the API is off, or ASN lookups are; --web.enable-api turns the API on`);
    const page: z.infer<typeof HISTORY> | undefined = found[0];
    if (!page) throw new Error(`${from}: the answer is empty`);
    rows.push(...page.history);
    if (page.next === null) break;
    after = page.next;
  }
  return rows;
}

function read<T>(schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new Error('the answer is not that of a peerscope exporter', { cause: error });
  }
}
