import type { ErrorRow, Row } from '../model.ts';
import { bsdColumns, readBsd, type BsdColumns } from './bsd.ts';
import type { TextEndpoint, ErrorCode } from './endpoint.ts';
import type { LineResult, LineRow, WarningCode } from './line.ts';
import { MAX_LINE_LENGTH } from './line-splitter.ts';
import { netToolsColumns, readNetTools, type NetToolsColumns } from './net-tools.ts';
import { hasCommNames, isSsHeader, readSs } from './ss.ts';
import { rowOfText, type Wildcard } from './row.ts';
import { readWindows, windowsOwner } from './windows.ts';

/** Says whether a line is what a tool says of itself: that it may not see every process. */
export function isNotice(line: string): boolean {
  return NOTICE.test(line);
}

/** Whose text it is: `net-tools` is the netstat of Linux, of busybox too; `bsd` that of macOS and FreeBSD. */
export type Dialect = 'ss' | 'net-tools' | 'bsd' | 'windows';

/** A row that was read, or what stands for a line that was not. */
export type ParsedEntry =
  { readonly line: number; readonly row: Row } | { readonly line: number; readonly error: ErrorRow };

/** What a row leaves in doubt, by its line. */
export interface Warning {
  readonly line: number;
  readonly warning: WarningCode;
}

/** What became of the lines: the counts add up to all of them. */
export interface Counts {
  row: number;
  /** What belongs to the row before it. */
  continuation: number;
  header: number;
  /** Sockets that are no connections of IP, such as those of UNIX domains. */
  other: number;
  blank: number;
  /** What a tool says of itself. */
  notice: number;
  error: number;
}

/** A text, read whole. */
export interface Parsed {
  /** That of the last row or header; null where there is none. */
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
/** How many entries wait, at most, for a line that says what their "*" means, or whether addresses were cut. */
const MAX_PENDING = 4096;
/** How many lines may come before the first that is known. */
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
 * Reads the text of ss or netstat line by line, whichever of them wrote it, and hands over rows and errors in the order of the text.
 * It throws for nothing that stands in the text. Rows wait for later lines only where these may say what "*" means (IPv4 to ss
 * before 4.14, dual-stack after) or that addresses were not cut. A header, or else the first row, decides the dialect.
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

  /** Takes the next line, without its line end; `isTooLong` says that it is but a beginning. */
  take(text: string, isTooLong = false): void {
    const number = ++this.#number;
    if (isTooLong) {
      this.#fail({ number, text }, 'too-long', 'the line is longer than any that a tool writes');
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

  /** Says that the text has ended. */
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
      this.#fail(at, 'unsupported-section', 'netstat of this system is not read');
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
      this.#fail(at, 'unattached-continuation', 'there is no row before this line');
    else this.counts[line.kind]++;
  }

  /** Reads a line in the dialect that is known, else in the first that it begins like. */
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

  /** A line that is like no row: below a row of Windows it names the owner, before the first row it may be a title. */
  #takeUnrecognized(at: Numbered): void {
    if (this.dialect === null) {
      this.#unrecognized.push({ number: at.number, text: excerpt(at.text), hasDigit: /\d/.test(at.text) });
      if (this.#unrecognized.length > MAX_UNRECOGNIZED) this.#settleUnrecognized();
    } else if (this.dialect !== 'windows') this.#fail(at, 'too-few-columns', `this is no row of ${this.dialect}`);
    else if (this.#openRow) {
      this.counts.continuation++;
      const name = windowsOwner(at.text);
      const [pid = null] = this.#openRow.row.holders.map((holder) => holder.pid);
      const isForbidden = name === null && /^ \S/.test(at.text) && !/^ +--/.test(at.text);
      if (name !== null) this.#openRow.row = { ...this.#openRow.row, holders: [{ pid, name }], reason: null };
      else if (isForbidden && !this.#openRow.row.holders.some((holder) => holder.name !== null))
        this.#openRow.row = { ...this.#openRow.row, reason: 'permission' };
    } else this.#fail(at, 'unattached-continuation', 'there is no row before this line');
  }

  /** What came before the first known line: titles have no digits in any language, and what has some is no title. */
  #settleUnrecognized(isFollowed = false): void {
    for (const at of this.#unrecognized.splice(0)) {
      if (isFollowed && !at.hasDigit) this.counts.header++;
      else this.#fail(at, 'unknown-dialect', 'this is no row of ss or of a netstat that is known');
    }
  }

  #fail({ number, text }: Numbered, error: ErrorCode, reason: string): void {
    this.#close();
    this.counts.error++;
    this.#enqueue({ line: number, error: { line: number, error, reason, text: excerpt(text) } });
  }

  /** A line end in a name breaks a row of ss in two: both together are a row, if its names are short enough to be names. */
  #continuesUsers(text: string): boolean {
    const open = this.#openRow;
    if (!open?.row.isOpen || open.text.length + text.length > MAX_LINE_LENGTH) return false;
    const joined = `${open.text}\n${text}`;
    // Only its end is worth reading it again from the start.
    const line = text.includes('))') ? readSs(joined) : null;
    const row = line?.kind === 'row' ? line.row : open.row;
    if (row.isOpen ? !isPieceOfNames(text) : row.holders.length === 0 || !hasCommNames(row)) return false;
    this.counts.continuation++;
    this.#openRow = { ...open, text: joined, row };
    return true;
  }

  /** Ends the row that further lines might have belonged to. */
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

  /** What a row tells of all the others. */
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

  /** Hands over what need not wait, or everything. */
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

/** A piece of a list of processes between two line ends: of one name, or from one name to another. */
function isPieceOfNames(text: string): boolean {
  return text.length <= 15 || (text.includes('",pid=') && readSs(text)?.kind !== 'row');
}

function isBeyondWidth({ address, port, service }: TextEndpoint): boolean {
  return (address?.length ?? 0) + 1 + (service ?? String(port ?? '*')).length > 23;
}

/** A copy, well-formed: a slice would keep the whole line in memory. */
function excerpt(text: string): string {
  return Buffer.from(text.replace(/\r$/, '').slice(0, MAX_EXCERPT_LENGTH)).toString();
}

/** Reads a whole text of ss or netstat. It throws for nothing that stands there. */
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

/** Says whether a text held something and nothing of it was a row or a header: it is no text of ss or netstat. */
export function isUnrecognized({ row, header, other, error }: Counts): boolean {
  return error > 0 && row + header + other === 0;
}
