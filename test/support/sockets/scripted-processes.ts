import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';

/** A command of scripted-processes.py, whose first lines say what there is. */
export interface Command {
  readonly do: string;
  /** The process that acts: "main" unless said. */
  readonly by?: string;
  /** The thread of it that acts. */
  readonly in?: string;
  readonly [argument: string]: unknown;
}

const SCRIPT = new URL('scripted-processes.py', import.meta.url).pathname;

/** One running scripted-processes.py. It ends with its standard input: when it is disposed of, or with this process. */
export class ScriptedProcesses {
  /** The pid of "main". */
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, pid: number) {
    this.#child = child;
    this.#lines = lines;
    this.pid = pid;
  }

  /** Starts it by a command such as nsenter, which runs what comes after it. */
  static async start(program: string, ...before: readonly string[]): Promise<ScriptedProcesses> {
    const child = spawn(program, [...before, '/usr/bin/python3', SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
    const reader: Interface = createInterface({ input: child.stdout });
    const lines = reader[Symbol.asyncIterator]();
    return new ScriptedProcesses(child, lines, Number(gave(program, (await lines.next()).value)));
  }

  /** Carries out commands one after the other and gives what the last one gave. They begin at once, awaited or not. */
  async act(...commands: readonly Command[]): Promise<unknown> {
    this.#child.stdin?.write(commands.map((command) => `${JSON.stringify(command)}\n`).join(''));
    const answers: [command: string, line: unknown][] = [];
    for (const command of commands) answers.push([JSON.stringify(command), (await this.#lines.next()).value]);
    return answers.map(([command, line]) => gave(command, line)).at(-1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
  }
}

function gave(what: string, line: unknown): unknown {
  if (typeof line !== 'string') throw new Error(`Cannot do "${what}": it ended`);
  const answer = JSON.parse(line) as { gave?: unknown; error?: string };
  if (answer.error !== undefined) throw new Error(`Cannot do "${what}": ${answer.error}`);
  return answer.gave ?? null;
}

/** `count` names with the same prefix. */
export function names(beginning: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${beginning}${i}`);
}
