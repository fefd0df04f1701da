import { fstatSync, readFileSync } from 'node:fs';
import type { ListChoice } from './list.ts';
import type { ViewRequest } from './run-view.ts';
import type { TopKey } from './top.ts';
import type { CommandShape } from './command-shape.ts';
import type { OutputFormat } from './view.ts';
import type { Config } from '../config/config.ts';

// Every import of a command is dynamic, so that it loads only its own.

/** What surrounds a command. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Every command there is, this one included. */
  readonly program: () => CommandShape;
}

type OptionSpec = readonly [flags: string, description: string, standard?: string, choices?: readonly string[]];

/** What the command line gave a command. */
export interface ParsedCommand {
  readonly args: string[];
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as commander has it
  opts<T extends object>(): T;
}

/** A command of the terminal, or a name for those subcommands it, of which the first runs where none is named. */
export type CommandSpec = SingleCommand | (CommandName & { readonly subcommands: readonly SingleCommand[] });

interface CommandName {
  /** Name and arguments in commander's notation. */
  readonly usage: string;
  readonly description: string;
}

interface SingleCommand extends CommandName {
  readonly subcommands?: undefined;
  /** The values of --output, the default first. */
  readonly outputs?: readonly string[];
  /** Options of its own in commander's notation: flags, description, default, and the values it may have where these are few. */
  readonly options?: readonly OptionSpec[];
  /** The values that its argument may have. */
  readonly choices?: readonly string[];
  /** Returns the exit code. */
  readonly run: (config: Config, command: ParsedCommand, context: CommandContext) => Promise<number>;
  /** What the help says at its end. */
  readonly notes?: () => Promise<string>;
}

/** A command that shows connections, once or under `watch`. */
interface ViewCommand extends Omit<SingleCommand, 'run'> {
  readonly outputs: readonly string[];
  /** What it shows; `isScreen` where it is drawn again and again on a terminal. */
  readonly request: (command: ParsedCommand, isScreen: boolean) => Promise<ViewRequest>;
}

const VIEW_COMMANDS: readonly ViewCommand[] = [
  {
    usage: 'list [filter...]',
    description: 'List every connection with its owner and its remote',
    outputs: ['table', 'wide', 'json', 'jsonl', 'csv'],
    options: [
      ['-t, --tcp', 'TCP'],
      ['-u, --udp', 'UDP; with -t both'],
      ['-l, --listening', 'Only what listens, and UDP without a peer'],
      ['-4, --ipv4', 'IPv4'],
      ['-6, --ipv6', 'IPv6, with IPv4 addresses inside it; with -4 both'],
      ['-n, --numeric', 'No names of services'],
      ['-r, --resolve', "Name the remotes by reverse DNS, asking the host's own resolver for at most 3 s"],
      ['--sort <fields>', 'Order by these fields of the JSON, as in process,remote_port:desc'],
      ['--fields <fields>', 'Show these fields of the JSON alone, as in local_port,process'],
    ],
    notes: describeStates,
    request: async (command) => {
      const { listView } = await import('./list.ts');
      const given = command.opts<Omit<ListChoice, 'filters' | 'isWide'> & { output: string }>();
      const view = listView({ ...given, filters: command.args, isWide: given.output === 'wide' });
      return { view, names: given.resolve ? 'resolver' : given.numeric ? 'none' : 'services', queriesProvider: false };
    },
  },
  {
    usage: 'top [filter...]',
    description: 'Show the processes with the most connections, each with its connections, and a bar chart',
    outputs: ['table', 'json', 'jsonl'],
    options: [
      ['-n, --number <number>', 'How many', '10'],
      ['--by <what>', 'What connections are counted by', 'process', ['process', 'asn', 'workload', 'endpoint']],
    ],
    request: async (command, isScreen) => {
      const { topView } = await import('./top.ts');
      const { number, by } = command.opts<{ number: string; by: TopKey }>();
      const view = topView({ filters: command.args, by, number, isChartFirst: isScreen });
      return { view, names: 'services', queriesProvider: true };
    },
  },
  {
    usage: 'endpoints [filter...]',
    description: 'Show which services are connected with whom: distant inbound, distant outbound and looping',
    outputs: ['table', 'json', 'jsonl'],
    options: [['-n, --numeric', 'No names by reverse DNS, which else asks the resolver of the host for at most 3 s']],
    request: async (command) => {
      const { endpointsView } = await import('./endpoints.ts');
      const { numeric } = command.opts<{ numeric?: boolean }>();
      return { view: endpointsView(command.args), names: numeric ? 'none' : 'resolver', queriesProvider: true };
    },
  },
];

const COLOR: OptionSpec = ['--color <when>', 'When to use colours', 'auto', ['auto', 'always', 'never']];
const INTERVAL: OptionSpec = ['-i, --interval <seconds>', 'Time from one look to the next', '1'];

/** The eleven states of TCP, for the end of a help. */
async function describeStates(): Promise<string> {
  const { TCP_STATES } = await import('../common/tcp-states.ts');
  const states = Object.entries(TCP_STATES).map(([state, meaning]) => `  ${state}\n${indent(meaning)}`);
  return ['States of TCP:', ...states].join('\n');
}

function indent(text: string): string {
  return text.replaceAll(/(.{1,74})(?: |$)/g, '      $1\n').trimEnd();
}

