import { bsdColumns, readBsd, type BsdColumns } from './bsd.ts';
import type { Problem } from './endpoint.ts';
import type { LineResult, LineRow } from './line.ts';
import { netToolsColumns, readNetTools, type NetToolsColumns } from './net-tools.ts';
import { LsofFields, isLsofHeader, readLsof } from './lsof.ts';
import { PowerShell } from './powershell.ts';
import { isSockstatHeader, readSockstat } from './sockstat.ts';
import { readSolaris, solarisColumns, solarisSection, solarisTitle, type SolarisSection } from './solaris.ts';
import { isSsHeader, readSs } from './ss.ts';
import { readWindows } from './windows.ts';

/** The format of the text: `net-tools` is netstat on Linux, including busybox; `bsd` is netstat on macOS and BSD. */
export type Dialect = 'ss' | 'net-tools' | 'bsd' | 'windows' | 'solaris' | 'sockstat' | 'lsof' | 'powershell';

/** A reader of one format. It keeps the columns of the last header, and the record that later lines may complete. */
export interface DialectReader {
  /** Takes a header; false for any other line. */
  readonly takeHeader: (text: string) => boolean;
  /** Parses a line; null if it does not start like a line of this format. */
  readonly read: (text: string) => LineResult | null;
  /** Ends the text of this format. Returns the last record, if it is not yet returned. */
  readonly end?: () => LineRow | Problem | null;
}

/** The formats in the order in which a line without a header is tried. */
export const DIALECTS = [
  'net-tools',
  'bsd',
  'windows',
  'ss',
  'sockstat',
  'lsof',
  'solaris',
  'powershell',
] as const satisfies readonly Dialect[];

/** A line without any of these words is not a header. */
const HEADER_WORD = /Address|ADDRESS|Proto\b|COMMAND|: IPv|^p\d/;

/** Whether a line may be a header of any format. */
export function mayBeHeader(text: string): boolean {
  return HEADER_WORD.test(text);
}

/** New readers, without headers. */
export function openReaders(): Readonly<Record<Dialect, DialectReader>> {
  return {
    ss: { takeHeader: isSsHeader, read: readSs },
    'net-tools': netTools(),
    bsd: bsd(),
    windows: windows(),
    solaris: solaris(),
    sockstat: withHeader(isSockstatHeader, readSockstat),
    lsof: lsof(),
    powershell: powerShell(),
  };
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

function solaris(): DialectReader {
  let section: SolarisSection | null = null;
  return {
    takeHeader: (text) => {
      const columns = section && solarisColumns(text);
      if (section && columns) section = { ...section, columns };
      const title = columns ? null : solarisTitle(text);
      section = title ?? section;
      return columns !== null || title !== null;
    },
    read: (text) => {
      const own = section ?? solarisSection(text);
      return own && readSolaris(text, own);
    },
  };
}

/** A format in which a header only makes sure what the rows are. */
function withHeader(
  isHeader: (text: string) => boolean,
  read: (text: string, isKnown: boolean) => LineResult | null,
): DialectReader {
  let isKnown = false;
  return {
    takeHeader: (text) => {
      const isOne = isHeader(text);
      isKnown ||= isOne;
      return isOne;
    },
    read: (text) => read(text, isKnown),
  };
}

function lsof(): DialectReader {
  const table = withHeader(isLsofHeader, readLsof);
  const fields = new LsofFields();
  return {
    takeHeader: table.takeHeader,
    read: (text) => fields.read(text) ?? table.read(text),
    end: () => fields.end(),
  };
}

function powerShell(): DialectReader {
  const reader = new PowerShell();
  return {
    takeHeader: (text) => reader.takeHeader(text),
    read: (text) => reader.read(text),
    end: () => reader.end(),
  };
}
