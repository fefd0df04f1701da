#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --max-semi-space-size=2 --v8-pool-size=1
import type { Command, Option } from 'commander';
import type { CommandShape, OptionShape } from './cli/command-shape.ts';
import type { Flag } from './config/flags.ts';
import type { CommandSpec } from './cli/command-spec.ts';

// Imports are dynamic so that an unsupported Node.js reaches the version check below, and a command loads only its own modules.

/** Runs the command given by the arguments, `serve` by default. Returns the exit code: 0 success, 1 failure, 2 invalid usage, 3 something is unusual. */
async function main(args: readonly string[]): Promise<number> {
  const { Command, CommanderError } = await import('commander');
  const [{ parseConfig }, { UsageError }] = await Promise.all([
    import('./config/config.ts'),
    import('./common/errors.ts'),
  ]);
  const { environmentVariable: environmentTwin, FLAGS } = await import('./config/flags.ts');
  const { linesWithoutControls } = await import('./common/sanitize.ts');
  const { readVersion, COMMANDS } = await import('./cli/commands.ts');
  const { setProcessTitle } = await import('./cli/process-title.ts');
  setProcessTitle(args[0]);
  const printError = (text: string): void => void process.stderr.write(`${linesWithoutControls(text)}\n`);

  const program = new Command('peerscope')
    .description('Caller ID for every connection on your nodes. The default command is serve.')
    .usage('[command] [options]')
    .version(`peerscope ${readVersion()}`, '--version', 'Print the version')
    .helpOption('-h, --help', 'Print this help')
    .helpCommand('help [command]', 'Print the help of a command')
    .configureOutput({ outputError: () => undefined })
    .configureHelp({ subcommandTerm: termOf })
    .exitOverride();
  const notesOf = new Map<Command, string>();
  const shapeOf = (command: Command): CommandShape => ({
    name: command.name(),
    arguments: argumentsOf(command).join(' '),
    choices: command.registeredArguments[0]?.argChoices ?? [],
    description: command.description(),
    options: [...command.options.map(optionShape), HELP],
    subcommands: command.commands.map(shapeOf),
    notes: notesOf.get(command) ?? '',
  });
  const run = { exitCode: 0, showsStack: false };
  const [word, about = 'help'] = args;
  const runs = COMMANDS.map(nameOf).find((name) => name === word) ?? 'serve';
  // Only these describe the options of other commands.
  const describesAll = word === 'help' || runs === 'completion' || runs === 'man';
  const add = async (parent: Command, spec: CommandSpec, isDefault = false): Promise<void> => {
    const command = parent
      .command(spec.usage, { isDefault })
      .description(spec.description)
      .copyInheritedSettings(parent);
    if (spec.subcommands) {
      command.usage(`[${spec.subcommands.map(nameOf).join('|')}] [options]`);
      for (const [index, one] of spec.subcommands.entries()) await add(command, one, index === 0);
      return;
    }
    if (!describesAll && ![command.name(), parent.name()].includes(runs)) return;
    const { outputs } = spec;
    if (outputs) {
      command.addOption(
        command.createOption('-o, --output <format>', 'Output format').choices(outputs).default(outputs[0]),
      );
    }
    for (const [flags, explanation, standard, choices] of spec.options ?? []) {
      const option = command.createOption(flags, explanation).default(standard);
      command.addOption(choices ? option.choices(choices) : option);
    }
    if (spec.choices) command.registeredArguments[0]?.choices(spec.choices);
    const own = FLAGS.filter((flag) => !flag.serveOnly || command.name() === 'serve');
    for (const flag of flagsToDescribe(own, args, command)) addFlag(command, flag, environmentTwin(flag.name));
    putHelpBelowTerms(command);
    const notes = await spec.notes?.();
    if (notes !== undefined) command.addHelpText('after', `\n${notes}`);
    notesOf.set(command, notes ?? '');
    command.action(async () => {
      const config = parseConfig(flagValues(command), process.env, process.stderr.isTTY);
      run.showsStack = config.log.level === 'debug' || config.log.level === 'trace';
      run.exitCode = await spec.run(config, command, { env: process.env, program: () => shapeOf(program) });
    });
  };
  for (const spec of COMMANDS) await add(program, spec);

  if (word === 'help' && about !== 'help' && !program.commands.some((command) => command.name() === about)) {
    printError(`Cannot read the command line: unknown command '${about}'`);
    return 2;
  }
  const given = word === 'help' && about === 'help' ? ['help'] : args;
  const namesCommand = /^($|[^-])|^(-h|--help|--version)$/.test(args[0] ?? '--');
  try {
    await program.parseAsync(namesCommand ? subcommandFirst(given, COMMANDS) : ['serve', ...args], { from: 'user' });
    return run.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      const reason = error.message.replace(/^error: /, '').replaceAll(/\s+/g, ' ');
      printError(`Cannot read the command line: ${reason}`);
      return 2;
    }
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    const isUsage = error instanceof UsageError;
    printError(run.showsStack && !isUsage ? (stack ?? message) : message);
    return isUsage ? 2 : 1;
  }
}

