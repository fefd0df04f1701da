import { fstatSync, readFileSync } from 'node:fs';
import type { ListChoice } from './list.ts';
import type { ViewRequest } from './run-view.ts';
import type { TopKey } from './top.ts';
import type { HistoryRow } from './history.ts';
import type { CommandShape } from './command-shape.ts';
import type { OutputFormat } from './view.ts';
import type { Config } from '../config/config.ts';
import type { Transport } from '../model.ts';

// Imports are dynamic so that each command loads only its own modules.

/** The environment and the command tree that a command runs with. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The whole command tree. */
  readonly program: () => CommandShape;
}

type OptionSpec = readonly [
  flags: string,
  description: string,
  standard?: string | undefined,
  choices?: readonly string[],
];

/** Arguments and options of a command, parsed by commander. */
export interface ParsedCommand {
  readonly args: string[];
  opts<T extends object>(): T;
}

/** A command, or a group of subcommands. The first subcommand is the default. */
export type CommandSpec = SingleCommand | (CommandName & { readonly subcommands: readonly SingleCommand[] });

interface CommandName {
  /** Name and arguments in commander notation. */
  readonly usage: string;
  readonly description: string;
}

interface SingleCommand extends CommandName {
  readonly subcommands?: undefined;
  /** The values of --output, the default first. */
  readonly outputs?: readonly string[];
  /** Its own options in commander notation: flags, description, default, allowed values. */
  readonly options?: readonly OptionSpec[];
  /** The allowed values of its argument. */
  readonly choices?: readonly string[];
  /** Returns the exit code. */
  readonly run: (config: Config, command: ParsedCommand, context: CommandContext) => Promise<number>;
  /** Text at the end of the help. */
  readonly notes?: () => Promise<string>;
}

/** A command that shows connections, once or under `watch`. */
interface ViewCommand extends Omit<SingleCommand, 'run'> {
  readonly outputs: readonly string[];
  /** Whether it can show saved text instead of a scan. */
  readonly readsText?: true;
  /** What it shows. `isScreen` is true if it is redrawn on a terminal. */
  readonly request: (command: ParsedCommand, isScreen: boolean, config: Config) => Promise<ViewRequest>;
}

const VIEW_COMMANDS: readonly ViewCommand[] = [
  {
    usage: 'list [filter...]',
    description: 'List all connections with their owner and remote endpoint',
    outputs: ['table', 'wide', 'json', 'jsonl', 'csv'],
    options: [
      ['-a, --all', 'Show listening sockets and connections; this is the default'],
      ['-p, --processes', 'Show processes; this is the default'],
      ['-t, --tcp', 'Show TCP'],
      ['-u, --udp', 'Show UDP; with -t, show both'],
      ['-l, --listening', 'Show only listening sockets and unconnected UDP sockets'],
      ['-4, --ipv4', 'Show IPv4'],
      ['-6, --ipv6', 'Show IPv6, including IPv4-mapped addresses; with -4, show both'],
      ['-n, --numeric', 'Do not show service names'],
      ['-r, --resolve', 'Resolve remote addresses with reverse DNS; waits up to 3 s for the system resolver'],
      ['--sort <fields>', 'Sort by these headings or JSON fields, such as process,remote_port:desc'],
      ['--fields <fields>', 'Show only these headings or JSON fields, such as local_port,peer'],
    ],
    notes: async () => `${await describeFilters()}\n\n${await describeStates()}`,
    request: async (command) => {
      const { listView } = await import('./list.ts');
      const given = command.opts<Omit<ListChoice, 'filters' | 'isWide'> & { output: string }>();
      const { output } = given;
      const view = listView({
        ...given,
        filters: command.args,
        isWide: output === 'wide',
        isComplete: output !== 'table',
      });
      return { view, names: given.resolve ? 'resolver' : given.numeric ? 'none' : 'services' };
    },
  },
  {
    usage: 'top [filter...]',
    description: 'Show the processes with the most connections, with a bar chart',
    outputs: ['table', 'json', 'jsonl'],
    options: [
      ['--limit <number>', 'Number of entries to show', '10'],
      ['-n, --numeric', 'Do not show service names'],
      ['--by <what>', 'Group connections by this', 'process', ['process', 'asn', 'workload', 'endpoint']],
    ],
    readsText: true,
    notes: describeFilters,
    request: async (command, isScreen) => {
      const { topView } = await import('./top.ts');
      const given = command.opts<{ limit: string; numeric?: boolean; by: TopKey }>();
      const view = topView({ ...given, filters: command.args, isChartFirst: isScreen });
      return { view, names: given.numeric ? 'none' : 'services' };
    },
  },
  {
    usage: 'endpoints [filter...]',
    description: 'Show which endpoints are connected: distant inbound, distant outbound and looping',
    outputs: ['table', 'json', 'jsonl'],
    options: [['-n, --numeric', 'Do not resolve remote addresses; otherwise waits up to 3 s for reverse DNS']],
    readsText: true,
    notes: describeFilters,
    request: async (command) => {
      const { endpointsView } = await import('./endpoints.ts');
      const { numeric } = command.opts<{ numeric?: boolean }>();
      return { view: endpointsView(command.args), names: numeric ? 'none' : 'resolver' };
    },
  },
];

