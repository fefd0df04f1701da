import { stat } from 'node:fs/promises';
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  statSync,
  type Stats,
} from 'node:fs';
import { dirname } from 'node:path';

/** Returns a string that changes with the content or the permissions of a file. For a file that cannot be read, the error code. */
export async function fileVersion(file: string): Promise<string> {
  try {
    return versionOf(await stat(file));
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** Returns the same string as `fileVersion` for these attributes. */
export function versionOf({ mtimeMs, ctimeMs, ino, size }: Stats): string {
  return `${mtimeMs} ${ctimeMs} ${ino} ${size}`;
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

const STICKY = 0o1000;
/** Folders for all users that can be a mount of their own. */
const SHARED_FOLDERS = ['/tmp', '/var/tmp', '/dev/shm', '/run/lock', '/run/shm'];

/**
 * Throws if users other than those in `trusted` (root and this user) can replace the files in a directory: if they own it or a directory
 * above, or can write there. A volume of a container can be writable for all users of the container, and is a mount of its own.
 */
export function checkPrivate(directory: string, trusted?: ReadonlySet<number>): void {
  const own = process.geteuid?.();
  if (own === undefined) return;
  const mayOwn = trusted ?? new Set([0, own]);
  let below: Stats | undefined;
  for (let path = realpathSync(directory); ; path = dirname(path)) {
    const stats = statSync(path);
    if (!mayOwn.has(stats.uid)) throw new Error(`"${path}" belongs to another user (${stats.uid})`);
    const isSticky = (stats.mode & STICKY) !== 0;
    const isVolume = !below && !SHARED_FOLDERS.includes(path) && stats.dev !== statSync(dirname(path)).dev;
    if ((stats.mode & 0o002) !== 0 && !isVolume && !(below && isSticky))
      throw new Error(`every user can write to "${path}"`);
    below = stats;
    if (path === dirname(path)) return;
  }
}

/**
 * Creates a file with mode 0600, or takes this mode for an existing one; with `creates` false, a missing file is fine. Throws if the
 * file is a link, has a second name or belongs to another user.
 */
export function makePrivateFile(path: string, creates = true): void {
  const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  let file: number;
  try {
    // Windows has no O_NOFOLLOW.
    file = openSync(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | (creates ? O_CREAT : 0), 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!creates && code === 'ENOENT') return;
    if (code === 'ELOOP') throw new Error(`"${path}" is a link`, { cause: error });
    throw error;
  }
  try {
    const stats = fstatSync(file);
    const own = process.geteuid?.();
    if (!stats.isFile()) throw new Error(`"${path}" is not a regular file`);
    if (stats.nlink > 1) throw new Error(`"${path}" has a second name (hard link)`);
    if (own === undefined) return;
    if (stats.uid !== own) throw new Error(`"${path}" belongs to another user (${stats.uid})`);
    if ((stats.mode & 0o077) !== 0) fchmodSync(file, 0o600);
  } finally {
    closeSync(file);
  }
}