/** Shows what a command of `VIEW_COMMANDS` is about, once. */
function viewCommand(spec: ViewCommand): SingleCommand {
  return {
    ...spec,
    options: [...(spec.options ?? []), COLOR],
    run: (config, command, { env }) => runViewCommand(spec, { config, command, env, isWatch: false }),
  };
}

/** The same under `watch`. */
function watchCommand(spec: ViewCommand): SingleCommand {
  return {
    ...spec,
    outputs: spec.outputs.filter((output) => output !== 'json'),
    options: [...(spec.options ?? []), COLOR, INTERVAL, ['-c, --count <number>', 'End after so many looks']],
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
    color: 'auto' | 'always' | 'never';
    interval: string;
    count?: string;
  }>();
  const { stdin, stdout, stderr } = process;
  const interrupt = new AbortController();
  if (isWatch)
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']) process.once(name, () => interrupt.abort());
  const request = await spec.request(command, isWatch && stdout.isTTY);
  return runView(await withRules(config), request, {
    output: given.output,
    color: given.color,
    env,
    watch: isWatch ? given : null,
    stdin,
    stdout,
    stderr,
    signal: interrupt.signal,
    clock: SYSTEM_CLOCK,
    random: Math.random,
  });
}

/** The bytes of standard input until its end or the signal; a directory, which Node takes for an empty one, is refused. */
async function* standardInput(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (fstatSync(0).isDirectory()) throw new Error('Cannot read standard input: it is a directory');
  const { addAbortSignal } = await import('node:stream');
  yield* signal ? addAbortSignal(signal, process.stdin) : process.stdin;
}

/** The commands of peerscope, in the order of its help. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    usage: 'serve',
    description: 'Be the exporter: serve /metrics',
    run: async (config) => {
      const { createLog } = await import('../common/log.ts');
      const { serve } = await import('../serve/serve.ts');
      return serve(await withRules(config), createLog(config.log), readVersion());
    },
  },
  ...VIEW_COMMANDS.map(viewCommand),
  {
    usage: 'watch',
    description: 'Show list, top or endpoints again and again: on a terminal in place, else one after the other',
    subcommands: VIEW_COMMANDS.map(watchCommand),
  },
  {
    usage: 'events [filter...]',
    description: 'Print a JSON line for every connection opened, changed in state or owner, or closed',
    options: [
      ['-i, --interval <seconds>', 'Time from one scan to the next', '1'],
      ['-c, --count <number>', 'End after so many scans after the first'],
      ['--snapshot', 'First print the rows that are there, without "event"'],
    ],
    run: async (config, command) => {
      const { events } = await import('./events.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const given = command.opts<{ interval: string; count?: string; snapshot?: boolean }>();
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
    usage: 'whois [address...]',
    description: 'Say which network operator holds each address, of the arguments or else of standard input',
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
    description: 'Print the protocol statistics of a network namespace, as netstat -s names them',
    options: [
      ['--netns <inode>', 'Of this network namespace; by default of the own one'],
      ['--pid <pid>', 'Of the network namespace of this process'],
      ['--pod <uid>', 'Of the network namespace of this pod'],
      ['--nonzero', 'Leave zeros out'],
      ['--json', "Print one JSON object, under the kernel's names"],
    ],
    run: async (config, command) => {
      const { stats } = await import('./stats.ts');
      return stats(config, command.opts(), process.stdout);
    },
  },
  {
    usage: 'parse [file] [filter...]',
    description: 'Turn the output of ss or netstat, from a file or standard input, into rows such as those of list',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    options: [COLOR],
    run: async (config, command, { env }) => {
      const { parse } = await import('./parse.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { displayOf } = await import('./view.ts');
      const { output, color: choice } = command.opts<{
        output: 'table' | 'json' | 'jsonl' | 'csv';
        color: 'auto' | 'always' | 'never';
      }>();
      const { args } = command;
      const { stdout, stderr } = process;
      const display = displayOf(stdout, { choice, env });
      const stdin = standardInput();
      return parse(await withRules(config), { args, output, stdin, stdout, stderr, display, clock: SYSTEM_CLOCK });
    },
  },
  {
    usage: 'record <folder>',
    description: 'Record what peerscope reads from /proc, with real addresses and names, for --path.procfs=FOLDER',
    options: [['--redact', 'Replace addresses and names with invented ones']],
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
          `${plural(vanished, 'process', 'processes')} had ended, ${denied} could not be read in full\n`,
      );
      return 0;
    },
  },
  {
    usage: 'check-config [file]',
    description: 'Check a configuration file, or that of --config.file, and say what it means',
    run: async ({ configFile }, command) => {
      const { checkConfig } = await import('./check-config.ts');
      const file = command.args[0] ?? configFile;
      if (file !== null) return checkConfig(file, process.stdout, process.stderr);
      process.stderr.write(
        'Cannot check configuration: no file is given, neither as an argument nor by --config.file\n',
      );
      return 2;
    },
  },
  {
    usage: 'completion <bash|zsh|fish>',
    description: 'Print the completions of a shell, as for: source <(peerscope completion bash)',
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
    description: 'Print the manual page, as for: peerscope man | man -l -',
    run: async (_config, _command, { program }) => {
      const { manualOf } = await import('./manual.ts');
      process.stdout.write(manualOf(program(), readVersion()));
      return 0;
    },
  },
];

export function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function withRules(config: Config): Promise<Config> {
  if (config.configFile === null) return config;
  const { readRules } = await import('../config/rules.ts');
  return Object.freeze({ ...config, rules: readRules(config.configFile) });
}