/** Views that watch does not repeat. */
const SINGLE_VIEWS: readonly ViewCommand[] = [
  {
    usage: 'inspect <target>',
    description: 'Show a process (PID), an address or a port (:443) with its parents, listeners, peers and connections',
    outputs: ['table', 'json'],
    request: async (command, _isScreen, config) => {
      const { inspectView } = await import('./inspect.ts');
      const [target = ''] = command.args;
      return { view: inspectView(target, await historyOf(config)), names: 'services' };
    },
  },
  {
    usage: 'exposed [filter...]',
    description: 'Show what listens on addresses that other hosts can reach, and who has connected, worst first',
    outputs: ['table', 'wide', 'json', 'jsonl'],
    notes: describeFilters,
    request: async (command, _isScreen, config) => {
      const { exposedView } = await import('./exposed.ts');
      return { view: exposedView(command.args, await historyOf(config)), names: 'services' };
    },
  },
];

async function historyOf(config: Config): Promise<() => readonly HistoryRow[]> {
  const { knownHistory } = await import('./history.ts');
  const { SYSTEM_CLOCK } = await import('../common/clock.ts');
  return () => knownHistory(config, SYSTEM_CLOCK.now());
}

const COLOR: OptionSpec = ['--color <when>', 'When to use colors', 'auto', ['auto', 'always', 'never']];
const ASK: OptionSpec = [
  '--ask <when>',
  'When to query the ASN provider for networks without an operator: auto queries if standard output is a terminal; waits up to 2 s',
  'auto',
  ['auto', 'always', 'never'],
];
const TRANSPORT: OptionSpec = [
  '--transport <transport>',
  'Transport of rows that do not show it, such as those of ss -t',
  undefined,
  ['tcp', 'udp', 'udplite', 'raw'],
];
const PLAIN: OptionSpec = ['--plain', 'For screen readers: no colors, bars and redrawing'];
const FROM: OptionSpec = [
  '--from <file>',
  'Show saved output of ss, netstat or a similar tool instead of this host; - is standard input',
];
const CHANGES: OptionSpec = [
  '--changes',
  'With -o jsonl, print only what changed since the scan before; what is gone has "gone": true',
];
const INTERVAL: OptionSpec = ['-i, --interval <seconds>', 'Time between scans', '1'];

/** The TCP states and their meanings, for the end of the help. */
async function describeStates(): Promise<string> {
  const { TCP_STATES } = await import('../common/tcp-states.ts');
  const states = Object.entries(TCP_STATES).map(([state, meaning]) => `  ${state}\n${indent(meaning)}`);
  return ['TCP states:', ...states].join('\n');
}

/** The filters with examples, for the end of the help. */
async function describeFilters(): Promise<string> {
  const { filterExamples } = await import('../rows/filter.ts');
  const keys = filterExamples().map(([example, meaning]) => `  ${example}\n${indent(meaning)}`);
  return [
    `Filters:\n${indent('All filters must match. Values separated by commas are alternatives. Case does not matter.')}`,
    `  KEY!=VALUE\n${indent('negates a filter, such as process!=nginx')}`,
    `  KEY~REGEXP\n${indent('matches a part of the value, such as process~^ng; !~ negates')}`,
    ...keys,
  ].join('\n');
}

