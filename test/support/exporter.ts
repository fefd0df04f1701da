import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
/** As npm start, the command, the image and the unit start it. */
const NODE_FLAGS = ['--max-semi-space-size=2', '--v8-pool-size=1'];

/** The environment variables that the tested program inherits. The cache of vitest.config.ts halves its startup time. */
export const ENVIRONMENT: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  HOME: process.env['HOME'],
  NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
};

/** The real program as a child process, serving on a port of the loopback interface that the system chose. */
export class Exporter {
  readonly url: string;
  /** Every log line so far, parsed. */
  readonly log: Record<string, unknown>[];
  readonly process: ChildProcess;

  private constructor(process: ChildProcess, url: string, log: Record<string, unknown>[]) {
    this.process = process;
    this.url = url;
    this.log = log;
  }

  /**
   * Starts it with these flags; resolves once it listens, rejects with what it said when it ends before. `by` is a command such as
   * nsenter that replaces itself by the one after it.
   */
  static async start(
    flags: readonly string[],
    environment: Readonly<Record<string, string>> = {},
    by: readonly string[] = [],
  ): Promise<Exporter> {
    const [command = '', ...args] = [
      ...by,
      process.execPath,
      ...NODE_FLAGS,
      MAIN,
      'serve',
      '--web.listen-address=127.0.0.1:0',
      '--log.format=json',
      ...flags,
    ];
    const child = spawn(command, args, {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: { ...ENVIRONMENT, ...environment },
    });
    const log: Record<string, unknown>[] = [];
    const listening = new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        let entry: Record<string, unknown>;
        try {
          entry = JSON.parse(line) as Record<string, unknown>;
        } catch {
          entry = { msg: line };
        }
        log.push(entry);
        if (entry['msg'] === 'peerscope started') resolve(String(entry['listen']).split(' ')[0] ?? '');
      });
      child.once('exit', (code) => {
        reject(new Error(`the exporter ended with ${code}: ${log.map((entry) => String(entry['msg'])).join('; ')}`));
      });
    });
    return new Exporter(child, `http://${await listening}`, log);
  }

  async get(path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, { headers });
  }

  /** The page of metrics. */
  async metrics(headers: Readonly<Record<string, string>> = {}): Promise<string> {
    return (await this.get('/metrics', headers)).text();
  }

  /** Scrapes until the page says so; rejects after ten seconds with the last page. */
  async metricsOnce(holds: (page: string) => boolean): Promise<string> {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const page = await this.metrics();
      if (holds(page)) return page;
      if (performance.now() > deadline) throw new Error(`the page never became what was waited for:\n${page}`);
    }
  }

  /** Ends it by a signal; resolves with its exit code. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return this.process.exitCode;
    const exit = once(this.process, 'exit') as Promise<[number | null]>;
    this.process.kill(signal);
    const stubborn = setTimeout(() => this.process.kill('SIGKILL'), 20_000);
    const [code] = await exit;
    clearTimeout(stubborn);
    return code;
  }
}

/** Starts the program with these arguments and ignores its output. */
export function startMain(args: readonly string[], environment: Readonly<Record<string, string>> = {}): ChildProcess {
  const env = { ...ENVIRONMENT, ...environment };
  return spawn(process.execPath, [MAIN, ...args], { stdio: 'ignore', env });
}

/** Runs the program to its end with these arguments. `by` is a command that replaces itself by the one after it. */
export async function runMain(
  args: readonly string[],
  input = '',
  environment: Readonly<Record<string, string>> = {},
  by: readonly string[] = [],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [command = '', ...rest] = [...by, process.execPath, MAIN, ...args];
  const child = spawn(command, rest, {
    stdio: 'pipe',
    env: { ...ENVIRONMENT, ...environment },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** The samples of a family on a page, as "label=value ..." (empty labels left out) and the value. */
export function samplesOf(page: string, family: string): Map<string, number> {
  const samples = new Map<string, number>();
  for (const line of page.split('\n')) {
    if (!line.startsWith(`${family}{`) && !line.startsWith(`${family} `)) continue;
    const labels = [...line.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)]
      .filter(([, , value]) => value !== '')
      .map(([, name, value]) => `${name}=${value}`);
    samples.set(labels.join(' '), Number(line.slice(line.lastIndexOf(' ') + 1)));
  }
  return samples;
}

/** The sum of a family on a page. */
export function sumOf(page: string, family: string): number {
  return [...samplesOf(page, family).values()].reduce((sum, value) => sum + value, 0);
}
