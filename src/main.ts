#!/usr/bin/env -S node --max-semi-space-size=2
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Config, Flag } from './config.ts';

// Every import below is dynamic, so that an old Node comes as far as the check at the end and a command loads only its own.

/** A command of the terminal. */
interface Task {
  /** Name and arguments in commander's notation. */
  readonly usage: string;
  readonly description: string;
  /** The values of --output, the default first. */
  readonly outputs?: readonly string[];
  /** Options of its own in commander's notation: flags, description, default. */
  readonly options?: readonly (readonly [flags: string, description: string, standard?: string])[];
  /** Returns the exit code. */
  readonly run: (config: Config, command: Command) => Promise<number>;
}

const TASKS: readonly Task[] = [
  {
    usage: 'serve',
    description: 'Be the exporter: serve /metrics',
    run: async (config) => {
      const { createLog } = await import('./log.ts');
      const { serve } = await import('./cli/serve.ts');
      return serve(await withRules(config), createLog(config.log), readVersion());
    },
  },
  {
    usage: 'list [filter...]',
    description: 'List every connection with its owner and its remote',
    outputs: ['table', 'json'],
    options: [['-r, --resolve', "Name the remotes by reverse DNS, asking the host's own resolver for at most 3 s"]],
    run: async (config, command) => {
      const { list } = await import('./cli/list.ts');
      const { output, resolve } = command.opts<{ output: 'table' | 'json'; resolve?: boolean }>();
      return list(await withRules(config), output, process, { filters: command.args, resolve });
    },
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
      const { events } = await import('./cli/events.ts');
      const { SYSTEM_CLOCK } = await import('./clock.ts');
      const given = command.opts<{ interval: string; count?: string; snapshot?: boolean }>();
      const interruption = new AbortController();
      for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => interruption.abort());
      return events(await withRules(config), {
        ...given,
        filters: command.args,
        stdout: process.stdout,
        stderr: process.stderr,
        signal: interruption.signal,
        clock: SYSTEM_CLOCK,
      });
    },
  },
  {
    usage: 'whois [address...]',
    description: 'Say which network operator holds each address, of the arguments or else of standard input',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    run: async (config, command) => {
      const { createInterface } = await import('node:readline');
      const { whois } = await import('./cli/whois.ts');
      const { SYSTEM_CLOCK } = await import('./clock.ts');
      const { output } = command.opts<{ output: 'table' | 'json' | 'jsonl' | 'csv' }>();
      const { rules, storagePath, storageServer, asn } = await withRules(config);
      const interruption = new AbortController();
      const { signal } = interruption;
      process.once('SIGINT', () => interruption.abort());
      const addresses = command.args.length > 0 ? command.args : createInterface({ input: process.stdin, signal });
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
      const { stats } = await import('./cli/stats.ts');
      return stats(config, command.opts(), process.stdout);
    },
  },
  {
    usage: 'parse [file] [filter...]',
    description: 'Turn the output of ss or netstat, from a file or standard input, into rows such as those of list',
    outputs: ['table', 'json', 'jsonl', 'csv'],
    run: async (config, command) => {
      const { parse } = await import('./cli/parse.ts');
      const { SYSTEM_CLOCK } = await import('./clock.ts');
      const { output } = command.opts<{ output: 'table' | 'json' | 'jsonl' | 'csv' }>();
      const { args } = command;
      const { stdin, stdout, stderr } = process;
      return parse(await withRules(config), { args, output, stdin, stdout, stderr, clock: SYSTEM_CLOCK });
    },
  },
  {
    usage: 'record <folder>',
    description: 'Record a redacted /proc that reproduces what peerscope sees, for --path.procfs=FOLDER',
    options: [['--redact', 'Put invented addresses and names in the place of the real ones']],
    run: async (config, command) => {
      const { record } = await import('./cli/record.ts');
      const [directory = ''] = command.args;
      const { processes, namespaces, vanished, denied } = record({
        procfs: config.procfs,
        directory,
        ...command.opts<{ redact?: boolean }>(),
      });
      process.stdout.write(
        `Recorded ${processes} processes and ${namespaces} network namespaces; ` +
          `${vanished} processes had ended, ${denied} could not be read in full\n`,
      );
      return 0;
    },
  },
  {
    usage: 'check-config [file]',
    description: 'Check a configuration file, or that of --config.file, and say what it means',
    run: async ({ configFile }, command) => {
      const { checkConfig } = await import('./cli/check-config.ts');
      const file = command.args[0] ?? configFile;
      if (file !== null) return checkConfig(file, process.stdout, process.stderr);
      process.stderr.write(
        'Cannot check configuration: no file is given, neither as an argument nor by --config.file\n',
      );
      return 2;
    },
  },
];

