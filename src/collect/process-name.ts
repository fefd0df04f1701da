import { cleanLabel } from '../common/sanitize.ts';
import type { ProcessRule } from '../model.ts';
import type { Match } from './regexp-budget.ts';

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

/** How to find the script in the arguments of an interpreter: each pattern is matched with one whole argument. */
interface Interpreter {
  /** The program is in the arguments or on standard input, and has no name. */
  readonly inline?: RegExp;
  /** The script follows: as group 1 of this argument, or as the next argument. */
  readonly runs?: RegExp;
  /** The next argument is the value of this option. */
  readonly takesValue?: RegExp;
  /** A subcommand before the script. */
  readonly subcommand?: RegExp;
  /** What the script must match, if other words may be in its place. */
  readonly script?: RegExp;
}

const PYTHON: Interpreter = {
  inline: /^-[bBdEhiIOPqRsStuUvVx3?]*c/,
  runs: /^-[bBdEhiIOPqRsStuUvVx3?]*m(.*)$/s,
  takesValue: /^(?:-[bBdEhiIOPqRsStuUvVx3?]*[QWX]|--check-hash-based-pycs)$/,
};
const SHELL: Interpreter = {
  inline: /^-(?=\w*[cs])\w+$/,
  takesValue: /^(?:[-+](?=\w*[oO])\w+|--(?:rcfile|init-file))$/,
};
const NODE: Interpreter = {
  inline: /^(?:-(?:[eip]|pe)|--(?:eval|print|interactive|run|test)(?:=.*)?)$/s,
  subcommand: /^inspect$/,
  takesValue: new RegExp(
    '^(?:-[rC]|--(?:require|import|loader|experimental-loader|conditions|env-file(?:-if-exists)?|title|watch-path|input-type|' +
      'icu-data-dir|openssl-config|dns-result-order|disable-warning|unhandled-rejections|redirect-warnings|diagnostic-dir|' +
      'report-(?:dir|directory|filename|signal)|trace-event-(?:categories|file-pattern)|max-http-header-size|inspect-port|' +
      'tls-(?:cipher-list|keylog)|secure-heap(?:-min)?|v8-pool-size|allow-fs-(?:read|write)|localstorage-file))$',
  ),
};

const INTERPRETERS: ReadonlyMap<string, Interpreter> = new Map<string, Interpreter>([
  ['python', PYTHON],
  ['pypy', PYTHON],
  ['node', NODE],
  ['nodejs', NODE],
  ...['sh', 'ash', 'bash', 'dash', 'ksh', 'mksh', 'zsh'].map((name) => [name, SHELL] as const),
  [
    'ruby',
    {
      inline: /^-[aclnpsSUvwy\d]*e/,
      takesValue:
        /^(?:-[aclnpsSUvwy\d]*[CEIr]|--(?:(?:external-|internal-)?encoding|enable|disable|backtrace-limit|parser))$/,
    },
  ],
  ['perl', { inline: /^-[acfglnpsStTuUvwWX\d]*[eE]/, takesValue: /^-[acfglnpsStTuUvwWX\d]*I$/ }],
  [
    'php',
    {
      inline: /^(?:-[aBERrS]|--(?:interactive|process-begin|process-code|process-end|run|server)(?:=|$))/,
      runs: /^(?:-[fF]|--(?:file|process-file)=?)(.*)$/s,
      takesValue: /^(?:-[cdtz]|--(?:php-ini|define|docroot|zend-extension))$/,
    },
  ],
  [
    'deno',
    {
      subcommand: /^(?:run|serve)$/,
      takesValue:
        /^(?:-[cL]|--(?:cert|conditions|config|ext|host|import|import-map|location|log-level|port|preload|seed))$/,
      script: /[./:]/,
    },
  ],
  [
    'bun',
    {
      inline: /^(?:-[ep]|--(?:eval|print)(?:=.*)?)$/s,
      subcommand: /^run$/,
      takesValue:
        /^(?:-[dlr]|--(?:conditions|cwd|define|env-file|import|loader|port|preload|require|title|tsconfig-override))$/,
      script: /[./]/,
    },
  ],
  [
    'java',
    {
      runs: /^(?:-jar|-m|--module(?:=(.*))?)$/s,
      takesValue: new RegExp(
        '^(?:-cp|-classpath|--class-path|-p|--module-path|--upgrade-module-path|--add-(?:exports|modules|opens|reads)|' +
          '--enable-native-access|--limit-modules|--patch-module|--source)$',
      ),
    },
  ],
  [
    'dotnet',
    {
      subcommand: /^exec$/,
      takesValue: /^--(?:additional-deps|additionalprobingpath|depsfile|fx-version|roll-forward|runtimeconfig)$/,
      script: /\.(?:dll|exe)$/i,
    },
  ],
]);

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
const VERSIONED = /^([a-z]+?)(?:-?\d[\w.-]*)?$/;

