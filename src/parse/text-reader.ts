import type { ErrorRow, Row } from '../model.ts';
import { bsdColumns, readBsd, type BsdColumns } from './bsd.ts';
import type { TextEndpoint, ErrorCode } from './endpoint.ts';
import type { LineResult, LineRow, WarningCode } from './line.ts';
import { MAX_LINE_LENGTH } from './line-splitter.ts';
import { netToolsColumns, readNetTools, type NetToolsColumns } from './net-tools.ts';
import { hasCommNames, isSsHeader, readSs } from './ss.ts';
import { rowOfText, type Wildcard } from './row.ts';
import { readWindows, windowsOwner } from './windows.ts';

/** Whether a line is a notice of the tool that it cannot see all processes. */
export function isNotice(line: string): boolean {
  return NOTICE.test(line);
}

/** The format of the text: `net-tools` is netstat on Linux, including busybox; `bsd` is netstat on macOS and FreeBSD. */
export type Dialect = 'ss' | 'net-tools' | 'bsd' | 'windows';

/** A parsed row, or the error of a line. */
export type ParsedEntry =
  { readonly line: number; readonly row: Row } | { readonly line: number; readonly error: ErrorRow };

/** An uncertainty about the row of a line. */
export interface Warning {
  readonly line: number;
  readonly warning: WarningCode;
}

/** Number of lines by kind; they add up to all lines. */
export interface Counts {
  row: number;
  /** Lines that belong to the previous row. */
  continuation: number;
  header: number;
  /** Other socket types, such as UNIX domain sockets. */
  other: number;
  blank: number;
  /** Notices of the tool about itself. */
  notice: number;
  error: number;
}

/** The result of parsing a complete text. */
export interface Parsed {
  /** The format of the last row or header; null without any. */
  readonly dialect: Dialect | null;
  readonly rows: Row[];
  readonly malformed: ErrorRow[];
  readonly warnings: Warning[];
  readonly counts: Counts;
}

const NOTICE =
  /No info could be read for|Not all processes could be identified|^\s*will not be shown, you would have to be root|showing only processes with your user ID/;
const OTHER_SECTION = /^(Active |Registered |Netgraph |Proto +RefC)/;
const INTERNET = /^(Active Internet connections|Active Connections)/;
const UNSUPPORTED = /^(TCP|UDP|SCTP): IPv[46]|\bSwind\b/;
const MAX_EXCERPT_LENGTH = 200;
/** Maximum number of entries held back until a later line shows the family of "*" or whether addresses are truncated. */
const MAX_PENDING = 4096;
/** Maximum number of lines before the first recognized one. */
const MAX_UNRECOGNIZED = 1000;

interface Numbered {
  readonly number: number;
  readonly text: string;
}

interface PendingEntry {
  readonly line: number;
  readonly error?: ErrorRow;
  readonly row?: LineRow;
}

/**
 * Parses output of ss or netstat line by line and emits rows and errors in input order. It never throws. The format is detected from
 * a header or the first row. Rows are held back only while a later line may show the family of "*" (IPv4 in ss before 4.14,
 * dual-stack since) or that addresses are not truncated.
 */
export class TextReader {
  dialect: Dialect | null = null;
  readonly counts: Counts = { row: 0, continuation: 0, header: 0, other: 0, blank: 0, notice: 0, error: 0 };
  readonly warnings = new Map<WarningCode, number>();
  readonly #onEntry: (entry: ParsedEntry) => void;
  readonly #onWarning: (warning: Warning) => void;
  #number = 0;
  #section: 'internet' | 'other' | 'unsupported' = 'internet';
  #netTools: NetToolsColumns | null = null;
  #bsd: BsdColumns | null = null;
  #lacksPermission = false;
  readonly #unrecognized: (Numbered & { readonly hasDigit: boolean })[] = [];
  #openRow: (Numbered & { row: LineRow }) | null = null;
  readonly #pending: PendingEntry[] = [];
  #wildcard: Wildcard = null;
  #isWide = false;

  constructor(onEntry: (entry: ParsedEntry) => void, onWarning: (warning: Warning) => void = () => undefined) {
    this.#onEntry = onEntry;
    this.#onWarning = onWarning;
  }