function indent(text: string): string {
  return text.replaceAll(/(.{1,74})(?: |$)/g, '      $1\n').trimEnd();
}

/** The command that scans once. */
function viewCommand(spec: ViewCommand): SingleCommand {
  return {
    ...spec,
    options: [...(spec.options ?? []), ASK, ...(spec.readsText ? [FROM, TRANSPORT] : []), COLOR, PLAIN],
    run: (config, command, { env }) => runViewCommand(spec, { config, command, env, isWatch: false }),
  };
}

/** The subcommand of `watch`, which scans repeatedly. */
function watchCommand(spec: ViewCommand): SingleCommand {
  return {
    ...spec,
    outputs: spec.outputs.filter((output) => output !== 'json'),
    options: [
      ...(spec.options ?? []),
      ASK,
      COLOR,
      PLAIN,
      INTERVAL,
      CHANGES,
      ['-c, --count <number>', 'Exit after this many scans'],
    ],
    run: (config, command, { env }) => runViewCommand(spec, { config, command, env, isWatch: true }),
  };
}

async function runViewCommand(
  spec: ViewCommand,
  {
    config,
    command,
    env,
    isWatch,
  }: { config: Config; command: ParsedCommand; env: CommandContext['env']; isWatch: boolean },
): Promise<number> {
  const { runView } = await import('./run-view.ts');
  const { SYSTEM_CLOCK } = await import('../common/clock.ts');
  const given = command.opts<{
    output: OutputFormat;
    ask: 'auto' | 'always' | 'never';
    plain?: boolean;
    color: 'auto' | 'always' | 'never';
    interval: string;
    count?: string;
    changes?: boolean;
    from?: string;
    transport?: Transport;
  }>();
  const { stdin, stdout, stderr } = process;
  const interrupt = new AbortController();
  if (isWatch)
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']) process.once(name, () => interrupt.abort());
  const request = await spec.request(command, isWatch && stdout.isTTY, config);
  const saved = given.from === undefined ? {} : await savedRequest(given.from, given.transport);
  return runView(
    await withRules(config),
    { ...request, ...saved },
    {
      output: given.output,
      ask: given.ask,
      isPlain: given.plain ?? false,
      color: given.color,
      env,
      watch: isWatch ? given : null,
      stdin,
      stdout,
      stderr,
      signal: interrupt.signal,
      clock: SYSTEM_CLOCK,
      random: Math.random,
    },
  );
}

/** How to show saved text: only with what it says and what is stored. */
async function savedRequest(file: string, transport: Transport | undefined): Promise<Partial<ViewRequest>> {
  const { openSavedOutput } = await import('./saved-text.ts');
  const saved = await openSavedOutput(file, { stdin: () => standardInput(), transport });
  return { saved, names: 'services' };
}

/** Reads standard input to its end or until the signal. Rejects a directory, which Node.js would read as empty input. */
async function* standardInput(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (fstatSync(0).isDirectory()) throw new Error('Cannot read standard input: it is a directory');
  const { addAbortSignal } = await import('node:stream');
  yield* signal ? addAbortSignal(signal, process.stdin) : process.stdin;
}

