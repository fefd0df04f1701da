import type { Config } from '../config/config.ts';
import type { Transport } from '../model.ts';
import {
  clientOf,
  COLOR,
  CONNECT,
  describeFilters,
  indent,
  standardInput,
  TRANSPORT,
  withRules,
  type CommandContext,
  type ConnectGiven,
  type OptionSpec,
  type ParsedCommand,
  type SingleCommand,
} from './command-spec.ts';
import type { HistoryRow } from './history.ts';
import type { ListChoice } from './list.ts';
import type { ViewRequest } from './run-view.ts';
import type { TopKey } from './top.ts';
import type { OutputFormat } from './view.ts';

/** A command that shows connections, once or under `watch`. */
interface ViewCommand extends Omit<SingleCommand, 'run'> {
  readonly outputs: readonly string[];
  /** Whether it can show saved text instead of a scan. */
  readonly readsText?: true;
  /** Whether it can show the API of an exporter instead of a scan. */
  readonly connects?: true;
  /** What it shows. `isScreen` is true if it is redrawn on a terminal. */
  readonly request: (command: ParsedCommand, isScreen: boolean, config: Config) => Promise<ViewRequest>;
}

const VIEW_COMMANDS: readonly ViewCommand[] = [
  {
    usage: 'list [filter...]',
    connects: true,
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
    connects: true,
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
    connects: true,
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
    connects: true,
    description: 'Show a process (PID), an address or a port (:443) with its parents, listeners, peers and connections',
    outputs: ['table', 'json'],
    request: async (command, _isScreen, config) => {
      const { inspectView } = await import('./inspect.ts');
      const [target = ''] = command.args;
      return { view: inspectView(target, await historyOf(config, command)), names: 'services' };
    },
  },
  {
    usage: 'exposed [filter...]',
    connects: true,
    description: 'Show what listens on addresses that other hosts can reach, and who has connected, worst first',
    outputs: ['table', 'wide', 'json', 'jsonl'],
    notes: describeFilters,
    request: async (command, _isScreen, config) => {
      const { exposedView } = await import('./exposed.ts');
      return { view: exposedView(command.args, await historyOf(config, command)), names: 'services' };
    },
  },
];

async function historyOf(config: Config, command: ParsedCommand): Promise<readonly HistoryRow[]> {
  const { knownHistory } = await import('./history.ts');
  const { SYSTEM_CLOCK } = await import('../common/clock.ts');
  return knownHistory(config, { client: await clientOf(command.opts<ConnectGiven>()), clock: SYSTEM_CLOCK });
}

const ASK: OptionSpec = [
  '--ask <when>',
  'When to query the ASN provider for networks without an operator: auto queries if standard output is a terminal; waits up to 2 s',
  'auto',
  ['auto', 'always', 'never'],
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
const ROTATE: OptionSpec = [
  '--rotate <size>',
  'Keep at most this much, such as 100MiB: when the file of standard output has half of it, begin a new one, and keep the former as FILE.1',
];
const INTERVAL: OptionSpec = ['-i, --interval <seconds>', 'Time between scans', '1'];

/** The TCP states and their meanings, for the end of the help. */
async function describeStates(): Promise<string> {
  const { TCP_STATES } = await import('../common/tcp-states.ts');
  const states = Object.entries(TCP_STATES).map(([state, meaning]) => `  ${state}\n${indent(meaning)}`);
  return ['TCP states:', ...states].join('\n');
}

/** The command that scans once. */
function viewCommand(spec: ViewCommand): SingleCommand {
  return {
    ...spec,
    options: [
      ...(spec.options ?? []),
      ASK,
      ...(spec.connects ? CONNECT : []),
      ...(spec.readsText ? [FROM, TRANSPORT] : []),
      COLOR,
      PLAIN,
    ],
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
      ...CONNECT,
      COLOR,
      PLAIN,
      INTERVAL,
      CHANGES,
      ROTATE,
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
  const given = command.opts<
    ConnectGiven & {
      output: OutputFormat;
      ask: 'auto' | 'always' | 'never';
      plain?: boolean;
      color: 'auto' | 'always' | 'never';
      interval: string;
      count?: string;
      changes?: boolean;
      rotate?: string;
      resolve?: boolean;
      from?: string;
      transport?: Transport;
    }
  >();
  const client = await clientOf(given);
  if (client) await checkConnected(command, given);
  const { stdin, stdout, stderr } = process;
  const interrupt = new AbortController();
  if (isWatch)
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']) process.once(name, () => interrupt.abort());
  const request = await spec.request(command, isWatch && stdout.isTTY, config);
  const saved = given.from === undefined ? {} : await savedRequest(given.from, given.transport);
  return runView(
    await withRules(config),
    { ...request, ...saved, ...(client && { client }) },
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

/** Throws UsageError for what an exporter cannot do for a command. */
async function checkConnected(
  command: ParsedCommand,
  { from, ask, resolve }: { readonly from?: string; readonly ask: string; readonly resolve?: boolean },
): Promise<void> {
  const { needsDetails } = await import('../rows/filter.ts');
  const { UsageError } = await import('../common/errors.ts');
  if (from !== undefined) throw new UsageError('Cannot use --from with --connect: they exclude each other');
  if (ask === 'always') throw new UsageError('Cannot use --ask=always with --connect: the exporter queries by itself');
  if (resolve) throw new UsageError('Cannot use --resolve with --connect: the exporter resolves names by itself');
  if (needsDetails(command.args))
    throw new UsageError('Cannot use a filter on the program of a process with --connect: the API does not have that');
}

/** How to show saved text: only with what it says and what is stored. */
async function savedRequest(file: string, transport: Transport | undefined): Promise<Partial<ViewRequest>> {
  const { openSavedOutput } = await import('./saved-text.ts');
  const saved = await openSavedOutput(file, { stdin: () => standardInput(), transport });
  return { saved, names: 'services' };
}

/** The commands that scan once. */
export const SINGLE_COMMANDS: readonly SingleCommand[] = [...VIEW_COMMANDS, ...SINGLE_VIEWS].map(viewCommand);

/** The subcommands of `watch`. */
export const WATCH_COMMANDS: readonly SingleCommand[] = VIEW_COMMANDS.map(watchCommand);
