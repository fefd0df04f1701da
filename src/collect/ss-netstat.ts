import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../common/errors.ts';
import { parsePs, parseTasklist } from '../parse/process-list.ts';
import { isNotice } from '../parse/other-lines.ts';
import { parseText, type Parsed } from '../parse/text-reader.ts';
import { DEFAULT_EPHEMERAL_PORTS, type PortRange } from './direction.ts';

/** The commands that print connections, in the order in which they are tried. */
export type Command = 'ss' | 'netstat';

/** Why one command printed no connections. */
export interface Attempt {
  readonly command: string;
  readonly reason: string;
}

/** No command of the platform printed connections. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code = 'no-source';
  readonly tried: readonly Attempt[];

  constructor(tried: readonly Attempt[]) {
    super(
      `Cannot read connections from ${tried.map(({ command }) => `"${command}"`).join(' or ')}: ` +
        tried.map(({ command, reason }) => `${command} ${reason}`).join(', '),
    );
    this.tried = tried;
  }
}

/** Where and how commands are run. */
export interface Platform {
  readonly os: NodeJS.Platform;
  /** Where commands are searched; PATH is ignored. */
  readonly folders: readonly string[];
  readonly timeoutMs: number;
  /** The most bytes that a command may print. */
  readonly maxBytes: number;
}

/** This machine. */
export const THIS_PLATFORM: Platform = {
  os: process.platform,
  folders:
    process.platform === 'win32'
      ? ['C:\\Windows\\System32']
      : ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/run/current-system/sw/bin', '/usr/local/sbin', '/usr/local/bin'],
  timeoutMs: 10_000,
  maxBytes: 256 << 20,
};

/** The arguments of each command, most detailed first. If a command refuses them, the next are tried. */
const ARGUMENTS: Readonly<Record<Command, Partial<Record<NodeJS.Platform, readonly string[]>>>> = {
  ss: { linux: ['-tuwnap'] },
  netstat: {
    linux: ['-tuwnapW', '-tuwnap', '-tuwna'],
    darwin: ['-anvlW', '-anvl', '-anv'],
    freebsd: ['-anW', '-an'],
    win32: ['-ano'],
  },
};

/** The default range of the ports of clients, where it is not that of Linux. */
export const EPHEMERAL_PORTS: Partial<Record<NodeJS.Platform, PortRange>> = {
  darwin: [49_152, 65_535],
  freebsd: [10_000, 65_535],
  win32: [49_152, 65_535],
};

const TASKLIST = ['/fo', 'csv', '/nh'];
const PS = ['-axo', 'pid=,ucomm='];

/** The parsed output of a command. */
export interface CommandOutput extends Pick<Parsed, 'rows' | 'malformed'> {
  readonly command: string;
  /** Names of processes by pid, if the command prints none. */
  readonly names: ReadonlyMap<number, string>;
  /** The host of each row by number, from 0 on; without it, all rows are of one host. */
  readonly hosts?: readonly number[];
}

/** Where the output of commands comes from: this host runs them, or a text has it. */
export interface Commands {
  /** The command that printed the last output; null before. */
  readonly last: string | null;
  /** Malformed lines in the last output. */
  readonly malformed: number;
  /** The rows are of this host, and it has all of their processes. */
  readonly isThisHost: boolean;
  /** The first and the last port that a host gives to clients by default. */
  ephemeralPortsOf(host: number): PortRange;
  /** Throws an Error of one line if there is no output. */
  read(): CommandOutput;
}

/** What a command printed, or why it printed nothing; with `mayRefuse`, other arguments may work. */
type Outcome = { readonly text: string } | { readonly reason: string; readonly mayRefuse: boolean };

/**
 * Runs the platform's own commands: with fixed arguments, no shell, an environment of their own, a time limit and an output limit.
 */
export class SystemCommands implements Commands {
  last: Command | null = null;
  malformed = 0;
  readonly isThisHost = true;
  readonly #order: readonly Command[];
  readonly #platform: Platform;

  /** With `ss`, netstat is tried after ss. */
  constructor(source: Command, platform: Platform = THIS_PLATFORM) {
    this.#order = source === 'ss' ? ['ss', 'netstat'] : ['netstat'];
    this.#platform = platform;
  }

  ephemeralPortsOf(): PortRange {
    return EPHEMERAL_PORTS[this.#platform.os] ?? DEFAULT_EPHEMERAL_PORTS;
  }

  /** The output of the first command that prints connections. Throws CommandError if none does. */
  read(): CommandOutput {
    const tried: Attempt[] = [];
    for (const command of this.#order) {
      const output = this.#read(command);
      if (typeof output !== 'string') {
        this.last = command;
        this.malformed = output.malformed.length;
        return { ...output, command, names: this.#names() };
      }
      tried.push({ command, reason: output });
    }
    throw new CommandError(tried);
  }

  #read(command: Command): Parsed | string {
    let reason = `is not known on ${this.#platform.os}`;
    for (const argument of ARGUMENTS[command][this.#platform.os] ?? []) {
      const outcome = this.#run(command, [argument]);
      if ('text' in outcome) {
        const parsed = parseText(outcome.text);
        if (parsed.counts.row + parsed.counts.header > 0) return parsed;
        reason = 'printed nothing that is known';
      } else {
        reason = outcome.reason;
        if (!outcome.mayRefuse) break;
      }
    }
    return reason;
  }

  /** The names of processes on platforms where netstat prints only their pids. */
  #names(): ReadonlyMap<number, string> {
    const { os } = this.#platform;
    if (os !== 'win32' && os !== 'darwin') return new Map();
    const outcome = os === 'win32' ? this.#run('tasklist', TASKLIST) : this.#run('ps', PS);
    if (!('text' in outcome)) return new Map();
    return os === 'win32' ? parseTasklist(outcome.text) : parsePs(outcome.text);
  }

  #run(command: string, args: readonly string[]): Outcome {
    const { os, folders, timeoutMs, maxBytes } = this.#platform;
    const file = os === 'win32' ? `${command}.exe` : command;
    const path = folders.map((folder) => join(folder, file)).find((candidate) => existsSync(candidate));
    if (path === undefined) return { reason: 'was not found', mayRefuse: false };
    const { error, status, signal, stdout, stderr } = spawnSync(path, args, {
      env: os === 'win32' ? { SystemRoot: 'C:\\Windows' } : { LC_ALL: 'C', PATH: folders.join(':') },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      maxBuffer: maxBytes,
      killSignal: 'SIGKILL',
      windowsHide: true,
    });
    if (error) {
      const { code } = error as NodeJS.ErrnoException;
      const reason =
        code === 'ETIMEDOUT'
          ? `did not end within ${timeoutMs / 1000} s`
          : code === 'ENOBUFS'
            ? `printed more than ${maxBytes} bytes`
            : `cannot be run: ${reasonOf(error)}`;
      return { reason, mayRefuse: false };
    }
    if (status !== 0) return { reason: `ended with ${signal ?? `status ${status}`}`, mayRefuse: true };
    const notices = stderr.toString().split('\n').filter(isNotice);
    return { text: [...notices, stdout.toString()].join('\n') };
  }
}
