import type { Cgroup, Process } from '../model.ts';

/** USER_HZ of every architecture that Node.js runs on: clock ticks of /proc/PID/stat per second. */
const MS_PER_TICK = 10;

/** When a process and its container or unit started; milliseconds since 1970. */
export interface ProcessStart {
  readonly startedAt: number;
  /** Null outside containers and units. */
  readonly containerStartedAt: number | null;
}

/** What start times are computed from. */
export interface ProcessStartSources {
  /** When the kernel booted, by its current clock; milliseconds since 1970. */
  readonly bootedAt: number | null;
  readonly holding: Iterable<Process>;
  /** The start of each ancestor in the same cgroup, from the parent on; clock ticks since boot. */
  readonly ancestorStarts: (process: Process) => Iterable<number>;
}

/**
 * Returns when a process and its container or unit started: the earliest start of its ancestors there, and of the processes there that
 * hold sockets. Null if the kernel does not say when it booted.
 */
export function startOf(process: Process, sources: ProcessStartSources): ProcessStart | null {
  const { bootedAt, holding, ancestorStarts } = sources;
  if (bootedAt === null) return null;
  const timeOf = (ticks: number): number => bootedAt + ticks * MS_PER_TICK;
  const key = groupOf(process.cgroup);
  if (key === null) return { startedAt: timeOf(process.startTime), containerStartedAt: null };
  let first = process.startTime;
  for (const start of ancestorStarts(process)) first = Math.min(first, start);
  for (const other of holding) if (groupOf(other.cgroup) === key) first = Math.min(first, other.startTime);
  return { startedAt: timeOf(process.startTime), containerStartedAt: timeOf(first) };
}

/** The container, else the unit of a process. */
export function groupOf({ containerId, podUid, unit }: Cgroup): string | null {
  return containerId ?? podUid ?? unit;
}