  /** Adds the next line, without its line feed. If `isTooLong`, `text` is only its beginning. */
  take(text: string, isTooLong = false): void {
    const number = ++this.#number;
    if (isTooLong) {
      this.#fail({ number, text }, 'too-long', 'the line is too long');
      return;
    }
    if (this.#continuesUsers(text)) return;
    if (/^\s*$/.test(text)) {
      this.counts[text.startsWith('\t') && this.dialect === 'ss' ? 'continuation' : 'blank']++;
    } else if (NOTICE.test(text)) {
      this.#lacksPermission = true;
      this.counts.notice++;
    } else if (!this.#takeHeader(text)) this.#takeRow({ number, text });
  }

  /** Marks the end of the text and emits all held entries. */
  end(): void {
    this.#close();
    this.#settleUnrecognized();
    this.#flush(true);
  }

  #takeHeader(text: string): boolean {
    const netTools = netToolsColumns(text);
    const bsd = bsdColumns(text);
    if (isSsHeader(text)) this.#begin('ss');
    else if (bsd) {
      this.#begin('bsd');
      this.#bsd = bsd;
    } else if (netTools) {
      this.#begin('net-tools');
      this.#netTools = netTools;
    } else if (INTERNET.test(text)) {
      this.#close();
      this.#settleUnrecognized(true);
      this.#section = 'internet';
    } else if (UNSUPPORTED.test(text)) {
      this.#close();
      this.#section = 'unsupported';
      return false;
    } else if (OTHER_SECTION.test(text)) {
      this.#close();
      this.#section = 'other';
    } else return this.dialect === 'windows' && /^\s*Proto\s/.test(text) && this.#count('header');
    return this.#count('header');
  }

  #count(kind: keyof Counts): true {
    this.counts[kind]++;
    return true;
  }