/**
 * The published name of a process; never empty, valid as a label value.
 *
 * 1. The first rule with all patterns matching names the process, unless its template is empty. `exe` is matched with the whole path,
 *    `cmdline` with the arguments joined by blanks.
 * 2. peerscope itself is `peerscope`.
 * 3. Interpreters and multi-call binaries are named after what they run: `manage.py`, the module of `python -m`, `app-1.2.3.jar`, the full
 *    name of a Java class, the applet of busybox. If that is unknown (`sh -c`, standard input), the name is theirs without the version.
 * 4. A program that was started through a link is named after the link.
 * 5. Other processes are named after their executable: the base name, without the kernel's suffix for a deleted file.
 * 6. A process whose executable cannot be read is named after its comm, or `unknown`.
 */
export function nameProcess(process: Running, rules: readonly ProcessRule[], match: Match = execPattern): string {
  const exe = process.exe?.replace(/ \(deleted\)$/, '') ?? null;
  const exeBase = baseName(exe ?? '');
  for (const rule of rules) {
    const name = cleanLabel(nameByRule(rule, exe, exeBase, process, match) ?? '');
    if (name !== '') return name;
  }
  if (process.self) return 'peerscope';
  return cleanLabel(nameByExecutable(exeBase, process) || process.comm || 'unknown');
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

function nameByExecutable(exeBase: string, { comm, cmdline: readCmdline }: Running): string {
  const cmdline = readCmdline ?? [];
  const multiCall = MULTI_CALL.exec(exeBase)?.[1];
  if (multiCall === undefined) return nameByArguments(nameByLink(exeBase, comm, cmdline[0] ?? ''), cmdline.slice(1));
  const called = baseName(cmdline[0] ?? '').replace(/^-/, '');
  const [applet = '', ...args] = MULTI_CALL.test(called) ? cmdline.slice(1) : [called, ...cmdline.slice(1)];
  return applet === '' || applet.startsWith('-') ? multiCall : nameByArguments(baseName(applet), args);
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
  if (word === '' || INTERPRETERS.has(familyOf(exeBase))) return exeBase;
  if (LINKS.get(exeBase)?.includes(comm)) return comm;
  // Servers append their addresses: "/usr/bin/redis-server 127.0.0.1:6379", "php-fpm: pool www".
  const link = baseName(/^[^\s:]*/.exec(argv0)?.[0] ?? '');
  return firstWordOf(link) === word && link.slice(0, LONGEST_COMM) === comm ? link : exeBase;
}

function familyOf(program: string): string {
  return VERSIONED.exec(program)?.[1] ?? '';
}

function firstWordOf(name: string): string {
  return /^[a-z\d]*/i.exec(name)?.[0] ?? '';
}

function nameByArguments(program: string, args: readonly string[]): string {
  const family = familyOf(program);
  const interpreter = INTERPRETERS.get(family);
  if (!interpreter) return program;
  const script = findScript(interpreter, args);
  // Files that the shell or the caller opened have no stable name.
  if (script === undefined || /^\/(?:dev|proc)\//.test(script)) return family;
  const name = baseName(script);
  return name === '' || name === '.' || name === '..' ? family : name;
}

function findScript(interpreter: Interpreter, args: readonly string[]): string | undefined {
  const { inline, runs, takesValue, subcommand, script } = interpreter;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '-' || inline?.test(arg)) return undefined;
    if (arg === '--') return args[i + 1];
    const match = runs?.exec(arg);
    if (match) return match[1] || args[i + 1];
    if (takesValue?.test(arg)) i++;
    else if (!/^[-+@]/.test(arg) && !subcommand?.test(arg)) return !script || script.test(arg) ? arg : undefined;
  }
  return undefined;
}

function baseName(path: string): string {
  return path.split('/').findLast((part) => part !== '') ?? '';
}