/** Runs the command that the arguments name, else `serve`. Returns the exit code: 0 done, 1 failed, 2 wrong usage. */
async function main(args: readonly string[]): Promise<number> {
  const { Command, CommanderError } = await import('commander');
  const { environmentTwin, FLAGS, parseConfig, UsageError } = await import('./config.ts');

  const program = new Command('peerscope')
    .description('Caller ID for every connection on your nodes. Without a command peerscope serves.')
    .usage('[command] [options]')
    .version(`peerscope ${readVersion()}`, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .configureOutput({ outputError: () => undefined })
    .exitOverride();
  const run = { exitCode: 0, showsStack: false };
  for (const task of TASKS) {
    const command = program.command(task.usage).description(task.description);
    const { outputs } = task;
    if (outputs) {
      command.addOption(
        command.createOption('-o, --output <format>', 'How to print').choices(outputs).default(outputs[0]),
      );
    }
    for (const [flags, explanation, standard] of task.options ?? []) command.option(flags, explanation, standard);
    for (const flag of FLAGS) {
      if (!flag.serveOnly || command.name() === 'serve') addFlag(command, flag, environmentTwin(flag.name));
    }
    putHelpBelowTerms(command);
    command.action(async () => {
      const config = parseConfig(givenFlags(command), process.env, process.stderr.isTTY);
      run.showsStack = config.log.level === 'debug' || config.log.level === 'trace';
      run.exitCode = await task.run(config, command);
    });
  }

  const namesCommand = /^($|[^-])|^(-h|--help|--version)$/.test(args[0] ?? '--');
  try {
    await program.parseAsync(namesCommand ? args : ['serve', ...args], { from: 'user' });
    return run.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      const reason = error.message.replace(/^error: /, '').replaceAll(/\s+/g, ' ');
      process.stderr.write(`Cannot read the command line: ${reason}\n`);
      return 2;
    }
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    const isUsage = error instanceof UsageError;
    process.stderr.write(`${run.showsStack && !isUsage ? (stack ?? message) : message}\n`);
    return isUsage ? 2 : 1;
  }
}

function addFlag(command: Command, flag: Flag, twin: string): void {
  const { name, placeholder, description, allowed } = flag;
  const lines = [`${description}.`];
  if (placeholder !== null) lines.push(`Allowed: ${allowed}.`);
  lines.push(`${flag.default === null ? '' : `Default: ${flag.default}. `}Environment: ${twin}`);
  const option = command.createOption(
    placeholder === null ? `--${name}` : `--${name} <${placeholder}>`,
    lines.join('\n'),
  );
  if (flag.repeatable) option.argParser((text: string, before: string[] | undefined) => [...(before ?? []), text]);
  command.addOption(option);
  const isOff = placeholder !== null || flag.default === 'false';
  if (!isOff) command.addOption(command.createOption(`--no-${name}`).hideHelp());
}

/** The flags that the command line holds, by name; undefined where one is not given. */
function givenFlags(command: Command): Record<string, unknown> {
  const options = command.options.filter(({ negate }) => !negate);
  return Object.fromEntries(options.map((option) => [option.name(), command.getOptionValue(option.attributeName())]));
}

/** Flags and their twins are too long for help in two columns. */
function putHelpBelowTerms(command: Command): void {
  const negated = new Set(command.options.filter(({ negate }) => negate).map((option) => option.attributeName()));
  command.configureHelp({
    optionTerm: (option) =>
      negated.has(option.attributeName()) ? option.flags.replace('--', '--[no-]') : option.flags,
    formatItem: (term, _termWidth, description, helper) =>
      `  ${term}\n${helper.boxWrap(description, (helper.helpWidth ?? 80) - 6).replaceAll(/^/gm, '      ')}`,
  });
}

async function withRules(config: Config): Promise<Config> {
  if (config.configFile === null) return config;
  const { readRules } = await import('./rules.ts');
  return Object.freeze({ ...config, rules: readRules(config.configFile) });
}

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0);
  process.stderr.write(`Cannot write to standard output: ${message}\n`);
  process.exit(1);
});
// A log that nobody reads any more must not end the exporter.
process.stderr.on('error', () => undefined);

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major > 22 || (major === 22 && minor >= 15)) {
  process.exitCode = await main(process.argv.slice(2));
} else {
  process.stderr.write(`Cannot start on Node ${process.versions.node}: peerscope needs Node 22.15 or newer\n`);
  process.exitCode = 2;
}