  #begin(dialect: Dialect): void {
    this.#close();
    this.#settleUnrecognized(true);
    this.dialect = dialect;
    this.#section = 'internet';
  }

  #takeRow(at: Numbered): void {
    if (this.#section === 'other') {
      this.counts.other++;
      return;
    }
    if (this.#section === 'unsupported') {
      this.#fail(at, 'unsupported-section', 'netstat of this system is not supported');
      return;
    }
    const line = this.#read(at.text);
    if (line === null) {
      this.#takeUnrecognized(at);
      return;
    }
    if (line.kind === 'row') {
      this.#close();
      this.counts.row++;
      this.#openRow = { ...at, row: line.row };
    } else if (line.kind === 'error') this.#fail(at, line.problem.error, line.problem.reason);
    else if (line.kind === 'continuation' && this.counts.row + this.counts.other + this.counts.error === 0)
      this.#fail(at, 'unattached-continuation', 'no row before this line');
    else this.counts[line.kind]++;
  }

  /** Parses a line in the detected format, or else in the first that recognizes it. */
  #read(text: string): LineResult | null {
    const readers: Record<Dialect, () => LineResult | null> = {
      'net-tools': () => readNetTools(text, this.#netTools),
      bsd: () => readBsd(text, this.#bsd),
      windows: () => readWindows(text),
      ss: () => readSs(text),
    };
    if (this.dialect !== null) return readers[this.dialect]();
    for (const dialect of ['net-tools', 'bsd', 'windows', 'ss'] as const) {
      const line = readers[dialect]();
      if (line?.kind !== 'row' && line?.kind !== 'other') continue;
      this.#settleUnrecognized(true);
      this.dialect = dialect;
      return line;
    }
    return null;
  }

  /** Handles an unrecognized line: it may name the owner of a Windows row, or be a title before the first row. */
  #takeUnrecognized(at: Numbered): void {
    if (this.dialect === null) {
      this.#unrecognized.push({ number: at.number, text: excerpt(at.text), hasDigit: /\d/.test(at.text) });
      if (this.#unrecognized.length > MAX_UNRECOGNIZED) this.#settleUnrecognized();
    } else if (this.dialect !== 'windows') this.#fail(at, 'too-few-columns', `not a row of ${this.dialect}`);
    else if (this.#openRow) {
      this.counts.continuation++;
      const name = windowsOwner(at.text);
      const [pid = null] = this.#openRow.row.holders.map((holder) => holder.pid);
      const isForbidden = name === null && /^ \S/.test(at.text) && !/^ +--/.test(at.text);
      if (name !== null) this.#openRow.row = { ...this.#openRow.row, holders: [{ pid, name }], reason: null };
      else if (isForbidden && !this.#openRow.row.holders.some((holder) => holder.name !== null))
        this.#openRow.row = { ...this.#openRow.row, reason: 'permission' };
    } else this.#fail(at, 'unattached-continuation', 'no row before this line');
  }

  /** Counts lines before the first recognized line as titles if they have no digits, and otherwise as errors. */
  #settleUnrecognized(isFollowed = false): void {
    for (const at of this.#unrecognized.splice(0)) {
      if (isFollowed && !at.hasDigit) this.counts.header++;
      else this.#fail(at, 'unknown-dialect', 'not a row of ss or a supported netstat');
    }
  }

  #fail({ number, text }: Numbered, error: ErrorCode, reason: string): void {
    this.#close();
    this.counts.error++;
    this.#enqueue({ line: number, error: { line: number, error, reason, text: excerpt(text) } });
  }

  /** Joins a row of ss that a line feed in a process name split into lines. The joined names must fit into a comm. */
  #continuesUsers(text: string): boolean {
    const open = this.#openRow;
    if (!open?.row.isOpen || open.text.length + text.length > MAX_LINE_LENGTH) return false;
    const joined = `${open.text}\n${text}`;
    // Parse the joined text only when the end of the list is reached.
    const line = text.includes('))') ? readSs(joined) : null;
    const row = line?.kind === 'row' ? line.row : open.row;
    if (row.isOpen ? !isPieceOfNames(text) : row.holders.length === 0 || !hasCommNames(row)) return false;
    this.counts.continuation++;
    this.#openRow = { ...open, text: joined, row };
    return true;
  }

  /** Completes the row that later lines could have continued. */
  #close(): void {
    const open = this.#openRow;
    if (!open) return;
    this.#openRow = null;
    const hasTime = open.row.state !== 'time_wait' && open.row.state !== 'syn_received';
    const isForbidden = this.#lacksPermission && open.row.holders.length === 0 && hasTime;
    const row: LineRow = isForbidden ? { ...open.row, reason: 'permission' } : open.row;
    this.#inferFormat(row);
    this.#enqueue({ line: open.number, row });
    for (const { error, reason } of row.problems)
      this.#enqueue({ line: open.number, error: { line: open.number, error, reason, text: excerpt(open.text) } });
  }

  /** Infers the family of "*" and the column width for all rows from one row. */
  #inferFormat({ local, remote }: LineRow): void {
    const ends = [local, remote];
    if (this.dialect === 'ss' && this.#wildcard === null) {
      if (ends.some(({ isBracketed, address }) => isBracketed || address === '0.0.0.0')) this.#wildcard = 6;
      else if (ends.some(({ form, isBracketed }) => form === 'ipv6' && !isBracketed)) this.#wildcard = 4;
    }
    if (this.dialect === 'net-tools') this.#isWide ||= ends.some((end) => end.form === 'ipv6' && isBeyondWidth(end));
    if (this.dialect === 'bsd') this.#isWide ||= ends.some(({ address }) => (address?.length ?? 0) > 12);
  }

  #enqueue(waiting: PendingEntry): void {
    this.#pending.push(waiting);
    this.#flush(this.#pending.length > MAX_PENDING);
  }

  /** Emits the entries that are decided, or all of them. */
  #flush(everything: boolean): void {
    const ready = this.#pending.findIndex(({ row }) => row !== undefined && this.#isUndecided(row));
    const count = everything || ready < 0 ? this.#pending.length : ready;
    for (const { line, row, error } of this.#pending.splice(0, count)) {
      if (error) this.#onEntry({ line, error });
      if (row) this.#emitRow(line, row);
    }
  }

  #isUndecided({ family, local, remote }: LineRow): boolean {
    const isAmbiguous = family === null && local.form === '*' && this.#wildcard === null && this.dialect === 'ss';
    return isAmbiguous || (!this.#isWide && (local.mayBeTruncated || remote.mayBeTruncated));
  }

  #emitRow(line: number, row: LineRow): void {
    const ends = [row.local, row.remote];
    const codes = new Set<WarningCode>(row.warnings);
    if (ends.some(({ form }) => form === 'truncated')) codes.add('address-truncated');
    if (!this.#isWide && ends.some(({ mayBeTruncated }) => mayBeTruncated)) codes.add('address-maybe-truncated');
    if (ends.some(({ form, service }) => form === 'name' || service !== null)) codes.add('resolved-names');
    if (row.state === undefined) codes.add('unknown-state');
    if (row.holders.some(({ name }) => name?.includes('\ufffd'))) codes.add('name-lossy');
    if ((row.family ?? this.#wildcard) === null && row.local.form === '*') codes.add('family-ambiguous');
    for (const warning of codes) {
      this.warnings.set(warning, (this.warnings.get(warning) ?? 0) + 1);
      this.#onWarning({ line, warning });
    }
    this.#onEntry({ line, row: rowOfText(row, this.#wildcard, this.#isWide) });
  }
}

/** Whether a text can be the middle of a list of processes that line feeds in names split. */
function isPieceOfNames(text: string): boolean {
  return text.length <= 15 || (text.includes('",pid=') && readSs(text)?.kind !== 'row');
}

function isBeyondWidth({ address, port, service }: TextEndpoint): boolean {
  return (address?.length ?? 0) + 1 + (service ?? String(port ?? '*')).length > 23;
}

/** A well-formed copy of the beginning of a text; a slice would keep the whole line in memory. */
function excerpt(text: string): string {
  return Buffer.from(text.replace(/\r$/, '').slice(0, MAX_EXCERPT_LENGTH)).toString();
}

/** Parses a complete output of ss or netstat. It never throws. */
export function parseText(text: string): Parsed {
  const rows: Row[] = [];
  const malformed: ErrorRow[] = [];
  const warnings: Warning[] = [];
  const reader = new TextReader(
    (entry) => ('row' in entry ? rows.push(entry.row) : malformed.push(entry.error)),
    (warning) => warnings.push(warning),
  );
  const lines = text.replace(/^\ufeff/, '').split('\n');
  if (lines.at(-1) === '') lines.pop();
  for (const line of lines) reader.take(line, line.length > MAX_LINE_LENGTH);
  reader.end();
  return { dialect: reader.dialect, rows, malformed, warnings, counts: reader.counts };
}

/** Whether the text has errors but no row or header, and so is not output of ss or netstat. */
export function isUnrecognized({ row, header, other, error }: Counts): boolean {
  return error > 0 && row + header + other === 0;
}
