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

/** No positional argument is a script. */
const OPTIONS_ONLY = /(?!)/;

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

const RUBY: Interpreter = {
  inline: /^-[aclnpsSUvwy\d]*e/,
  takesValue:
    /^(?:-[aclnpsSUvwy\d]*[CEIr]|--(?:(?:external-|internal-)?encoding|enable|disable|backtrace-limit|parser))$/,
};
const PHP: Interpreter = {
  inline: /^(?:-[aBERrS]|--(?:interactive|process-begin|process-code|process-end|run|server)(?:=|$))/,
  runs: /^(?:-[fF]|--(?:file|process-file)=?)(.*)$/s,
  takesValue: /^(?:-[cdtz]|--(?:php-ini|define|docroot|zend-extension))$/,
};
const POWERSHELL: Interpreter = {
  inline: /^-(?:c|command|e|ec|enc|encodedcommand|s|servermode|sshs)$/i,
  runs: /^-(?:f|file)$/i,
  takesValue:
    /^-(?:ep|ex|executionpolicy|config|configurationname|custompipename|if|inputformat|of|outputformat|settings|settingsfile|w|windowstyle|wd|wo|workingdirectory)$/i,
};

/** Interpreters under another name. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ['bash-static', 'bash'],
  ['chicken-csi', 'csi'],
  ['cjs', 'gjs'],
  ['cjs-console', 'gjs'],
  ['gawk', 'awk'],
  ['gjs-console', 'gjs'],
  ['javaw', 'java'],
  ['mawk', 'awk'],
  ['moar', 'raku'],
  ['mono-boehm', 'mono'],
  ['mono-sgen', 'mono'],
  ['octave-cli', 'octave'],
  ['original-awk', 'awk'],
  ['perl6-m', 'raku'],
  ['php-cli', 'php'],
  ['php-zts', 'php'],
  ['platform-python', 'python'],
  ['pythonw', 'python'],
  ['rakudo', 'raku'],
  ['rakudo-m', 'raku'],
  ['ruby-mri', 'ruby'],
  ['zsh-static', 'zsh'],
  ['zts-php', 'php'],
]);

const INTERPRETERS: ReadonlyMap<string, Interpreter> = new Map<string, Interpreter>([
  ...['python', 'pypy', 'graalpy', 'micropython'].map((name) => [name, PYTHON] as const),
  ...['node', 'nodejs', 'nsolid'].map((name) => [name, NODE] as const),
  ...['sh', 'ash', 'bash', 'csh', 'dash', 'fish', 'ksh', 'lksh', 'mksh', 'rbash', 'tcsh', 'yash', 'zsh'].map(
    (name) => [name, SHELL] as const,
  ),
  ['pwsh', POWERSHELL],
  ['mono', { takesValue: /^--config$/ }],
  ...['lua', 'luajit', 'luau', 'texlua', 'tarantool'].map((name) => [name, { takesValue: /^-[ejl]$/ }] as const),
  ['R', { inline: /^-e$/, runs: /^(?:-f|--file=(.*))$/s, script: OPTIONS_ONLY }],
  [
    'julia',
    {
      inline: /^(?:-[eE]|--(?:eval|print)(?:=.*)?)$/s,
      takesValue: /^(?:-[CHJLpt]|--(?:cpu-target|home|load|machine-file|procs|sysimage|threads))$/,
    },
  ],
  ['octave', { inline: /^--eval$/, takesValue: /^(?:-p|--(?:path|exec-path|image-path|built-in-docstrings-file))$/ }],
  ['guile', { inline: /^-c$/, runs: /^-s$/, takesValue: /^-[CLelx]$/ }],
  ['racket', { inline: /^-e$/, runs: /^(?:-[tfurl]|--(?:load|require|lib|script|require-script))$/ }],
  ['gosh', { inline: /^-[eE]$/, takesValue: /^-[AFILflm]$/ }],
  ['csi', { inline: /^-(?:e|p|eval|print)$/, runs: /^-(?:s|ss|script)$/, takesValue: /^-[IRDKU]$/ }],
  ...['sbcl', 'ecl'].map(
    (name) =>
      [
        name,
        {
          runs: /^--?(?:script|load|shell)$/,
          takesValue:
            /^--(?:core|eval|userinit|sysinit|dynamic-space-size|control-stack-size|tls-limit|merge-core-pages)$|^-eval$/,
          script: OPTIONS_ONLY,
        },
      ] as const,
  ),
  ['clisp', { inline: /^-x$/, takesValue: /^-[BEIKLMNimp]$/ }],
  ...['swipl', 'gprolog'].map(
    (name) => [name, { runs: /^(?:-s|--consult-file)$/, takesValue: /^-[DGLTfgptx]$/ }] as const,
  ),
  ...['tclsh', 'wish', 'jimsh', 'tclkit'].map(
    (name) =>
      [
        name,
        { runs: /^-f(?:ile)?$/, takesValue: /^-(?:colormap|display|encoding|geometry|name|use|visual)$/ },
      ] as const,
  ),
  ...['expect', 'expectk'].map((name) => [name, { runs: /^-[fb]$/, takesValue: /^-[cD]$/ }] as const),
  ['awk', { runs: /^(?:-[fE]|--(?:file|exec)(?:=(.*))?)$/s, takesValue: /^-[Fvil]$/, script: OPTIONS_ONLY }],
  [
    'gjs',
    {
      inline: /^(?:-c|--command)(?:=|$)/,
      runs: /^(?:-m|--module)$/,
      takesValue: /^(?:-[CI]|--(?:coverage-(?:prefix|output)|include-path))$/,
    },
  ],
  ['raku', { inline: /^-[np]*e$/, takesValue: /^-[IM]$/, subcommand: /\.moarvm$/ }],
  ['pike', { inline: /^(?:-[ex]|--execute(?:=.*)?)$/s, takesValue: /^-[DIMPm]$/ }],
  ['ocamlrun', { takesValue: /^-I$/ }],
  ['escript', {}],
  [
    'jsvc',
    {
      runs: /^-jar$/,
      takesValue: /^-(?:home|java-home|jvm|user|cp|classpath|outfile|errfile|pidfile|wait|procname|umask|cwd)$/,
    },
  ],
  ...['wasmtime', 'wasmer', 'wasmedge', 'iwasm', 'wasm3'].map(
    (name) => [name, { subcommand: /^(?:run|serve)$/, script: /\.(?:c?wasm|wat|aot|wasmu)$/i }] as const,
  ),
  ...['ruby', 'truffleruby'].map((name) => [name, RUBY] as const),
  ['perl', { inline: /^-[acfglnpsStTuUvwWX\d]*[eE]/, takesValue: /^-[acfglnpsStTuUvwWX\d]*I$/ }],
  ...['php', 'hhvm'].map((name) => [name, PHP] as const),
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

/** A program that runs another one under its own /proc/PID/exe. */
interface Loader {
  readonly program: RegExp;
  /** The next argument is the value of this option. */
  readonly takesValue: RegExp;
  /** The name if what it runs is unknown; otherwise its own. */
  readonly name?: string;
}

