import type { Row, State, Transport } from '../model.ts';
import type { TextEndpoint, ErrorCode, Problem } from './endpoint.ts';

/** What a row that was read leaves in doubt. */
export type WarningCode =
  | 'address-truncated'
  | 'address-maybe-truncated'
  | 'name-truncated'
  | 'name-lossy'
  | 'family-ambiguous'
  | 'unknown-state'
  | 'resolved-names';

/** A process that the text says holds the socket; what it does not say is null. */
export interface Holder {
  readonly pid: number | null;
  readonly name: string | null;
}

/** A row as its line tells it. */
export interface LineRow {
  readonly transport: Transport | null;
  /** Null where the ends alone tell it. */
  readonly family: 4 | 6 | null;
  readonly local: TextEndpoint;
  readonly remote: TextEndpoint;
  /** Null where the text has no state, undefined where its word is unknown. */
  readonly state: State | null | undefined;
  readonly receiveQueue: number | null;
  readonly sendQueue: number | null;
  readonly uid: number | null;
  readonly inode: number | null;
  readonly holders: readonly Holder[];
  readonly reason: Row['unattributed_reason'];
  /** Parts that could not be read: the row stands without them. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly WarningCode[];
  /** The field of the processes has no end yet: a line end in a name, or a line that was cut. */
  readonly isOpen: boolean;
}

/** What one line is, read for itself. */
export type LineResult =
  | { readonly kind: 'row'; readonly row: LineRow }
  | { readonly kind: 'error'; readonly problem: Problem }
  | { readonly kind: 'continuation' | 'other' };

/** A line that is no row, because of an error. */
export function malformed(error: ErrorCode, reason: string): LineResult {
  return { kind: 'error', problem: { error, reason } };
}

/** The blank-separated words of a line from an offset on, with where they begin and end; at most `most` of them. */
export function wordsOf(text: string, from = 0, most = Infinity): Word[] {
  const words: Word[] = [];
  const pattern = /\S+/g;
  pattern.lastIndex = from;
  while (words.length < most) {
    const match = pattern.exec(text);
    if (!match) break;
    words.push({ text: match[0], start: match.index, end: pattern.lastIndex });
  }
  return words;
}

/** A word of a line. */
export interface Word {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** The parts of a row that most lines do not have. */
export const NO_EXTRAS = {
  uid: null,
  inode: null,
  holders: [],
  reason: null,
  problems: [],
  warnings: [],
  isOpen: false,
} as const;
