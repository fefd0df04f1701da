import { stat } from 'node:fs/promises';
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Returns a string that changes with the content or the permissions of a file. For a file that cannot be read, the error code. */
export async function fileVersion(file: string): Promise<string> {
  try {
    const { mtimeMs, ctimeMs, ino, size } = await stat(file);
    return `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/**
 * Creates a directory and its missing parents with mode 0700. Throws the error of the step that failed. Node's
 * recursive mkdir does not return for a path below /proc.
 */
export function makeDirectory(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const above = dirname(path);
  if (!statSync(above, { throwIfNoEntry: false })) makeDirectory(above);
  mkdirSync(path, { mode: 0o700 });
}
