import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parsePs, parseTasklist } from '../parse/process-list.ts';
import { isNotice, parseText, type Parsed } from '../parse/text-reader.ts';

/** The commands that tell connections, in the order in which they are tried. */
export type Command = 'ss' | 'netstat';

/** Why one command told nothing. */
export interface Attempt {
  readonly command: string;
  readonly reason: string;
}

/** No command of the platform told anything. */
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

/** Where and how commands are run; a test has other folders. */
export interface Platform {
  readonly os: NodeJS.Platform;
  /** Where commands are looked for: never where an environment says. */
  readonly folders: readonly string[];
  readonly timeoutMs: number;
  /** How many bytes a command may print. */
  readonly most: number;
}

/** This machine. */
export const THIS_PLATFORM: Platform = {
  os: process.platform,
  folders:
    process.platform === 'win32'
      ? ['C:\\Windows\\System32']
      : ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/run/current-system/sw/bin', '/usr/local/sbin', '/usr/local/bin'],
  timeoutMs: 10_000,
  most: 256 << 20,
};

/** The arguments of each command, those that tell most first: what a command refuses is tried without its last letters. */
const ARGUMENTS: Readonly<Record<Command, Partial<Record<NodeJS.Platform, readonly string[]>>>> = {
  ss: { linux: ['-tuwnap'] },
  netstat: {
    linux: ['-tuwnapW', '-tuwnap', '-tuwna'],
    darwin: ['-anvlW', '-anvl', '-anv'],
    freebsd: ['-anW', '-an'],
    win32: ['-ano'],
  },
};

const TASKLIST = ['/fo', 'csv', '/nh'];
const PS = ['-axo', 'pid=,ucomm='];

/** What a command told. */
export interface Told extends Parsed {
  readonly command: Command;
  /** Names of processes by pid, where the command tells none. */
  readonly names: ReadonlyMap<number, string>;
}

/** What a command printed, or why it told nothing; `mayRefuse` says that other arguments may suit it. */
type Outcome = { readonly text: string } | { readonly reason: string; readonly mayRefuse: boolean };

/**
 * The platform's own commands: fixed arguments, no shell, an environment of their own, a time limit and a bound of what they may print.
 */
export class Commands {
  /** The command that told the last time; null before. */
  last: Command | null = null;
  /** Lines of it that could not be read. */
  malformed = 0;
  readonly #order: readonly Command[];
  readonly #platform: Platform;

  /** `ss` means netstat too, where there is no ss. */
  constructor(source: Command, platform: Platform = THIS_PLATFORM) {
    this.#order = source === 'ss' ? ['ss', 'netstat'] : ['netstat'];
    this.#platform = platform;
  }

  /** Runs the first command that tells something. Throws CommandError where none does. */
  read(): Told {
    const tried: Attempt[] = [];
    for (const command of this.#order) {
      const told = this.#read(command);
      if (typeof told !== 'string') {
        this.last = command;
        this.malformed = told.malformed.length;
        return { ...told, command, names: this.#names() };
      }
      tried.push({ command, reason: told });
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

  /** The names of processes where netstat tells their pids alone. */
  #names(): ReadonlyMap<number, string> {
    const { os } = this.#platform;
    if (os !== 'win32' && os !== 'darwin') return new Map();
    const outcome = os === 'win32' ? this.#run('tasklist', TASKLIST) : this.#run('ps', PS);
    if (!('text' in outcome)) return new Map();
    return os === 'win32' ? parseTasklist(outcome.text) : parsePs(outcome.text);
  }

  #run(command: string, args: readonly string[]): Outcome {
    const { os, folders, timeoutMs, most } = this.#platform;
    const file = os === 'win32' ? `${command}.exe` : command;
    const path = folders.map((folder) => join(folder, file)).find((candidate) => existsSync(candidate));
    if (path === undefined) return { reason: 'was not found', mayRefuse: false };
    const { error, status, signal, stdout, stderr } = spawnSync(path, args, {
      env: os === 'win32' ? { SystemRoot: 'C:\\Windows' } : { LC_ALL: 'C', PATH: folders.join(':') },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      maxBuffer: most,
      killSignal: 'SIGKILL',
      windowsHide: true,
    });
    if (error) {
      const { code } = error as NodeJS.ErrnoException;
      const reason =
        code === 'ETIMEDOUT'
          ? `did not end within ${timeoutMs / 1000} s`
          : code === 'ENOBUFS'
            ? `printed more than ${most} bytes`
            : `cannot be run: ${error.message}`;
      return { reason, mayRefuse: false };
    }
    if (status !== 0) return { reason: `ended with ${signal ?? `status ${status}`}`, mayRefuse: true };
    const notices = stderr.toString().split('\n').filter(isNotice);
    return { text: [...notices, stdout.toString()].join('\n') };
  }
}
