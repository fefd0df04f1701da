import type { Evidence } from './evidence.ts';
import type { Measure, WorkloadMemory } from './workload-memory.ts';

/** Fan-out: more than this, and more than three times the busiest hour before. */
const FAN_OUT = 10;
const FAN_OUT_RATIO = 3;
/** Volume of an hour: more than this, and more than four times the busiest hour before. */
const VOLUME_BYTES = 64 * 2 ** 20;
const VOLUME_RATIO = 4;
/** A volume that is critical by itself. */
const LARGE_VOLUME_BYTES = 2 ** 30;
const LARGE_VOLUME_RATIO = 16;

/** The evidence that the counts of the current hour are, compared with the busiest hours before. */
export function busyHour(
  memory: WorkloadMemory,
  counts: Readonly<Record<Measure, number>>,
  operator: string | undefined,
  now: number,
): Evidence[] {
  const found: Evidence[] = [];
  for (const measure of ['operators', 'peers'] as const) {
    const before = memory.busiestBefore(measure, now);
    if (counts[measure] <= Math.max(FAN_OUT, FAN_OUT_RATIO * before)) continue;
    const noun = measure === 'operators' ? 'network operators' : 'peers and ports inside the network';
    const reason = `Calls to ${counts[measure]} ${noun} within an hour; the maximum of the past month is ${before}.`;
    memory.markReported(measure);
    found.push({ kind: 'fan_out', what: `fan_out/${measure}`, reach: 'none', points: 3, reason });
  }
  const before = memory.busiestBefore('bytes', now);
  if (counts.bytes < Math.max(VOLUME_BYTES, VOLUME_RATIO * before)) return found;
  const isLarge = counts.bytes >= Math.max(LARGE_VOLUME_BYTES, LARGE_VOLUME_RATIO * before);
  const megabytes = (bytes: number): number => Math.round(bytes / 1e6);
  const reason = `Sent ${megabytes(counts.bytes)} MB within an hour; the maximum of the past month is ${megabytes(before)} MB.`;
  found.push({
    kind: 'volume',
    what: `volume/${operator ?? 'public'}`,
    reach: 'none',
    points: isLarge ? 3 : 2,
    reason,
  });
  return found;
}