function nameOf({ usage }: CommandSpec): string {
  return usage.replace(/ .*/, '');
}

/** Moves a subcommand directly behind its command, so that "watch -i 5 top" works. */
function subcommandFirst(args: readonly string[], specs: readonly CommandSpec[]): readonly string[] {
  const [first = '', ...rest] = args;
  const subcommands = specs.find((spec) => nameOf(spec) === first)?.subcommands?.map(nameOf) ?? [];
  const index = rest.findIndex((arg) => subcommands.includes(arg));
  return index < 0 ? args : [first, ...rest.splice(index, 1), ...rest];
}

/** The flags that are given, if nothing else is: to describe all of them takes longer than to run some commands. */
function flagsToDescribe(flags: readonly Flag[], args: readonly string[], { options }: Command): readonly Flag[] {
  const long = args.filter((arg) => arg.startsWith('--')).map((arg) => arg.replace(/=.*/s, ''));
  const isKnown = (arg: string): boolean =>
    options.some((option) => option.long === arg) ||
    flags.some(({ name }) => arg === `--${name}` || arg === `--no-${name}`);
  const isRun = !args.some((arg) => /^(help|man|completion|-[^-]*h.*)$/.test(arg)) && long.every(isKnown);
  return isRun ? flags.filter(({ name }) => long.includes(`--${name}`) || long.includes(`--no-${name}`)) : flags;
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

/** The values of the flags by name; undefined for a flag that is not set. */
function flagValues(command: Command): Record<string, unknown> {
  const options = command.options.filter(({ negate }) => !negate);
  return Object.fromEntries(options.map((option) => [option.name(), command.getOptionValue(option.attributeName())]));
}

function argumentsOf({ registeredArguments }: Command): string[] {
  return registeredArguments.map((argument) => {
    const name = argument.name() + (argument.variadic ? '...' : '');
    return argument.required ? `<${name}>` : `[${name}]`;
  });
}

/** A command with its options, subcommands and arguments, for the list of commands. */
function termOf(command: Command): string {
  const { commands } = command;
  if (command.name() === 'help') return 'help [command]';
  const subcommands = commands.length === 0 ? [] : [`[${commands.map((one) => one.name()).join('|')}]`];
  return [command.name(), '[options]', ...subcommands, ...argumentsOf(command)].join(' ');
}

const HELP: OptionShape = { names: ['-h', '--help'], value: null, choices: [], description: 'Print this help' };

function optionShape({ short, long, flags, argChoices, description }: Option): OptionShape {
  const names = [short, long].filter((name) => name !== undefined);
  return { names, value: /<(.+)>/.exec(flags)?.[1] ?? null, choices: argChoices ?? [], description };
}

/** Prints descriptions below the options: flags and environment variables are too long for two columns. */
function putHelpBelowTerms(command: Command): void {
  const negated = new Set(command.options.filter(({ negate }) => negate).map((option) => option.attributeName()));
  command.configureHelp({
    optionTerm: (option) =>
      negated.has(option.attributeName()) ? option.flags.replace('--', '--[no-]') : option.flags,
    formatItem: (term, _termWidth, description, helper) =>
      `  ${term}\n${helper.boxWrap(description, (helper.helpWidth ?? 80) - 6).replaceAll(/^/gm, '      ')}`,
  });
}

const [first = ''] = process.argv.slice(2);
// Without a handler the signal ends the process. `serve` adds one that reloads, before it reads the file.
if (/^(serve$|-|$)/.test(first)) process.on('SIGHUP', () => undefined);

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  void import('./common/errors.ts').then(({ reasonOf }) => {
    process.stderr.write(`Cannot write to standard output: ${reasonOf(error)}\n`);
    process.exit(1);
  });
});
// A closed log pipe must not stop the exporter.
process.stderr.on('error', () => undefined);

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major > 22 || (major === 22 && minor >= 15)) {
  process.exitCode = await main(process.argv.slice(2));
} else {
  process.stderr.write(`Cannot start on Node.js ${process.versions.node}: peerscope requires Node.js 22.15 or newer\n`);
  process.exitCode = 2;
}
