import type { ServicePorts } from '../common/etc-services.ts';
import type { ErrorRow, Row, Transport } from '../model.ts';
import { MAX_DETAILS_LENGTH, readSsDetails } from './details.ts';
import { DIALECTS, mayBeHeader, openReaders, type Dialect } from './dialects.ts';
import type { ErrorCode, Problem } from './endpoint.ts';
import { Inference, type Section } from './inference.ts';
import type { LineResult, LineRow, WarningCode } from './line.ts';
import { MAX_LINE_LENGTH, splitLines } from './line-splitter.ts';
import { isNotice, looksLikeSocket, sectionOf } from './other-lines.ts';
import { cleanLine, Prefix, prefixLengths } from './prefix.ts';
import { hasCommNames, isSsDetail, readSs } from './ss.ts';
import { rowOfText } from './row.ts';
import { windowsOwner } from './windows.ts';

/** A parsed row and where it comes from. */
export interface ParsedRow {
  readonly line: number;
  readonly row: Row;
  /** The number of its text in the input, from 0 on: output of another tool, or a header that was there before, begins a new text. */
  readonly text: number;
  readonly dialect: Dialect;
}

/** A parsed row, or the error of a line. */
export type ParsedEntry = ParsedRow | { readonly line: number; readonly error: ErrorRow };

/** What a text does not say. */
export interface TextOptions {
  /** The transport of rows that do not show theirs, such as those of `ss -t`. */
  readonly transport?: Transport | null;
  /** The ports of services by name. */
  readonly portOf?: ServicePorts;
}

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
  /** Lines that describe no socket: notices of the tool, prompts, dates. */
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

const MAX_EXCERPT_LENGTH = 200;
/** Maximum number of entries held back until a later line shows the family of "*" or whether addresses are truncated. */
const MAX_PENDING = 4096;
/** Maximum number of lines before the first recognized one. */
const MAX_UNRECOGNIZED = 1000;

/** The formats in the order in which a header is tried. */
const HEADER_ORDER = [
  'ss',
  'bsd',
  'net-tools',
  'windows',
  'solaris',
  'sockstat',
  'lsof',
  'powershell',
] as const satisfies readonly Dialect[];

/** Formats with headers that are indented. */
const INDENTED_HEADERS: ReadonlySet<Dialect> = new Set<Dialect>(['windows', 'solaris']);

interface Numbered {
  readonly number: number;
  /** Without prefix and colors. */
  readonly text: string;
  /** As given. */
  readonly given: string;
}

interface PendingEntry {
  readonly line: number;
  readonly error?: ErrorRow;
  readonly row?: LineRow;
  readonly text: number;
  readonly dialect: Dialect | null;
  readonly section: Section;
}

/**
 * Parses output of ss, netstat and similar tools line by line and emits rows and errors in input order. It never throws. The format is
 * detected from a header or a row, and may change within the text. A prefix of the lines, such as that of a log, is removed. Rows are
 * held back only while a later line may show the family of "*", the transport, or that addresses are not truncated.
 */
export class TextReader {
  dialect: Dialect | null = null;
  readonly counts: Counts = { row: 0, continuation: 0, header: 0, other: 0, blank: 0, notice: 0, error: 0 };
  readonly warnings = new Map<WarningCode, number>();
  readonly #onEntry: (entry: ParsedEntry) => void;
  readonly #onWarning: (warning: Warning) => void;
  #number = 0;
  #section: 'internet' | 'other' = 'internet';
  readonly #readers = openReaders();
  #prefix: Prefix | null = null;
  #lacksPermission = false;
  readonly #unrecognized: (Numbered & { readonly isSocket: boolean; readonly hasDigit: boolean })[] = [];
  #openRow: (Numbered & { row: LineRow; details?: string }) | null = null;
  readonly #pending: PendingEntry[] = [];
  readonly #inference: Inference;
  readonly #portOf: ServicePorts;
  /** The number of the current text, and its headers. */
  #text = 0;
  readonly #headers = new Set<string>();

  constructor(
    onEntry: (entry: ParsedEntry) => void,
    onWarning: (warning: Warning) => void = () => undefined,
    { transport = null, portOf = (): null => null }: TextOptions = {},
  ) {
    this.#onEntry = onEntry;
    this.#onWarning = onWarning;
    this.#inference = new Inference(transport);
    this.#portOf = portOf;
  }

