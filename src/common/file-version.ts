import { stat } from 'node:fs/promises';

/** Tells one content of a file from another, and one right to read it from another; of a file that is not there, why. */
export async function fileVersion(file: string): Promise<string> {
  try {
    const { mtimeMs, ctimeMs, ino, size } = await stat(file);
    return `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
