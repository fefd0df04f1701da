import type { Timer } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { withoutControls } from '../common/sanitize.ts';
import type { ColorSigns } from './terminal/color.ts';
import type { Terminal } from './terminal/screen.ts';
import { Survey, type Sight, type SurveyOptions } from './live-scan.ts';
import type { Sheet } from './terminal/table.ts';
import { sheetOf, type Output, type Streams, type View } from './view.ts';
import { jsonLine } from './terminal/format.ts';
import { parseCount, parseInterval } from './command-shape.ts';

/** What is to be looked at, and who may be asked about the remotes. */
export interface Subject {
  readonly view: View;
  readonly names: SurveyOptions['names'];
  /** Whether a person at a terminal waits for the ASN provider to be asked. */
  readonly asks: boolean;
  /** The services database; by default that of the host. */
  readonly services?: string;
}

/** How a look is shown; texts as the user wrote them. */
export interface LookOptions extends Streams {
  readonly output: Output;
  readonly color: ColorSigns['choice'];
  readonly env: ColorSigns['env'];
  /** Null looks once. */
  readonly watch: { readonly interval: string; readonly count?: string } | null;
  /** Where keys come from, if it is a terminal. */
  readonly stdin: Terminal['stdin'];
  readonly signal: AbortSignal;
  readonly clock: Timer;
  /** 0 to below 1. */
  readonly random: () => number;
}

/**
 * Shows the connections of this host, once or again and again. A table fits the terminal, where there is one; on anything else nothing
 * limits it. Returns exit code 0; throws UsageError for an interval or a count that is not allowed.
 */
export async function look(
  config: Config,
  { view, names, asks, services }: Subject,
  options: LookOptions,
): Promise<number> {
  const { output, color: choice, env, stdin, stdout, stderr, signal, clock, random } = options;
  const isTerminal = stdout.isTTY;
  const isTable = output === 'table' || output === 'wide';
  const fitting = sheetOf(stdout, { choice, env });
  const sheet: Sheet = output === 'wide' ? { ...fitting, width: Infinity } : fitting;
  const isScreen = options.watch !== null && isTerminal && isTable && env['TERM'] !== 'dumb';
  const mayAsk = asks && isTerminal && isTable;
  const open = (report: (line: string) => void): Promise<Survey> =>
    Survey.open(config, { names, asks: mayAsk, waits: !isScreen, services, clock, random, report });
  if (options.watch) {
    const intervalMs = parseInterval(options.watch.interval);
    const count = parseCount(options.watch.count);
    const terminal = isScreen ? { stdin: stdin?.isTTY ? stdin : null, stdout } : null;
    const { watch } = await import('./watch.ts');
    return watch({ view, open, intervalMs, count, output, sheet, terminal, stdout, stderr, signal, clock });
  }
  const survey = await open((line) => void stderr.write(`${withoutControls(line)}\n`));
  const sight = await survey.look().finally(() => survey.close());
  stdout.write(textOf(view, sight, output, sheet));
  if (!isTable) stderr.write(`${sight.coverage}\n`);
  return 0;
}

function textOf(view: View, sight: Sight, output: Output, sheet: Sheet): string {
  switch (output) {
    case 'json':
      return `[${view
        .objects(sight)
        .map((object) => `\n${jsonLine(object)}`)
        .join(',')}\n]\n`;
    case 'jsonl':
      return view
        .objects(sight)
        .map((object) => `${jsonLine(object)}\n`)
        .join('');
    case 'csv':
      return [view.csv?.header ?? '', ...(view.csv?.lines(sight) ?? [])].join('');
    default:
      return view
        .draw(sight, sheet)
        .map(({ text }) => `${text}\n`)
        .join('');
  }
}