  /** Adds the next line, without its line feed. If `isTooLong`, `text` is only its beginning. */
  take(text: string, isTooLong = false): void {
    const number = ++this.#number;
    if (isTooLong) {
      this.#fail({ number, given: text }, 'too-long', 'the line is too long');
      return;
    }
    if (this.#continuesUsers(text)) return;
    const clean = cleanLine(text);
    const line = this.#prefix?.remove(clean) ?? clean;
    if (/^\s*$/.test(line)) {
      this.counts[line.startsWith('\t') && this.dialect === 'ss' ? 'continuation' : 'blank']++;
    } else if (isNotice(line)) {
      this.#lacksPermission = true;
      this.counts.notice++;
    } else if (!this.#takeHeader(line) && !this.#takeRow({ number, text: line, given: text })) {
      const at = { number, text: line, given: text };
      if (!this.#findPrefix(at, clean)) this.#takeUnrecognized(at);
    }
  }

  /** Marks the end of the text and emits all held entries. */
  end(): void {
    this.#close();
    if (this.dialect !== null) this.#endRecord(this.dialect);
    this.#settleUnrecognized();
    this.#flush(true);
  }

  #takeHeader(line: string): boolean {
    const text = line.trimStart();
    const indentation = line.length - text.length;
    const section = sectionOf(text);
    if (mayBeHeader(text)) {
      for (const dialect of HEADER_ORDER) {
        if (!this.#readers[dialect].takeHeader(text)) continue;
        this.#begin(dialect);
        this.#takeTitle(text);
        this.#inference.begin(dialect, text);
        if (!INDENTED_HEADERS.has(dialect)) this.#takeIndentation(line.slice(0, indentation));
        return this.#count('header');
      }
    }
    if (section === null) return false;
    this.#close();
    this.#takeTitle(text);
    this.#section = section;
    this.#takeIndentation(line.slice(0, indentation));
    if (section === 'internet') this.#settleUnrecognized(true);
    return this.#count('header');
  }

  /** A header that starts a line shows how far the text is indented. */
  #takeIndentation(blanks: string): void {
    if (blanks !== '') this.#prefix ??= new Prefix(blanks);
  }

  #count(kind: keyof Counts): true {
    this.counts[kind]++;
    return true;
  }

