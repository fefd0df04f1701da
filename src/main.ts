#!/usr/bin/env -S node --max-semi-space-size=2
import type { Command, Option } from 'commander';
import type { CommandShape, OptionShape } from './cli/command-shape.ts';
import type { Flag } from './config/flags.ts';
import type { CommandSpec } from './cli/commands.ts';

// Every import below is dynamic, so that an old Node comes as far as the check at the end and a command loads only its own.

/** Runs the command that the arguments name, else `serve`. Returns the exit code: 0 done, 1 failed, 2 wrong usage. */
async function main(args: readonly string[]): Promise<number> {
  const { Command, CommanderError } = await import('commander');
  const [{ parseConfig }, { UsageError }] = await Promise.all([
    import('./config/config.ts'),
    import('./common/errors.ts'),
  ]);
  const { environmentTwin, FLAGS } = await import('./config/flags.ts');
  const { linesWithoutControls } = await import('./common/sanitize.ts');
  const { readVersion, COMMANDS } = await import('./cli/commands.ts');
  const printError = (text: string): void => void process.stderr.write(`${linesWithoutControls(text)}\n`);

  const program = new Command('peerscope')
    .description('Caller ID for every connection on your nodes. Without a command peerscope serves.')
    .usage('[command] [options]')
    .version(`peerscope ${readVersion()}`, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
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
  const add = async (parent: Command, spec: CommandSpec, isDefault = false): Promise<void> => {
    const command = parent
      .command(spec.usage, { isDefault })
      .description(spec.description)
      .copyInheritedSettings(parent);
    if (spec.subcommands) {
      command.usage(`[${spec.subcommands.map(nameOf).join('|')}] [options]`);
      for (const [place, one] of spec.subcommands.entries()) await add(command, one, place === 0);
      return;
    }
    const { outputs } = spec;
    if (outputs) {
      command.addOption(
        command.createOption('-o, --output <format>', 'How to print').choices(outputs).default(outputs[0]),
      );
    }
    for (const [flags, explanation, standard, choices] of spec.options ?? []) {
      const option = command.createOption(flags, explanation).default(standard);
      command.addOption(choices ? option.choices(choices) : option);
    }
    if (spec.choices) command.registeredArguments[0]?.choices(spec.choices);
    for (const flag of FLAGS) {
      if (!flag.serveOnly || command.name() === 'serve') addFlag(command, flag, environmentTwin(flag.name));
    }
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

  const [word, about = 'help'] = args;
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

/** In "watch -i 5 top" too the command below is found: it comes directly after the one above. */
function subcommandFirst(args: readonly string[], specs: readonly CommandSpec[]): readonly string[] {
  const [first = '', ...rest] = args;
  const subcommands = specs.find((spec) => nameOf(spec) === first)?.subcommands?.map(nameOf) ?? [];
  const place = rest.findIndex((arg) => subcommands.includes(arg));
  return place < 0 ? args : [first, ...rest.splice(place, 1), ...rest];
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

/** Every command takes options, those below it where it has some. */
function termOf(command: Command): string {
  const { commands } = command;
  if (command.name() === 'help') return 'help [command]';
  const subcommands = commands.length === 0 ? [] : [`[${commands.map((one) => one.name()).join('|')}]`];
  return [command.name(), '[options]', ...subcommands, ...argumentsOf(command)].join(' ');
}

const HELP: OptionShape = { names: ['-h', '--help'], value: null, choices: [], description: 'print this help' };

function optionShape({ short, long, flags, argChoices, description }: Option): OptionShape {
  const names = [short, long].filter((name) => name !== undefined);
  return { names, value: /<(.+)>/.exec(flags)?.[1] ?? null, choices: argChoices ?? [], description };
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
