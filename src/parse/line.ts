import type { Row, State, Transport } from '../model.ts';
import type { Details } from './details.ts';
import type { TextEndpoint, ErrorCode, Problem } from './endpoint.ts';

/** What is uncertain about a parsed row. */
export type WarningCode =
  | 'address-truncated'
  | 'address-maybe-truncated'
  | 'name-truncated'
  | 'name-lossy'
  | 'family-ambiguous'
  | 'unknown-state'
  | 'resolved-names';

/** A process that holds the socket; unknown parts are null. */
export interface Holder {
  readonly pid: number | null;
  readonly name: string | null;
}

/** A row as parsed from its line alone. */
export interface LineRow {
  readonly transport: Transport | null;
  /** Null if the line has no family. */
  readonly family: 4 | 6 | null;
  readonly local: TextEndpoint;
  readonly remote: TextEndpoint;
  /** Null without a state, undefined for an unknown state name. */
  readonly state: State | null | undefined;
  /** A state is given that depends on the transport. */
  readonly hasState?: boolean;
  readonly receiveQueue: number | null;
  readonly sendQueue: number | null;
  readonly uid: number | null;
  readonly inode: number | null;
  readonly holders: readonly Holder[];
  readonly reason: Row['unattributed_reason'];
  readonly details: Details;
  /** The text of details that later lines may continue: a row of ss without its ends and processes. */
  readonly detailText?: string;
  /** Parts that could not be parsed and are missing from the row. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly WarningCode[];
  /** The list of processes is unterminated: a name contains a line feed, or the line is truncated. */
  readonly isOpen: boolean;
}

/** The result of parsing one line. */
export type LineResult =
  | { readonly kind: 'row'; readonly row: LineRow }
  | { readonly kind: 'error'; readonly problem: Problem }
  | { readonly kind: 'continuation' | 'other' | 'header' }
  /** A line of a record that has several lines, and the rows or errors of the records that it completes. */
  | { readonly kind: 'record'; readonly rows: readonly (LineRow | Problem)[] };

/** A line with an error. */
export function malformed(error: ErrorCode, reason: string): LineResult {
  return { kind: 'error', problem: { error, reason } };
}

/** Splits a line at white space, from an offset, into at most `most` words with their positions. */
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

/** A word and its position in the line. */
export interface Word {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** Default values of optional parts of a row. */
export const NO_EXTRAS = {
  uid: null,
  inode: null,
  holders: [],
  reason: null,
  details: {},
  problems: [],
  warnings: [],
  isOpen: false,
} as const;
