import type { Executable } from '../model.ts';
import { failed, type Procfs } from './procfs.ts';

const FIRST_PAGE = 4_096;
/** How much of the memory map is read if its first page does not show the executable. */
const LONGEST_MAPS = 64 << 10;
/** A line of /proc/PID/maps (proc_pid_maps(5)): range, rights, offset, device, inode and path. */
const MAPPING = /^[\da-f]+-[\da-f]+ \S{4} [\da-f]+ ([\da-f]+:[\da-f]+) (\d{1,19}) +(\/.*)$/;

type File = Pick<Executable, 'device' | 'inode'>;

/** The path of an executable as the kernel prints it, without its mark for a deleted file: an update is no other program. */
export function pathOf(exe: string): string {
  return exe.replace(/ \(deleted\)$/, '');
}

/**
 * The device and inode of the executable of a process. In a mount namespace of its own, a process can run another file under any path.
 * They are in its memory map: unlike stat(), reading that never waits for the file system of the file, which may be the process's own.
 */
export function readExecutable(procfs: Procfs, pid: number, exe: string): File {
  for (const most of [FIRST_PAGE, LONGEST_MAPS]) {
    const maps = procfs.readGuarded(pid, 'maps', most);
    if (maps === 'blocked' || failed(maps)) return UNKNOWN;
    const found = fileIn(maps.toString(), exe);
    if (found !== UNKNOWN) return found;
  }
  return UNKNOWN;
}

const UNKNOWN: File = { device: null, inode: null };

/** The file that is mapped under a path. The inode is 0 if there are several: a process may also map the file that it hides. */
export function fileIn(maps: string, exe: string): File {
  const path = exe.replaceAll('\n', '\\012');
  let found = UNKNOWN;
  for (const line of maps.split('\n')) {
    if (!line.endsWith(path)) continue;
    const [, device = '', inode = '', mapped] = MAPPING.exec(line) ?? [];
    if (mapped !== path || (found.device === device && found.inode === Number(inode))) continue;
    found = { device, inode: found === UNKNOWN ? Number(inode) : 0 };
  }
  return found;
}
