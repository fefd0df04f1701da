import { createContext, Script, type Context } from 'node:vm';

/** The time limit of one match, in milliseconds. */
const MATCH_MS = 100;
/** The time that slow matches may take per scan by default, in milliseconds; the first millisecond of each is free. */
const SCAN_MS = 500;
/** Matches of about this many steps run without a watchdog, which itself costs a tenth of a millisecond. */
const FEW_STEPS = 100_000;

/** Same as `pattern.exec(text)`. */
export type Match = (pattern: RegExp, text: string) => RegExpExecArray | null;

/**
 * Runs the patterns of the operator on texts that any process of the host may choose. A match that takes longer than 100 ms is aborted
 * and does not match. After slow matches have taken half a second of a scan, patterns that may be slow are skipped until the next scan.
 */
export class RegexpBudget {
  /** Number of matches that were aborted or skipped in this scan. */
  skipped = 0;
  /** The first pattern of these; null for none. */
  slow: RegExp | null = null;
  readonly #monotonic: () => number;
  readonly #exponents = new WeakMap<RegExp, number>();
  readonly #task: { run: () => unknown } = { run: () => null };
  #watchdog: { readonly script: Script; readonly context: Context } | undefined;
  readonly #scanMs: number;
  #left: number;

  /** `monotonic` returns milliseconds of a clock that never goes back. */
  constructor(monotonic: () => number, scanMs = SCAN_MS) {
    this.#monotonic = monotonic;
    this.#scanMs = scanMs;
    this.#left = scanMs;
  }

  /** Begins a scan. */
  begin(): void {
    this.skipped = 0;
    this.slow = null;
    this.#left = this.#scanMs;
  }

  readonly match: Match = (pattern, text) => {
    let exponent = this.#exponents.get(pattern);
    if (exponent === undefined) this.#exponents.set(pattern, (exponent = exponentOf(pattern.source)));
    if ((text.length + 1) ** exponent <= FEW_STEPS) return pattern.exec(text);
    const begun = this.#monotonic();
    const match = this.#left > 0 ? this.#matchWithin(pattern, text) : undefined;
    this.#left -= Math.max(0, this.#monotonic() - begun - 1);
    if (match !== undefined) return match;
    this.skipped++;
    this.slow ??= pattern;
    return null;
  };

  /** Undefined if it took too long, or more memory than a match may use. */
  #matchWithin(pattern: RegExp, text: string): RegExpExecArray | null | undefined {
    this.#watchdog ??= { script: new Script('task.run()'), context: createContext({ task: this.#task }) };
    this.#task.run = () => pattern.exec(text);
    try {
      return this.#watchdog.script.runInContext(this.#watchdog.context, {
        timeout: MATCH_MS,
      }) as RegExpExecArray | null;
    } catch (error) {
      // The error has the class of the other context: instanceof fails.
      const { code, name } = Object(error) as { readonly code?: unknown; readonly name?: unknown };
      if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' || name === 'RangeError') return undefined;
      throw error;
    }
  }
}

/**
 * The exponent with which the steps of a backtracking matcher grow with the length of the text, at most: one for the start position and
 * one for each choice of the pattern; Infinity if a group repeats or the pattern has a backreference.
 */
export function exponentOf(source: string): number {
  if (/\\(?:[1-9]|k<)/.test(source)) return Infinity;
  const bare = source
    .replaceAll(/\\[\s\S]|\[(?:\\[\s\S]|[^\]\\])*\]/g, 'x')
    // The `?` that begins a group or makes a quantifier lazy is not a choice.
    .replaceAll('(?', '(')
    .replaceAll(/([*+?}])\?/g, '$1');
  if (/\)[*+?{]/.test(bare)) return Infinity;
  const choices = bare.match(/[*+?{|]/g)?.length ?? 0;
  return choices + (bare.startsWith('^') && !bare.includes('|') ? 0 : 1);
}
