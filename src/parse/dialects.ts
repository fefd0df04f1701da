import { bsdColumns, readBsd, type BsdColumns } from './bsd.ts';
import type { LineResult, LineRow } from './line.ts';
import { netToolsColumns, readNetTools, type NetToolsColumns } from './net-tools.ts';
import { isSsHeader, readSs } from './ss.ts';
import { readWindows } from './windows.ts';

/** The format of the text: `net-tools` is netstat on Linux, including busybox; `bsd` is netstat on macOS and BSD. */
export type Dialect = 'ss' | 'net-tools' | 'bsd' | 'windows';

/** A reader of one format. It keeps the columns of the last header, and the record that later lines may complete. */
export interface DialectReader {
  /** Takes a header; false for any other line. */
  readonly takeHeader: (text: string) => boolean;
  /** Parses a line; null if it does not start like a line of this format. */
  readonly read: (text: string) => LineResult | null;
  /** Ends the text of this format. Returns the last record, if it is not yet returned. */
  readonly end?: () => LineRow | null;
}

/** The formats in the order in which a line without a header is tried. */
export const DIALECTS = ['net-tools', 'bsd', 'windows', 'ss'] as const satisfies readonly Dialect[];

/** A line without any of these words is not a header. */
const HEADER_WORD = /Address|Proto\b/;

/** Whether a line may be a header of any format. */
export function mayBeHeader(text: string): boolean {
  return HEADER_WORD.test(text);
}

/** New readers, without headers. */
export function openReaders(): Readonly<Record<Dialect, DialectReader>> {
  return { ss: { takeHeader: isSsHeader, read: readSs }, 'net-tools': netTools(), bsd: bsd(), windows: windows() };
}

function netTools(): DialectReader {
  let columns: NetToolsColumns | null = null;
  return {
    takeHeader: (text) => {
      const header = netToolsColumns(text);
      columns = header ?? columns;
      return header !== null;
    },
    read: (text) => readNetTools(text, columns),
  };
}

function bsd(): DialectReader {
  let columns: BsdColumns | null = null;
  return {
    takeHeader: (text) => {
      const header = bsdColumns(text);
      columns = header ?? columns;
      return header !== null;
    },
    read: (text) => readBsd(text, columns),
  };
}

function windows(): DialectReader {
  let hasRows = false;
  return {
    // A header in any language counts only after the first row or title.
    takeHeader: () => false,
    read: (text) => {
      const line = readWindows(text);
      hasRows ||= line?.kind === 'row';
      return line ?? (hasRows && /^\s*Proto\s/.test(text) ? { kind: 'header' } : null);
    },
  };
}
