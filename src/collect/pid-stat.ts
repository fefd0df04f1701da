/** What /proc/PID/stat says of a process. */
export interface Stat {
  /** At most 15 bytes that the process chose, invalid UTF-8 as U+FFFD: clean it before showing it. */
  readonly comm: string;
  /** One letter of R S D Z T t X I P. */
  readonly state: string;
  readonly ppid: number;
  /** Ticks since boot: with the pid it is the identity of a process. */
  readonly startTime: number;
  readonly threads: number;
  /** Pages, as the kernel counts them in passing: some may be missing. */
  readonly residentPages: number;
}

/** What /proc/PID/status says of a process. Null is what it does not say. */
export interface Status {
  /** The effective user. */
  readonly uid: number | null;
  /** Octal with four digits, such as "0022"; absent before Linux 4.7 and of zombies. */
  readonly umask: string | null;
  /** Absent of zombies and kernel threads. */
  readonly residentMemoryBytes: number | null;
}

const OPEN = 0x28;
const CLOSE = 0x29;

/**
 * Reads /proc/PID/stat; undefined where the bytes are not such a line.
 * Format: proc_pid_stat(5) and the kernel's Documentation/filesystems/proc.rst, table 1-4. The name stands raw between the first
 * "(" and the last ")": it may hold parentheses, blanks, newlines and bytes that are no UTF-8.
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
 * Reads /proc/PID/status; what is missing or malformed is null.
 * Format: proc_pid_status(5) and the kernel's Documentation/filesystems/proc.rst, table 1-2. In the name the kernel escapes
 * newlines, so that no name can pass for another line.
 */
export function parseStatus(bytes: Buffer): Status {
  const text = bytes.toString('latin1');
  const value = (key: string): string | undefined => {
    const line = `\n${key}:\t`;
    const start = text.indexOf(line);
    if (start < 0) return undefined;
    const end = text.indexOf('\n', start + 1);
    return text.slice(start + line.length, end < 0 ? undefined : end).trim();
  };
  const umask = value('Umask');
  const resident = decimal(/^(\d{1,12}) kB$/.exec(value('VmRSS') ?? '')?.[1]);
  return {
    uid: decimal(value('Uid')?.split('\t')[1]),
    umask: umask !== undefined && /^[0-7]{4}$/.test(umask) ? umask : null,
    residentMemoryBytes: resident === null ? null : resident * 1024,
  };
}

function decimal(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}
