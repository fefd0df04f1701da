import { readFileSync } from 'node:fs';
import type { Config } from '../config/config.ts';
import type { Transport } from '../model.ts';
import {
  clientOf,
  COLOR,
  CONNECT,
  describeFilters,
  standardInput,
  TRANSPORT,
  withRules,
  type CommandContext,
  type CommandSpec,
  type ConnectGiven,
  type ParsedCommand,
} from './command-spec.ts';
import { SINGLE_COMMANDS, WATCH_COMMANDS } from './view-commands.ts';

// Imports are dynamic so that each command loads only its own modules.

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
  ...SINGLE_COMMANDS,
  {
    usage: 'watch',
    description: 'Repeat list, top or endpoints: redraw on a terminal, append otherwise',
    subcommands: WATCH_COMMANDS,
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
    run: async (config, command, { env }) => {
      const { events } = await import('./events.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { encoderOf } = await import('./terminal/ascii.ts');
      const { stdout, stderr } = process;
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
        width: () => (stdout.isTTY ? stdout.columns || 80 : Infinity),
        encode: encoderOf(env),
        stdout,
        stderr,
        signal: interrupt.signal,
        clock: SYSTEM_CLOCK,
      });
    },
  },
  {
    usage: 'history [filter...]',
    description: 'List which workload was connected to which operator, when first and when last, from the store',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    options: [
      ['--since <duration>', 'Show only what is new since then, such as 24h or 7d'],
      ['--sort <fields>', 'Sort by these headings or JSON fields, such as operator,first:desc', 'first:desc'],
      ...CONNECT,
      COLOR,
    ],
    notes: describeFilters,
    run: async (config, command, { env }) => {
      const { history } = await import('./history.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { displayOf } = await import('./view.ts');
      const { color: choice, ...given } = command.opts<
        ConnectGiven & {
          output: 'table' | 'json' | 'jsonl' | 'csv';
          since?: string;
          sort: string;
          color: 'auto' | 'always' | 'never';
        }
      >();
      const { stdout, stderr } = process;
      const display = displayOf(stdout, { choice, env });
      const client = await clientOf(given);
      const { encoderOf } = await import('./terminal/ascii.ts');
      const encode = encoderOf(env);
      return history(config, {
        ...given,
        client,
        encode,
        filters: command.args,
        display,
        stdout,
        stderr,
        clock: SYSTEM_CLOCK,
      });
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
    options: CONNECT,
    run: async (config, command, { env }) => {
      const { unusual } = await import('./unusual.ts');
      const { SYSTEM_CLOCK } = await import('../common/clock.ts');
      const { displayOf } = await import('./view.ts');
      const { encoderOf } = await import('./terminal/ascii.ts');
      const { output, ...given } = command.opts<ConnectGiven & { output: 'table' | 'json' }>();
      const { stdout, stderr } = process;
      const client = await clientOf(given);
      const screen = { display: displayOf(stdout, { choice: 'auto', env }), encode: encoderOf(env) };
      const io = { ...screen, stdout, stderr, clock: SYSTEM_CLOCK };
      return unusual({ ...(await withRules(config)), client, output, ...io });
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
