import type { Commands } from '../collect/ss-netstat.ts';
import type { Timer } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { withoutControls } from '../common/sanitize.ts';
import type { ColorSettings } from './terminal/color.ts';
import type { Terminal } from './terminal/screen.ts';
import type { ApiClient } from './api-client.ts';
import type { RotatedFile } from './rotated-file.ts';
import { LiveScan, type LiveScanOptions, type Scanner, type ScanResult } from './live-scan.ts';
import type { Display } from './terminal/table.ts';
import { displayOf, type OutputFormat, type Streams, type View } from './view.ts';
import { UsageError } from '../common/errors.ts';
import { encoderOf } from './terminal/ascii.ts';
import { jsonLine } from './terminal/format.ts';
import { parseCount, parseInterval } from './command-shape.ts';

/** A view, and how to resolve the remotes in it. */
export interface ViewRequest {
  readonly view: View;
  readonly names: LiveScanOptions['names'];
  /** Path of the services database; defaults to that of the host. */
  readonly services?: string;
  /** Saved output of commands to show instead of this host. */
  readonly saved?: Commands;
  /** The API of an exporter to show instead of this host. */
  readonly client?: ApiClient;
}

/** Output options; `watch` holds unparsed text. */
export interface RunViewOptions extends Streams {
  /** When to query the ASN provider; "auto" if standard output is a terminal. */
  readonly ask: 'auto' | 'always' | 'never';
  /** For screen readers: appends instead of redrawing, without colors and bars. */
  readonly isPlain: boolean;
  readonly output: OutputFormat;
  readonly color: ColorSettings['choice'];
  readonly env: ColorSettings['env'];
  /** Null scans once. */
  readonly watch: {
    readonly interval: string;
    readonly count?: string;
    readonly changes?: boolean;
    readonly rotate?: string;
  } | null;
  /** Read for keys if it is a terminal. */
  readonly stdin: Terminal['stdin'];
  readonly signal: AbortSignal;
  readonly clock: Timer;
  /** Returns a number in [0, 1). */
  readonly random: () => number;
}

/**
 * Prints a view of the connections of this host, once or repeatedly. A table is fitted to the width of the terminal; other outputs
 * have no limit. Returns exit code 0. Throws UsageError for an invalid interval or count.
 */
export async function runView(
  config: Config,
  { view, names, services, saved, client }: ViewRequest,
  options: RunViewOptions,
): Promise<number> {
  const { output, ask, isPlain, color, env, stdin, stdout, stderr, signal, clock, random } = options;
  const isTerminal = stdout.isTTY;
  const isTable = output === 'table' || output === 'wide';
  const choice = isPlain ? 'never' : color;
  const fitted = displayOf(stdout, { choice, env });
  const encode = encoderOf(env, isPlain);
  const shown = encode ? encodedView(view, encode) : view;
  const display: Display = output === 'wide' ? { ...fitted, width: Infinity } : fitted;
  const isScreen = !isPlain && options.watch !== null && isTerminal && isTable && env['TERM'] !== 'dumb';
  const isUnasked = saved !== undefined || (ask === 'auto' && !isTerminal);
  const open = async (report: (line: string) => void): Promise<Scanner> => {
    if (client) {
      const { RemoteScan } = await import('./remote-scan.ts');
      const [showsServices, showsUnusual] = [names !== 'none', view.showsUnusual ?? false];
      const rules = config.rules.endpointGroups;
      return new RemoteScan({ client, rules, showsServices, showsUnusual, keepsLast: isScreen, clock, report });
    }
    return LiveScan.open(config, {
      names,
      ask: isUnasked ? 'never' : ask,
      waitsForAnswers: !isScreen,
      services,
      saved,
      clock,
      random,
      report,
    });
  };
  if (options.watch) {
    const intervalMs = parseInterval(options.watch.interval);
    const count = parseCount(options.watch.count);
    const terminal = isScreen ? { stdin: stdin?.isTTY ? stdin : null, stdout } : null;
    const { watchView } = await import('./watch.ts');
    const { changes: isChangesOnly = false, rotate } = options.watch;
    if (isChangesOnly && output !== 'jsonl')
      throw new UsageError(`Cannot use --changes with --output ${JSON.stringify(output)}: must be "jsonl"`);
    let file: RotatedFile | null = null;
    if (rotate !== undefined) file = (await import('./rotated-file.ts')).RotatedFile.open(rotate);
    return watchView({
      view: shown,
      open,
      intervalMs,
      count,
      isChangesOnly,
      file,
      encode,
      output,
      display,
      terminal,
      stdout,
      stderr,
      signal,
      clock,
    });
  }
  const liveScan = await open((line) => void stderr.write(`${withoutControls(line)}\n`));
  const result = await liveScan.scan().finally(() => liveScan.close());
  stdout.write(textOf(shown, result, output, display));
  if (!isTable) for (const line of [result.coverage, result.lookups]) if (line !== null) stderr.write(`${line}\n`);
  return 0;
}

/** The view with other characters in its tables. */
function encodedView(view: View, encode: (text: string) => string): View {
  return {
    ...view,
    draw: (result, display) => view.draw(result, display).map(({ text, key }) => ({ text: encode(text), key })),
  };
}

function textOf(view: View, result: ScanResult, output: OutputFormat, display: Display): string {
  switch (output) {
    case 'json':
      return `[${view
        .objects(result)
        .map((object) => `\n${jsonLine(object)}`)
        .join(',')}\n]\n`;
    case 'jsonl':
      return view
        .objects(result)
        .map((object) => `${jsonLine(object)}\n`)
        .join('');
    case 'csv':
      return [view.csv?.header ?? '', ...(view.csv?.lines(result) ?? [])].join('');
    default:
      return view
        .draw(result, display)
        .map(({ text }) => `${text}\n`)
        .join('');
  }
}
