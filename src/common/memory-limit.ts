import { totalmem } from 'node:os';

/** The memory that this process may use: that of its control group, or of the host. */
export function memoryLimit(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
