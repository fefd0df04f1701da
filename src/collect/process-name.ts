import { cleanLabel } from '../common/sanitize.ts';
import type { ProcessRule } from '../model.ts';
import { baseName, isInterpreter, loadedBy, nameOfScript } from './interpreters.ts';
import type { Match } from '../common/regexp-budget.ts';

/** What the name of a process is derived from. */
export interface Running {
  /** The target of /proc/PID/exe; null if it cannot be read. */
  readonly exe: string | null;
  readonly comm: string;
  /** The arguments from argv[0] on; null if they cannot be read. */
  readonly cmdline: readonly string[] | null;
  /** Whether it is this very process. */
  readonly self: boolean;
}

/** Rules match at most this length of the arguments, so that a process with megabytes of them cannot slow a pattern down. */
const LONGEST_CMDLINE = 32_768;

/** Binaries that run the applet that argv[0] names, and exit with an error if they have no such applet. */
const MULTI_CALL = /^(busybox|toybox|coreutils|dropbearmulti)(?:[._-].*)?$/s;
/** Other binaries, and the links through which servers are started. */
const LINKS: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ...['redis', 'valkey', 'keydb', 'redict'].map(
    (name) => [`${name}-check-rdb`, [`${name}-server`, `${name}-sentinel`]] as const,
  ),
  ['glusterfsd', ['glusterd', 'glusterfs']],
  ['k3s', ['containerd', 'crictl', 'ctr', 'kubectl']],
  ['tailscale.combined', ['tailscaled']],
]);
/** Length of comm without the NUL (TASK_COMM_LEN in include/linux/sched.h). */
const LONGEST_COMM = 15;
/** The title that cli/process-title.ts gives to peerscope, with a command. */
const OWN_TITLE = /^peerscope(?: [a-z-]+)?$/;
/** A loader may run another one: qemu-user runs ld.so. */
const LOADER_DEPTH = 4;

/**
 * The published name of a process; never empty, valid as a label value.
 *
 * 1. The first rule with all patterns matching names the process, unless its template is empty. `exe` is matched with the whole path,
 *    `cmdline` with the arguments joined by blanks.
 * 2. peerscope itself is `peerscope`, as is another peerscope on the host.
 * 3. A program from memory (memfd_create) keeps the whole name, `memfd:…`: it is no path.
 * 4. Dynamic loaders and translators (ld.so, qemu-user, Rosetta), interpreters and multi-call binaries are named after what they run:
 *    `nginx`, `manage.py`, the module of `python -m`, `app-1.2.3.jar`, the full name of a Java class, the applet of busybox. If that is
 *    unknown (`sh -c`, standard input), the name is theirs without the version.
 * 5. A program that was started through a link is named after the link.
 * 6. Other processes are named after their executable: the base name, without the kernel's suffix for a deleted file.
 * 7. A process whose executable cannot be read is named after its comm, or `unknown`.
 *
 * The kernel sets exe, so exe is trusted. Arguments and comm can be changed by the program. Arguments are trusted only if exe is a program
 * that runs what they name, and comm only for a link (see {@link nameByLink}) and for the title of peerscope. A file may have any name, so a name is no proof of identity.
 */
export function nameProcess(process: Running, rules: readonly ProcessRule[], match: Match = execPattern): string {
  const exe = process.exe?.replace(/ \(deleted\)$/, '') ?? null;
  const unlinked = process.exe === exe ? undefined : nameOfUnlinked(exe ?? '');
  const exeBase = unlinked ?? baseName(exe ?? '');
  for (const rule of rules) {
    const name = cleanLabel(nameByRule(rule, exe, exeBase, process, match) ?? '');
    if (name !== '') return name;
  }
  if (process.self || isPeerscope(exeBase, process)) return 'peerscope';
  const name = unlinked ?? nameByExecutable(exeBase, process.comm, process.cmdline ?? []);
  return cleanLabel(name || process.comm || 'unknown');
}

/** Its Node.js runs no file that the arguments name: the title replaced them. A program `node peerscope` has the same name. */
function isPeerscope(exeBase: string, { comm, cmdline }: Running): boolean {
  return comm === 'peerscope' && exeBase === 'node' && OWN_TITLE.test(cmdline?.[0] ?? '');
}

/** The name of a program in a file that never had a path: of memfd_create, which chooses a free text, or of O_TMPFILE ("#123"). */
function nameOfUnlinked(exe: string): string | undefined {
  if (exe.startsWith('/memfd:')) return exe.slice(1);
  return /\/#\d+$/.test(exe) ? 'tmpfile' : undefined;
}

const execPattern: Match = (pattern, text) => pattern.exec(text);

function nameByRule(
  rule: ProcessRule,
  exe: string | null,
  exeBase: string,
  process: Running,
  match: Match,
): string | undefined {
  const values = new Map([
    ['exe_base', exeBase],
    ['comm', process.comm],
  ]);
  const subjects = [
    [rule.exe, exe],
    [rule.comm, process.comm],
    [rule.cmdline, process.cmdline?.join(' ').slice(0, LONGEST_CMDLINE) ?? null],
  ] as const;
  for (const [pattern, subject] of subjects) {
    if (!pattern) continue;
    const found = subject === null ? null : match(pattern, subject);
    if (!found) return undefined;
    for (const [group, value] of Object.entries<string | undefined>(found.groups ?? {})) {
      if (value !== undefined) values.set(group, value);
    }
  }
  return rule.name.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (_, key: string) => values.get(key) ?? '');
}

function nameByExecutable(exeBase: string, comm: string, argv: readonly string[], depth = 0): string {
  const loaded = depth < LOADER_DEPTH ? loadedBy(exeBase, argv.slice(1)) : null;
  if (loaded) {
    const program = baseName(loaded.argv[0] ?? '');
    return program === '' ? loaded.loader : nameByExecutable(program, program, loaded.argv, depth + 1);
  }
  const multiCall = MULTI_CALL.exec(exeBase)?.[1];
  if (multiCall === undefined) {
    const program = nameByLink(exeBase, comm, argv[0] ?? '');
    return nameOfScript(program, argv) ?? program;
  }
  const called = baseName(argv[0] ?? '').replace(/^-/, '');
  const applet = MULTI_CALL.test(called) ? argv.slice(1) : [called, ...argv.slice(1)];
  const program = baseName(applet[0] ?? '');
  if (program === '' || program.startsWith('-')) return multiCall;
  return nameOfScript(program, applet) ?? program;
}

/**
 * The name of the link that a program was started through (/usr/bin/redis-server -> redis-check-rdb), otherwise its own name.
 *
 * /proc/PID/exe is resolved, but at exec the kernel sets comm to the base name of the path, which may be a link, and the caller
 * sets argv[0], mostly to the same path. The program may change either later. So comm is trusted for a known link of the binary.
 * Any other link is trusted if comm and argv[0] agree and its name begins with the same word as that of the executable. This way no
 * program can take the name of another. Interpreters are named after what they run.
 */
function nameByLink(exeBase: string, comm: string, argv0: string): string {
  const word = firstWordOf(exeBase);
  if (word === '' || isInterpreter(exeBase)) return exeBase;
  if (LINKS.get(exeBase)?.includes(comm)) return comm;
  // Servers append their addresses: "/usr/bin/redis-server 127.0.0.1:6379", "php-fpm: pool www".
  const link = baseName(/^[^\s:]*/.exec(argv0)?.[0] ?? '');
  return firstWordOf(link) === word && link.slice(0, LONGEST_COMM) === comm ? link : exeBase;
}

function firstWordOf(name: string): string {
  return /^[a-z\d]*/i.exec(name)?.[0] ?? '';
}
