import { UsageError } from '../common/errors.ts';
import { parseFilters, type Filter } from '../rows/filter.ts';
import type { ScanResult } from './live-scan.ts';
import { parseOrder } from './terminal/sort.ts';

/** The headings that `s` sorts by, in turn. The first stands for the order of the scan. */
const ORDERS = [null, 'process', 'state', 'local', 'remote', 'peer'] as const;

/** The keys of watch and what they do. */
export const WATCH_HELP: readonly string[] = [
  '/        filter by words or KEY=VALUE: nginx state=ESTAB; empty shows all',
  's        sort list by the next heading: process, state, local, remote, peer',
  'r        reverse the order of list',
  'p space  pause and continue',
  'arrows   select a line, which > marks',
  'Enter    details of the selected line; Enter or Escape goes back',
  'wheel    scroll; so do j, k, Page Up and Page Down',
  'Shift    with the mouse: select text',
  '?        this help',
  'q        quit',
  '',
  '+ marks a new connection and - a closed one, for five seconds.',
];

/** What the user chose while watching: a filter and an order. */
export class WatchChoices {
  /** What is typed as a filter; null while nothing is typed. */
  prompt: string | null = null;
  /** Why the typed filter is invalid. */
  error = '';
  #text = '';
  #matches: Filter | null = null;
  #order = 0;
  #isReversed = false;

  /** Handles a key while a filter is typed. */
  type(key: string): void {
    const typed = this.prompt ?? '';
    this.error = '';
    if (key === '\x1b' || key === '\x03') this.prompt = null;
    else if (key === '\r' || key === '\n') this.#setFilter(typed);
    else if (key === '\x7f' || key === '\b') this.prompt = typed.slice(0, -1);
    else if (key >= ' ' && key.length === 1) this.prompt = typed + key;
  }

  /** Begins to type a filter, with the current one as the start. */
  openPrompt(): void {
    this.prompt = this.#text;
  }

  sortNext(): void {
    this.#order = (this.#order + 1) % ORDERS.length;
  }

  reverse(): void {
    this.#isReversed = !this.#isReversed;
  }

  /** What differs from the default, for the header; may be empty. */
  get summary(): string {
    const order = ORDERS[this.#order] ?? null;
    const parts = [
      this.#text === '' ? '' : `filter ${this.#text}`,
      order === null ? '' : `by ${order}`,
      this.#isReversed ? 'reversed' : '',
    ];
    return parts.filter((part) => part !== '').join(', ');
  }

  /** The result with only the matching rows, in the chosen order. */
  apply(result: ScanResult): ScanResult {
    const matches = this.#matches;
    const order = ORDERS[this.#order] ?? null;
    if (!matches && order === null && !this.#isReversed) return result;
    const rows = matches ? result.rows.filter(matches) : [...result.rows];
    if (order !== null) rows.sort(parseOrder(order));
    if (this.#isReversed) rows.reverse();
    const connections = (): ReturnType<ScanResult['connections']> =>
      matches ? result.connections().filter(({ row }) => matches(row)) : result.connections();
    return { ...result, rows, connections };
  }

  #setFilter(typed: string): void {
    const words = typed.split(' ').filter((word) => word !== '');
    try {
      this.#matches = words.length === 0 ? null : parseFilters(words);
      this.#text = words.join(' ');
      this.prompt = null;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      this.error = error.message;
    }
  }
}
