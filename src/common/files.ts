import { stat } from 'node:fs/promises';
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Tells one content of a file from another, and one right to read it from another; of a file that is not there, why. */
export async function fileVersion(file: string): Promise<string> {
  try {
    const { mtimeMs, ctimeMs, ino, size } = await stat(file);
    return `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/**
 * Makes a folder and those above it that are missing, for their owner alone; throws the error of the step that failed.
 * Node's own recursive mkdir never returns below /proc.
 */
export function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const above = dirname(path);
  if (!statSync(above, { throwIfNoEntry: false })) makeFolder(above);
  mkdirSync(path, { mode: 0o700 });
}
