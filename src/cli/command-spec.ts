import { fstatSync } from 'node:fs';
import { UsageError } from '../common/errors.ts';
import type { Config } from '../config/config.ts';
import type { ApiClient } from './api-client.ts';
import type { CommandShape } from './command-shape.ts';

/** The environment and the command tree that a command runs with. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The whole command tree. */
  readonly program: () => CommandShape;
}

/** Its own option: flags, description, default, allowed values. */
export type OptionSpec = readonly [
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

/** A command without subcommands. */
export interface SingleCommand extends CommandName {
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

export const COLOR: OptionSpec = ['--color <when>', 'When to use colors', 'auto', ['auto', 'always', 'never']];
export const TRANSPORT: OptionSpec = [
  '--transport <transport>',
  'Transport of rows that do not show it, such as those of ss -t',
  undefined,
  ['tcp', 'udp', 'udplite', 'raw'],
];

/** The options that read a running exporter. */
export const CONNECT: readonly OptionSpec[] = [
  [
    '--connect <url>',
    'Read the API of a running exporter instead of this host: http://127.0.0.1:9100, https://node7:9100 or unix:/run/peerscope/http.sock',
  ],
  ['--connect.password-file <file>', 'With --connect, a file with one line of the form USER:PASSWORD'],
  ['--connect.ca-file <file>', 'With --connect https://, a file with the trusted certificate authorities, PEM'],
  ['--connect.cert-file <file>', 'With --connect https://, a file with the client certificate, PEM'],
  ['--connect.key-file <file>', 'The private key of --connect.cert-file, PEM'],
];

/** Options of CONNECT as commander names them. */
export interface ConnectGiven {
  readonly connect?: string;
  readonly 'connect.passwordFile'?: string;
  readonly 'connect.caFile'?: string;
  readonly 'connect.certFile'?: string;
  readonly 'connect.keyFile'?: string;
}

/** The exporter to read; undefined without --connect. Throws UsageError for an invalid option. */
export async function clientOf(given: ConnectGiven): Promise<ApiClient | undefined> {
  const { connect } = given;
  const files = {
    passwordFile: given['connect.passwordFile'],
    caFile: given['connect.caFile'],
    certFile: given['connect.certFile'],
    keyFile: given['connect.keyFile'],
  };
  if (connect === undefined) {
    const [file] = Object.entries(files).find(([, path]) => path !== undefined) ?? [];
    if (file === undefined) return undefined;
    throw new UsageError(`Cannot use --connect.${file.replace('File', '-file')}: --connect is not set`);
  }
  const { ApiClient } = await import('./api-client.ts');
  return new ApiClient({ connect, ...files });
}

/** The filters with examples, for the end of the help. */
export async function describeFilters(): Promise<string> {
  const { filterExamples } = await import('../rows/filter.ts');
  const keys = filterExamples().map(([example, meaning]) => `  ${example}\n${indent(meaning)}`);
  return [
    `Filters:\n${indent('All filters must match. Values separated by commas are alternatives. Case does not matter.')}`,
    `  KEY!=VALUE\n${indent('negates a filter, such as process!=nginx')}`,
    `  KEY~REGEXP\n${indent('matches a part of the value, such as process~^ng; !~ negates')}`,
    ...keys,
  ].join('\n');
}

/** Words of a help text below an indented term. */
export function indent(text: string): string {
  return text.replaceAll(/(.{1,74})(?: |$)/g, '      $1\n').trimEnd();
}

/** Reads standard input to its end or until the signal. Rejects a directory, which Node.js would read as empty input. */
export async function* standardInput(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (fstatSync(0).isDirectory()) throw new Error('Cannot read standard input: it is a directory');
  const { addAbortSignal } = await import('node:stream');
  yield* signal ? addAbortSignal(signal, process.stdin) : process.stdin;
}

/** The configuration with the rules of its file. */
export async function withRules(config: Config): Promise<Config> {
  if (config.configFile === null) return config;
  const { readRules } = await import('../config/rules.ts');
  return Object.freeze({ ...config, rules: readRules(config.configFile) });
}