  #begin(dialect: Dialect): void {
    this.#close();
    this.#settleUnrecognized(true);
    if (this.dialect !== null && this.dialect !== dialect) {
      this.#endRecord(this.dialect);
      this.#beginText();
    }
    this.dialect = dialect;
    this.#section = 'internet';
  }

  /** A title or header that the text already has begins another text. */
  #takeTitle(title: string): void {
    const text = title.trimEnd();
    if (this.#headers.has(text)) this.#beginText();
    this.#headers.add(text);
  }

  #beginText(): void {
    this.#text++;
    this.#headers.clear();
  }

  /** Handles a line that is not a header; false if it is not recognized. */
  #takeRow(at: Numbered): boolean {
    if (this.#section === 'other' && !looksLikeSocket(at.text)) return this.#count('other');
    const line = this.#read(at.text);
    if (line === null) return this.#section === 'other' && this.#count('other');
    if (line.kind === 'error' && !looksLikeSocket(at.text)) return false;
    if (line.kind === 'row') {
      this.#section = 'internet';
      this.#close();
      this.counts.row++;
      this.#openRow = { ...at, row: line.row };
    } else if (line.kind === 'record') {
      this.counts.continuation++;
      for (const row of line.rows) this.#addRecord(at, row);
    } else if (line.kind === 'error') this.#fail(at, line.problem.error, line.problem.reason);
    else if (line.kind === 'continuation') return this.#takeContinuation(at);
    else {
      if (line.kind === 'header' && !/^[-\s]*$/.test(at.text)) this.#takeTitle(at.text);
      this.counts[line.kind]++;
    }
    return true;
  }

  #takeContinuation(at: Numbered): boolean {
    const hasDetails = isSsDetail(at.text);
    if (this.counts.row + this.counts.other + this.counts.error === 0) {
      if (hasDetails) this.#fail(at, 'unattached-continuation', 'no row before this line');
      return hasDetails;
    }
    if (hasDetails) this.#inference.takeDetail(at.text);
    const open = this.#openRow;
    if (open && this.dialect === 'ss' && (open.details?.length ?? 0) < MAX_DETAILS_LENGTH)
      open.details = `${open.details ?? ''} ${at.text.trim()}`;
    return this.#count('continuation');
  }

  /** Parses a line in the current format, or else in the first that recognizes it. */
  #read(text: string): LineResult | null {
    const line = this.dialect === null ? null : this.#readIn(this.dialect, text);
    if (line !== null && line.kind !== 'error' && line.kind !== 'continuation') return line;
    for (const dialect of DIALECTS) {
      const other = dialect === this.dialect ? null : this.#readIn(dialect, text);
      if (other?.kind !== 'row' && other?.kind !== 'record' && (this.dialect !== null || other?.kind !== 'other'))
        continue;
      this.#begin(dialect);
      return other;
    }
    return line;
  }

  #readIn(dialect: Dialect, text: string): LineResult | null {
    return this.#readers[dialect].read(dialect === 'ss' || dialect === 'windows' ? text : text.trimStart());
  }

  /** Recognizes a header or a row after a prefix, and removes the prefix from the lines that follow. */
  #findPrefix({ number, given }: Numbered, text: string): boolean {
    for (const length of prefixLengths(text)) {
      const prefix = new Prefix(text.slice(0, length));
      const line = prefix.remove(text) ?? '';
      const isRow = DIALECTS.some((dialect) => this.#readIn(dialect, line)?.kind === 'row');
      if (!(isRow ? this.#takeRow({ number, text: line, given }) : this.#takeHeader(line))) continue;
      this.#prefix = prefix;
      return true;
    }
    return false;
  }

  /** Handles an unrecognized line: it may name the owner of a Windows row, or be a title before the first row. */
  #takeUnrecognized(at: Numbered): void {
    const isSocket = looksLikeSocket(at.text);
    if (this.dialect === null) {
      const given = excerpt(at.given);
      this.#unrecognized.push({ number: at.number, text: '', given, isSocket, hasDigit: /\d/.test(at.text) });
      if (this.#unrecognized.length > MAX_UNRECOGNIZED) this.#settleUnrecognized();
    } else if (this.dialect === 'windows' && this.#openRow && !isSocket) this.#takeWindowsOwner(at.text);
    else if (this.dialect === 'ss' && isSsDetail(at.text) && this.#takeContinuation(at)) return;
    else if (isSocket) this.#fail(at, 'too-few-columns', `not a row of ${this.dialect}`);
    else this.counts.notice++;
  }

  #takeWindowsOwner(text: string): void {
    this.counts.continuation++;
    if (!this.#openRow) return;
    const name = windowsOwner(text);
    const [pid = null] = this.#openRow.row.holders.map((holder) => holder.pid);
    const isForbidden = name === null && /^ \S/.test(text) && !/^ +--/.test(text);
    if (name !== null) this.#openRow.row = { ...this.#openRow.row, holders: [{ pid, name }], reason: null };
    else if (isForbidden && !this.#openRow.row.holders.some((holder) => holder.name !== null))
      this.#openRow.row = { ...this.#openRow.row, reason: 'permission' };
  }

  /** Counts lines before the first recognized line as titles or notices, unless they may be sockets. */
  #settleUnrecognized(isFollowed = false): void {
    for (const at of this.#unrecognized.splice(0)) {
      if (isFollowed && !at.isSocket) this.counts[at.hasDigit ? 'notice' : 'header']++;
      else this.#fail(at, 'unknown-dialect', 'not a row of ss or a supported netstat');
    }
  }

  /** Adds the row of a record. One of its lines has been counted as a continuation. */
  #addRecord(at: Numbered, row: LineRow | Problem): void {
    this.#close();
    if (this.counts.continuation > 0) this.counts.continuation--;
    if ('error' in row) {
      this.#fail(at, row.error, row.reason);
      return;
    }
    this.counts.row++;
    this.#openRow = { ...at, row };
    this.#close();
  }

  #endRecord(dialect: Dialect): void {
    const row = this.#readers[dialect].end?.() ?? null;
    if (row) this.#addRecord({ number: this.#number, text: '', given: '' }, row);
  }

  #fail({ number, given }: Pick<Numbered, 'number' | 'given'>, error: ErrorCode, reason: string): void {
    this.#close();
    this.counts.error++;
    this.#enqueue({ line: number, error: { line: number, error, reason, text: excerpt(given) } });
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
    const details = this.dialect === 'ss' ? `${open.row.detailText ?? ''}${open.details ?? ''}` : '';
    const row: LineRow = {
      ...open.row,
      ...(isForbidden && { reason: 'permission' }),
      ...(details.trim() !== '' && {
        details: readSsDetails(details.slice(0, 2 * MAX_DETAILS_LENGTH), open.row.state),
      }),
    };
    this.#inference.take(this.dialect, row, open.text);
    this.#enqueue({ line: open.number, row });
    for (const { error, reason } of row.problems)
      this.#enqueue({ line: open.number, error: { line: open.number, error, reason, text: excerpt(open.given) } });
  }

  #enqueue(waiting: Pick<PendingEntry, 'line' | 'row' | 'error'>): void {
    const { section } = this.#inference;
    this.#pending.push({ ...waiting, section, text: this.#text, dialect: this.dialect });
    this.#flush(this.#pending.length > MAX_PENDING);
  }

  /** Emits the entries that are decided, or all of them. */
  #flush(everything: boolean): void {
    const ready = this.#pending.findIndex(
      ({ row, section }) => row !== undefined && this.#inference.isUndecided(row, this.dialect, section),
    );
    const count = everything || ready < 0 ? this.#pending.length : ready;
    for (const { line, row, error, section, text, dialect } of this.#pending.splice(0, count)) {
      if (error) this.#onEntry({ line, error });
      if (row && dialect) this.#emitRow({ line, text, dialect }, this.#inference.complete(row, section));
    }
  }

  #emitRow(place: Omit<ParsedRow, 'row'>, row: LineRow): void {
    const { line } = place;
    const { wildcard, isWide } = this.#inference;
    const ends = [row.local, row.remote];
    const codes = new Set<WarningCode>(row.warnings);
    if (ends.some(({ form }) => form === 'truncated')) codes.add('address-truncated');
    if (!isWide && ends.some(({ mayBeTruncated }) => mayBeTruncated)) codes.add('address-maybe-truncated');
    if (ends.some(({ form, service }) => form === 'name' || service !== null)) codes.add('resolved-names');
    if (row.state === undefined) codes.add('unknown-state');
    if (row.holders.some(({ name }) => name?.includes('\ufffd'))) codes.add('name-lossy');
    if ((row.family ?? wildcard) === null && row.local.form === '*') codes.add('family-ambiguous');
    for (const warning of codes) {
      this.warnings.set(warning, (this.warnings.get(warning) ?? 0) + 1);
      this.#onWarning({ line, warning });
    }
    this.#onEntry({ ...place, row: rowOfText(row, { wildcard, isWide, portOf: this.#portOf }) });
  }
}

