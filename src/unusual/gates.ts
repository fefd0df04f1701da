import type { Holder } from './observation.ts';
import { DAY_MS, type ThingKind, type WorkloadMemory } from './workload-memory.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** The maximum clock difference between nodes, and the maximum step of one clock, that is tolerated. */
export const CLOCK_SKEW_MS = 5 * MINUTE_MS;

/** On how many occasions a calm workload meets new things of a kind in seven days. Things that are met together are one occasion. */
const CALM: Readonly<Record<ThingKind, number>> = {
  operator: 2,
  port: 1,
  process: 2,
  caller: 2,
  server: 2,
  peer: 2,
  inner_port: 2,
  listener: 2,
  metadata: 2,
  metadata_caller: 2,
  administrator: 2,
  client: 2,
  program: 2,
};
const CALM_MS = 7 * DAY_MS;
const OCCASION_MS = 6 * HOUR_MS;
/** A calm workload with more occasions than this in 28 days is restless. */
const RESTLESS = 4;
const RESTLESS_MS = 28 * DAY_MS;

const LATE_MS = 10 * MINUTE_MS;

/** Whether a workload meets few new things of a kind. */
export function isCalm(memory: WorkloadMemory, kind: ThingKind, now: number): boolean {
  return occasions(memory, kind, CALM_MS, now) <= CALM[kind];
}

/** Whether a calm workload meets new things of a kind about once a week. */
export function isRestless(memory: WorkloadMemory, kind: ThingKind, now: number): boolean {
  return occasions(memory, kind, RESTLESS_MS, now) > RESTLESS;
}

/** On how many occasions a workload met new things of a kind within a time; the time of learning and the last hour do not count. */
function occasions(memory: WorkloadMemory, kind: ThingKind, ms: number, now: number): number {
  const from = Math.max(now - ms, memory.learnedAtOf(kind));
  const to = now - HOUR_MS;
  const found = new Set<number>();
  for (const { recordedAt } of memory.things.get(kind)?.values() ?? [])
    if (recordedAt > from && recordedAt <= to) found.add(Math.floor(recordedAt / OCCASION_MS));
  return found.size;
}

/** How many things of a kind a workload met for the first time within the past hour. */
export function newInHour(memory: WorkloadMemory, kind: ThingKind, now: number): number {
  let count = 0;
  for (const { recordedAt } of memory.things.get(kind)?.values() ?? []) if (recordedAt > now - HOUR_MS) count++;
  return count;
}

/** Without the start of the container, a process is late if its workload has been there for long, and no rollout restarted it. */
export function lateness(
  memory: WorkloadMemory,
  at: number,
  { startedAt, containerStartedAt }: Holder,
): boolean | null {
  if (startedAt === null) return null;
  if (containerStartedAt !== null) return startedAt - containerStartedAt > LATE_MS;
  return startedAt - memory.since > LATE_MS && !isRecent(memory.releasedAt, at);
}

/** A rollout explains what its own processes do in their first hour, and what is done by processes that are not known. */
export function isReleased({ releasedAt }: WorkloadMemory, at: number, { startedAt }: Holder): boolean {
  return isRecent(releasedAt, at) && (startedAt === null || startedAt >= (releasedAt ?? 0) - CLOCK_SKEW_MS);
}

function isRecent(releasedAt: number | null, at: number): boolean {
  return releasedAt !== null && at >= releasedAt - CLOCK_SKEW_MS && at <= releasedAt + HOUR_MS;
}