const LOADERS: readonly Loader[] = [
  {
    // The dynamic loader of glibc, musl and uClibc.
    program: /^(?:ld(?:32|64)?(?:-[\w.-]+)?\.so(?:\.[\d.]+)?|libc\.so|libc\.musl-\w+\.so\.1)$/,
    takesValue: /^--(?:argv0|audit|glibc-hwcaps-(?:mask|prepend)|inhibit-rpath|library-path|preload)$/,
    name: 'ld.so',
  },
  {
    // The user mode of QEMU, not its emulators of whole machines (qemu-system-*) or its tools (qemu-nbd).
    program: new RegExp(
      '^(?:\\.buildkit_qemu_emulator|(?:buildkit-)?qemu-(?:aarch64|alpha|arm|cris|hexagon|hppa|i386|loongarch64|m68k|microblaze|mips|' +
        'nios2|or1k|ppc|riscv|s390x|sh4|sparc|tilegx|x86_64|xtensa)(?:32|64|n32)?(?:32plus|_be|eb|el|le)?(?:-static|-binfmt)?(?:-P)?)$',
    ),
    takesValue:
      /^--?(?:0|B|D|E|L|R|U|cpu|d|dfilter|g|one-insn|p|plugin|r|s|seed|tb-size|trace|guest-base|reserved|accel)$/,
  },
  { program: /^(?:rosetta|box(?:32|64|86)|FEX|FEXInterpreter|FEXLoader)$/, takesValue: OPTIONS_ONLY },
  {
    program: /^(?:memcheck|cachegrind|callgrind|helgrind|drd|massif|dhat|none|lackey)-\w+-linux$/,
    takesValue: OPTIONS_ONLY,
  },
];
const WINE = /^wine(?:64|32)?(?:-preloader|-staging|-development|-stable)*$/;
const ERLANG = /^(?:beam(?:\.\w+)*|erlexec)$/;

