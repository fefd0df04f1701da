import { readFileSync } from 'node:fs';
import { memoryLimit } from '../common/memory-limit.ts';

/** What stays free of the limit, for the garbage of a scan and for answers. */
const RESERVE = 40 << 20;
/** What a connection takes, with everything that is known of it. */
const CONNECTION = 1_200;
const PAGE = 4_096;

/** Bytes that the process has alone: pages of its program and libraries can be read again. */
export function privateBytes(statm: string): number {
  const [, resident = 0, shared = 0] = statm.split(' ').map(Number);
  return (resident - shared) * PAGE;
}

/** How many more connections fit into the memory that the process may take. */
export function connectionsLeft(): number {
  let taken: number;
  try {
    taken = privateBytes(readFileSync('/proc/self/statm', 'latin1'));
  } catch {
    taken = process.memoryUsage.rss();
  }
  return Math.max(0, (memoryLimit() - RESERVE - taken) / CONNECTION);
}
