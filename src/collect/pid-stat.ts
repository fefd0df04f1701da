/** The fields of /proc/PID/stat that are used. */
export interface Stat {
  /** At most 15 bytes chosen by the process, invalid UTF-8 as U+FFFD: sanitize before display. */
  readonly comm: string;
  /** One letter of R S D Z T t X I P. */
  readonly state: string;
  readonly ppid: number;
  /** Clock ticks since boot; pid and start time identify a process. */
  readonly startTime: number;
  readonly threads: number;
  /** Pages; an approximate count, which may be low. */
  readonly residentPages: number;
}

/** The fields of /proc/PID/status that are used; null if missing. */
export interface ProcessStatus {
  /** The effective user. */
  readonly uid: number | null;
  /** The real, effective, saved and file system user. */
  readonly uids: readonly number[] | null;
  /** Octal with four digits, such as "0022"; null before Linux 4.7 and for zombies. */
  readonly umask: string | null;
  /** Null for zombies and kernel threads. */
  readonly residentMemoryBytes: number | null;
}

const OPEN = 0x28;
const CLOSE = 0x29;

/**
 * Parses /proc/PID/stat; undefined if malformed.
 * Format: proc_pid_stat(5) and the kernel's Documentation/filesystems/proc.rst, table 1-4. The name is unescaped between the
 * first "(" and the last ")": it may contain parentheses, blanks, newlines and invalid UTF-8.
 */
export function parseStat(bytes: Buffer): Stat | undefined {
  const open = bytes.indexOf(OPEN);
  const close = bytes.lastIndexOf(CLOSE);
  if (open < 0 || close < open) return undefined;
  const fields = bytes.toString('latin1', close + 2).split(' ');
  const field = (number: number): string | undefined => fields[number - 3];
  const state = field(3);
  const ppid = decimal(field(4));
  const threads = decimal(field(20));
  const startTime = decimal(field(22));
  const residentPages = decimal(field(24));
  if (state === undefined || !/^[A-Za-z]$/.test(state)) return undefined;
  if (ppid === null || threads === null || startTime === null || residentPages === null) return undefined;
  return { comm: bytes.toString('utf8', open + 1, close), state, ppid, startTime, threads, residentPages };
}

/**
 * Parses /proc/PID/status; a missing or malformed field is null.
 * Format: proc_pid_status(5) and the kernel's Documentation/filesystems/proc.rst, table 1-2. The kernel escapes newlines in
 * the name, so that a name cannot imitate another line.
 */
export function parseStatus(bytes: Buffer): ProcessStatus {
  const text = bytes.toString('latin1');
  const value = (key: string): string | undefined => {
    const line = `\n${key}:\t`;
    const start = text.indexOf(line);
    if (start < 0) return undefined;
    const end = text.indexOf('\n', start + 1);
    return text.slice(start + line.length, end < 0 ? undefined : end).trim();
  };
  const umask = value('Umask');
  const uids = value('Uid')?.split('\t').map(decimal) ?? [];
  const resident = decimal(/^(\d{1,12}) kB$/.exec(value('VmRSS') ?? '')?.[1]);
  return {
    uid: uids[1] ?? null,
    uids: uids.length > 0 && uids.every((uid) => uid !== null) ? uids : null,
    umask: umask !== undefined && /^[0-7]{4}$/.test(umask) ? umask : null,
    residentMemoryBytes: resident === null ? null : resident * 1024,
  };
}

function decimal(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}