/** Whether a text can be the middle of a list of processes that line feeds in names split. */
function isPieceOfNames(text: string): boolean {
  return text.length <= 15 || (text.includes('",pid=') && readSs(text)?.kind !== 'row');
}

/** A well-formed copy of the beginning of a text; a slice would keep the whole line in memory. */
function excerpt(text: string): string {
  return Buffer.from(text.replace(/\r$/, '').slice(0, MAX_EXCERPT_LENGTH)).toString();
}

/** A parsed text whose rows have their places. */
export interface PlacedText extends Omit<Parsed, 'rows'> {
  readonly rows: ParsedRow[];
}

/** Parses a complete output of ss or netstat. It never throws. */
export function parseText(text: string, options: TextOptions = {}): Parsed {
  const { rows, ...rest } = placeText(text, options);
  return { ...rest, rows: rows.map(({ row }) => row) };
}

/** The same with the place of each row. */
export function placeText(text: string, options: TextOptions = {}): PlacedText {
  const rows: ParsedRow[] = [];
  const malformed: ErrorRow[] = [];
  const warnings: Warning[] = [];
  const reader = new TextReader(
    (entry) => ('row' in entry ? rows.push(entry) : malformed.push(entry.error)),
    (warning) => warnings.push(warning),
    options,
  );
  for (const line of splitLines(text)) reader.take(line, line.length > MAX_LINE_LENGTH);
  reader.end();
  return { dialect: reader.dialect, rows, malformed, warnings, counts: reader.counts };
}

/** Whether the text has errors but no row or header, and so is not output of ss or netstat. */
export function isUnrecognized({ row, header, other, error }: Counts): boolean {
  return error > 0 && row + header + other === 0;
}
