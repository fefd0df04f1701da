import { createContext, Script, type Context } from 'node:vm';

/** What one match may take, in milliseconds. */
const MATCH_MS = 100;
/** What slow matches may cost a scan, in milliseconds; a millisecond of each is free. */
const SCAN_MS = 500;
/** Steps, about, that are made without a watch, which costs a tenth of a millisecond itself. */
const FEW_STEPS = 100_000;

/** As `pattern.exec(text)`. */
export type Match = (pattern: RegExp, text: string) => RegExpExecArray | null;

/**
 * Tries the operator's patterns on texts that any process of the host may choose. What takes longer than 100 ms is given up and does
 * not match; once slow matches have cost a scan half a second, none that may be slow is begun until the next.
 */
export class RegexpBudget {
  /** How often a match was given up, or not begun, in this scan. */
  givenUp = 0;
  /** The first pattern that this happened to. */
  slow: RegExp | null = null;
  readonly #monotonic: () => number;
  readonly #powers = new WeakMap<RegExp, number>();
  readonly #task: { run: () => unknown } = { run: () => null };
  #watch: { readonly script: Script; readonly context: Context } | undefined;
  #left = SCAN_MS;

  /** `monotonic` gives milliseconds that only go forward. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  begin(): void {
    this.givenUp = 0;
    this.slow = null;
    this.#left = SCAN_MS;
  }

  readonly match: Match = (pattern, text) => {
    let power = this.#powers.get(pattern);
    if (power === undefined) this.#powers.set(pattern, (power = powerOf(pattern.source)));
    if ((text.length + 1) ** power <= FEW_STEPS) return pattern.exec(text);
    const begun = this.#monotonic();
    const match = this.#left > 0 ? this.#watched(pattern, text) : undefined;
    this.#left -= Math.max(0, this.#monotonic() - begun - 1);
    if (match !== undefined) return match;
    this.givenUp++;
    this.slow ??= pattern;
    return null;
  };

  /** Undefined where it took too long, or more memory than a match is given. */
  #watched(pattern: RegExp, text: string): RegExpExecArray | null | undefined {
    this.#watch ??= { script: new Script('task.run()'), context: createContext({ task: this.#task }) };
    this.#task.run = () => pattern.exec(text);
    try {
      return this.#watch.script.runInContext(this.#watch.context, { timeout: MATCH_MS }) as RegExpExecArray | null;
    } catch (error) {
      // Its class is that of the other context.
      const { code, name } = Object(error) as { readonly code?: unknown; readonly name?: unknown };
      if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT' || name === 'RangeError') return undefined;
      throw error;
    }
  }
}

/**
 * To which power of a text's length, at most, the steps of a backtracking matcher grow: one for where it begins and one for each choice
 * on its way; Infinity where a group repeats or a part refers to what another matched.
 */
export function powerOf(source: string): number {
  if (/\\(?:[1-9]|k<)/.test(source)) return Infinity;
  const bare = source
    .replaceAll(/\\[\s\S]|\[(?:\\[\s\S]|[^\]\\])*\]/g, 'x')
    // What begins a group, and what makes a quantifier lazy, is no choice.
    .replaceAll('(?', '(')
    .replaceAll(/([*+?}])\?/g, '$1');
  if (/\)[*+?{]/.test(bare)) return Infinity;
  const choices = bare.match(/[*+?{|]/g)?.length ?? 0;
  return choices + (bare.startsWith('^') && !bare.includes('|') ? 0 : 1);
}