/** The commands of peerscope, in the order of the help. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    usage: 'serve',
    description: 'Run the exporter: serve /metrics over HTTP',
    run: async (config) => {
      const { createLog } = await import('../common/log.ts');
      const { serve } = await import('../serve/serve.ts');
      return serve(config, createLog(config.log), readVersion());
    },
  },
  ...[...VIEW_COMMANDS, ...SINGLE_VIEWS].map(viewCommand),
  {
    usage: 'watch',
    description: 'Repeat list, top or endpoints: redraw on a terminal, append otherwise',
    subcommands: VIEW_COMMANDS.map(watchCommand),
  },
  {
    usage: 'events [filter...]',
    outputs: ['jsonl', 'text'],
    description: 'Print a line when a connection opens, closes, or changes its state or owner',
    options: [
      ['-i, --interval <seconds>', 'Time between scans', '1'],
      ['-c, --count <number>', 'Exit after this many scans after the first'],
      ['-n, --numeric', 'Do not show service names'],
      ['--snapshot', 'Print the current rows first, without "event"'],
    ],
    notes: describeFilters,
    run: async (config, command) => {
      const { events } = await import('./events.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const given = command.opts<{
        interval: string;
        count?: string;
        numeric?: boolean;
        snapshot?: boolean;
        output: 'jsonl' | 'text';
      }>();
      const interrupt = new AbortController();
      for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => interrupt.abort());
      return events(await withRules(config), {
        ...given,
        filters: command.args,
        stdout: process.stdout,
        stderr: process.stderr,
        signal: interrupt.signal,
        clock: SYSTEM_CLOCK,
      });
    },
  },
  {
    usage: 'history [filter...]',
    description: 'List which process was connected to which operator, when first and when last, from the store',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    options: [
      ['--since <duration>', 'Show only what is new since then, such as 24h or 7d'],
      ['--sort <fields>', 'Sort by these headings or JSON fields, such as operator,first:desc', 'first:desc'],
      COLOR,
    ],
    notes: describeFilters,
    run: async (config, command, { env }) => {
      const { history } = await import('./history.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { displayOf } = await import('./view.ts');
      const { color: choice, ...given } = command.opts<{
        output: 'table' | 'json' | 'jsonl' | 'csv';
        since?: string;
        sort: string;
        color: 'auto' | 'always' | 'never';
      }>();
      const { stdout, stderr } = process;
      const display = displayOf(stdout, { choice, env });
      return history(config, { ...given, filters: command.args, display, stdout, stderr, now: SYSTEM_CLOCK.now() });
    },
  },
  {
    usage: 'whois [address...]',
    description: 'Look up the network operator of each address, from arguments or standard input',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    run: async (config, command) => {
      const { whois } = await import('./whois.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { output } = command.opts<{ output: 'table' | 'json' | 'jsonl' | 'csv' }>();
      const { rules, storagePath, storageServer, asn } = await withRules(config);
      const interrupt = new AbortController();
      const { signal } = interrupt;
      process.once('SIGINT', () => interrupt.abort());
      const addresses = command.args.length > 0 ? command.args : standardInput(signal);
      const { stdout, stderr } = process;
      return whois(addresses, {
        ...asn,
        rules,
        storagePath,
        storageServer,
        output,
        stdout,
        stderr,
        signal,
        clock: SYSTEM_CLOCK,
        random: Math.random,
      });
    },
  },
  {
    usage: 'stats',
    description: 'Print protocol statistics of a network namespace, in the format of netstat -s',
    options: [
      ['--netns <inode>', 'Inode of the network namespace; defaults to that of peerscope'],
      ['--pid <pid>', 'Use the network namespace of this process'],
      ['--pod <uid>', 'Use the network namespace of this pod'],
      ['--zeros', 'Print counters that are 0; JSON has them anyway'],
      ['--nonzero', 'Omit counters that are 0 from JSON'],
      ['--json', 'Print one JSON object with the names of the kernel'],
    ],
    run: async (config, command) => {
      const { stats } = await import('./stats.ts');
      return stats(config, command.opts(), process.stdout);
    },
  },
  {
    usage: 'parse [file] [filter...]',
    description: 'Convert output of ss or netstat, from a file or standard input, to the rows of list',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    options: [TRANSPORT, COLOR],
    notes: describeFilters,
    run: async (config, command, { env }) => {
      const { parse } = await import('./parse.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { displayOf } = await import('./view.ts');
      const {
        output,
        color: choice,
        ...given
      } = command.opts<{
        output: 'table' | 'json' | 'jsonl' | 'csv';
        transport?: Transport;
        color: 'auto' | 'always' | 'never';
      }>();
      const { args } = command;
      const { stdout, stderr } = process;
      const display = displayOf(stdout, { choice, env });
      const stdin = standardInput();
      const io = { stdin, stdout, stderr, display, clock: SYSTEM_CLOCK };
      return parse(await withRules(config), { args, output, ...given, ...io });
    },
  },
  {
    usage: 'record <folder>',
    description: 'Copy what peerscope reads from /proc, with real addresses and names, to use as --path.procfs=FOLDER',
    options: [['--redact', 'Replace addresses and names with generated ones']],
    run: async (config, command) => {
      const { plural } = await import('./terminal/format.ts');
      const { record } = await import('./record.ts');
      const [directory = ''] = command.args;
      const { processes, namespaces, vanished, denied } = record({
        procfs: config.procfs,
        directory,
        ...command.opts<{ redact?: boolean }>(),
      });
      process.stdout.write(
        `Recorded ${plural(processes, 'process', 'processes')} and ${plural(namespaces, 'network namespace')}; ` +
          `${plural(vanished, 'process', 'processes')} exited, ${denied} could not be read completely\n`,
      );
      return 0;
    },
  },
  {
    usage: 'unusual',
    description:
      'Show what the exporters of a store reported as unusual in the last hour, and why; exit code 3 if anything',
    outputs: ['table', 'json'],
    run: async (config, command) => {
      const { unusual } = await import('./unusual.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { output } = command.opts<{ output: 'table' | 'json' }>();
      const { stdout, stderr } = process;
      return unusual({ ...(await withRules(config)), output, stdout, stderr, clock: SYSTEM_CLOCK });
    },
  },
  {
    usage: 'accept <workload> <what>',
    description: 'Declare something normal for a workload, such as: accept shop/web AS64500',
    options: [['--why <reason>', 'The reason, which unusual shows']],
    run: (config, command, { env }) => runDecision(config, command, { env, isAccepted: true }),
  },
  {
    usage: 'distrust <workload> <what>',
    description: 'Declare something not normal for a workload: it is reported when it is met again',
    run: (config, command, { env }) => runDecision(config, command, { env, isAccepted: false }),
  },
  {
    usage: 'check-config [file]',
    description: 'Validate a configuration file, by default that of --config.file, and explain its rules',
    run: async ({ configFile }, command) => {
      const { checkConfig } = await import('./check-config.ts');
      const file = command.args[0] ?? configFile;
      if (file !== null) return checkConfig(file, process.stdout, process.stderr);
      process.stderr.write('Cannot check configuration: pass a file as an argument or with --config.file\n');
      return 2;
    },
  },
  {
    usage: 'completion <bash|zsh|fish>',
    description: 'Print a shell completion script: source <(peerscope completion bash)',
    choices: ['bash', 'zsh', 'fish'],
    run: async (_config, command, { program }) => {
      const { completionFor, SHELLS } = await import('./completion.ts');
      const shell = SHELLS.find((candidate) => candidate === command.args[0]) ?? 'bash';
      process.stdout.write(completionFor(shell, program()));
      return 0;
    },
  },
  {
    usage: 'man',
    description: 'Print the manual page: peerscope man | man -l -',
    run: async (_config, _command, { program }) => {
      const { manualOf } = await import('./manual.ts');
      process.stdout.write(manualOf(program(), readVersion()));
      return 0;
    },
  },
];

async function runDecision(
  { storagePath, storageServer, isStorageGiven }: Config,
  command: ParsedCommand,
  { env, isAccepted }: { readonly env: CommandContext['env']; readonly isAccepted: boolean },
): Promise<number> {
  const { currentUser, decide } = await import('./decide.ts');
  const { SYSTEM_CLOCK } = await import('../common/clock.ts');
  const { stdout, stderr } = process;
  const by = currentUser(env['SUDO_USER']);
  const io = { by, stdout, stderr, clock: SYSTEM_CLOCK };
  const { why } = command.opts<{ why?: string }>();
  const storage = { storagePath, storageServer, isStorageGiven };
  return decide(command.args, { ...storage, ...io, isAccepted, ...(why !== undefined && { why }) });
}

export function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function withRules(config: Config): Promise<Config> {
  if (config.configFile === null) return config;
  const { readRules } = await import('../config/rules.ts');
  return Object.freeze({ ...config, rules: readRules(config.configFile) });
}
