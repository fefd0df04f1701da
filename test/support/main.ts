import { Readable, Writable } from 'node:stream';
import { ENVIRONMENT } from './exporter.ts';

/** What a run left behind. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The signals that commands listen to. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/** A run that does not end must not hold up those after it. */
const RUN_MS = 50_000;

let last: Promise<unknown> = Promise.resolve();
let runs = 0;

/**
 * Runs the program to its end inside this process with these arguments, one run after the other: a start costs a tenth of that of a
 * process. Whatever needs the process itself (signals, closed pipes, its exit) uses runMain of exporter.ts.
 */
export function runHere(
  args: readonly string[],
  input: string | Uint8Array = '',
  environment: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const run = last.then(() => runAlone(args, input, environment));
  last = run.catch(() => undefined);
  return run;
}

async function runAlone(
  args: readonly string[],
  input: string | Uint8Array,
  environment: Readonly<Record<string, string>>,
): Promise<Outcome> {
  const written = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  const { argv, env, exitCode, title } = process;
  const listeners = SIGNALS.map((name) => ({ name, before: process.rawListeners(name) }));
  const restore = replaceStreams({
    stdin: Readable.from(chunksOf(Buffer.from(input))),
    stdout: collect(written.stdout),
    stderr: collect(written.stderr),
  });
  try {
    process.argv = [process.execPath, 'peerscope', ...args];
    process.env = { ...ENVIRONMENT, ...environment };
    // A new query evaluates main.ts again; the modules behind it are loaded once.
    await within(import(`../../src/main.ts?run=${++runs}`), RUN_MS, args);
    const code = Number(process.exitCode);
    const text = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString();
    return { code, stdout: text(written.stdout), stderr: text(written.stderr) };
  } finally {
    restore();
    Object.assign(process, { argv, env, exitCode, title });
    for (const { name, before } of listeners) {
      const added = process.rawListeners(name).filter((listener) => !before.includes(listener));
      for (const listener of added) process.off(name, listener as () => void);
    }
  }
}

async function within(run: Promise<unknown>, ms: number, args: readonly string[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`peerscope ${args.join(' ')} did not end`)), ms);
  });
  try {
    await Promise.race([run, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** As a pipe passes them on. */
function* chunksOf(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length; start += 65_536) yield bytes.subarray(start, start + 65_536);
}

function collect(chunks: Buffer[]): Writable {
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      chunks.push(chunk);
      done();
    },
  });
}

/** Replaces the standard streams of this process until the result is called. */
function replaceStreams(streams: Readonly<Record<string, Readable | Writable>>): () => void {
  const before = Object.keys(streams).map((name) => [name, Object.getOwnPropertyDescriptor(process, name)] as const);
  for (const [name, value] of Object.entries(streams)) {
    Object.defineProperty(process, name, { value, configurable: true });
  }
  return () => {
    for (const [name, descriptor] of before) if (descriptor) Object.defineProperty(process, name, descriptor);
  };
}