/**
 * The arguments of the program that a dynamic loader or a translator runs, from its path on; null if `program` is another one.
 * binfmt_misc may put the former argv[0] after the path; it is left out where it has the same name as the program.
 */
export function loadedBy(program: string, args: readonly string[]): { argv: readonly string[]; loader: string } | null {
  const loader = LOADERS.find(({ program: pattern }) => pattern.test(program));
  if (!loader) return null;
  const start = findProgram(args, loader.takesValue);
  const [path = '', called = '', ...rest] = args.slice(start);
  const isSame = familyOf(baseName(called.replace(/^-/, ''))) === familyOf(baseName(path));
  return { argv: isSame ? [path, ...rest] : args.slice(start), loader: loader.name ?? program };
}

function findProgram(args: readonly string[], takesValue: RegExp): number {
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '--') return i + 1;
    if (takesValue.test(arg)) i++;
    else if (!arg.startsWith('-')) return i;
  }
  return args.length;
}

/** Whether a program is an interpreter, and so is named after what it runs. */
export function isInterpreter(program: string): boolean {
  return INTERPRETERS.has(familyOf(program)) || WINE.test(program) || ERLANG.test(program);
}

/** The name of what an interpreter runs, else its own without the version; undefined if `program` is no interpreter. */
export function nameOfScript(program: string, argv: readonly string[]): string | undefined {
  if (WINE.test(program)) return argv.map(windowsName).find((name) => name !== undefined) ?? 'wine';
  const args = argv.slice(1);
  if (ERLANG.test(program)) return nameOfErlang(args) ?? program;
  const family = familyOf(program);
  const interpreter = INTERPRETERS.get(family);
  if (!interpreter) return undefined;
  const script = findScript(interpreter, args);
  // Files that the shell or the caller opened have no stable name.
  if (script === undefined || /^\/(?:dev|proc)\//.test(script)) return family;
  const name = baseName(script);
  return name === '' || name === '.' || name === '..' ? family : name;
}

/** The base name of a path, which Nix may have wrapped: `.nginx-wrapped` is `nginx`. */
export function baseName(path: string): string {
  const name = path.split('/').findLast((part) => part !== '') ?? '';
  return /^\.(.+?)-wrapped_*$/s.exec(name)?.[1] ?? name;
}

function familyOf(program: string): string {
  const family = VERSIONED.exec(program)?.[1] ?? program;
  return ALIASES.get(family) ?? family;
}

const VERSIONED = /^([a-z][a-z-]*?)(?:-?\d[\w.-]*)?$/i;

/** The base name of a program of Windows, from an argument such as `C:\\windows\\system32\\services.exe`. */
function windowsName(arg: string): string | undefined {
  return /(?:^|[\\/])([^\\/]+\.(?:exe|com|bat|cmd|msi))$/i.exec(arg)?.[1];
}

/**
 * What an Erlang machine runs: the last module of `-s` or `-run` that is not Elixir's own start, the script after `-extra`
 * (`mix`, an escript), or the node name without its host (an Elixir release).
 */
function nameOfErlang(args: readonly string[]): string | undefined {
  const extra = args.indexOf('-extra');
  const flags = extra < 0 ? args : args.slice(0, extra);
  const after = (...options: string[]): string | undefined =>
    flags.findLast((flag, i) => options.includes(flags[i - 1] ?? '') && flag !== 'elixir' && /^\w/.test(flag));
  const script = args.slice(extra + 1).find((arg) => !/^[-+]/.test(arg));
  const node = after('-name', '-sname')?.replace(/@.*$/s, '');
  return after('-s', '-run') ?? (extra >= 0 && script !== undefined ? baseName(script) : node);
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
