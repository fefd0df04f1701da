import type { State, Transport } from '../model.ts';
import { isEndpoint, isUnspecified, readDotEndpoint, type TextEndpoint, type Problem } from './endpoint.ts';
import { NO_EXTRAS, wordsOf, malformed, type Holder, type LineResult, type LineRow, type Word } from './line.ts';
import { stateOfWord } from './states.ts';

/** The columns named by the header: queues, state, and the columns after the state. Its widths may differ from those of the rows. */
export interface BsdColumns {
  readonly queues: boolean;
  readonly state: boolean;
  readonly after: readonly string[];
}

const NO_HEADER: BsdColumns = { queues: true, state: true, after: [] };
/** Without -W or -l, an IPv6 address is truncated to this length, before its port (inet6.c of netstat). */
const CUT_ADDRESS = 16;
/** With -A and without -n, an address is truncated to this length, which an IPv4 address may exceed. */
const SHORT_ADDRESS = 12;
/** Width of an address column: with -A, by default, and with -W or -l, which truncate nothing. */
const WIDTHS = { narrow: 18, normal: 22, wide: 45 } as const;
const PROTOCOL = /^(tcp|udp|udplite|udplt|icm|icmp|icmp6|ip|raw)(4|6|46)?$/;

/** Parses a header of netstat on macOS or BSD; null for any other line. */
export function bsdColumns(text: string): BsdColumns | null {
  if (!/^(?:(?:Socket|Tcpcb|PCB|pcb)\s+)?(?:Flowhash\s+)?Proto\s/.test(text)) return null;
  const titles = text.trim().replaceAll(/\s+/g, ' ');
  if (!titles.includes('Local Address Foreign Address')) return null;
  const state = titles.indexOf('(state)');
  const isBsd = state >= 0 || /Foreign Address$/.test(titles) || /\b(Rexmit|R-MBUF|R-HIWA)\b/.test(titles);
  if (!isBsd) return null;
  return {
    queues: titles.includes('Recv-Q Send-Q'),
    state: state >= 0,
    after: wordsOf(state < 0 ? '' : titles.slice(state + '(state)'.length)).map((word) => word.text),
  };
}

/** Parses a line of netstat on macOS or BSD; null if it does not start like a row. */
export function readBsd(text: string, columns: BsdColumns | null): LineResult | null {
  const words = wordsOf(text, 0, 40);
  const at = words.slice(0, 3).findIndex((word) => PROTOCOL.test(word.text));
  if (at < 0 || !words.slice(0, at).every((word) => /^[\da-f]+$/.test(word.text))) return null;
  const [, protocol = '', version] = PROTOCOL.exec(words[at]?.text ?? '') ?? [];
  const numbers = words.slice(at + 1).findIndex((word) => !/^\d+$/.test(word.text));
  const [localWord, remoteWord, ...rest] = numbers < 0 ? [] : words.slice(at + 1 + numbers);
  const areEndpoints = [localWord, remoteWord].every(
    (word) => word && (word.text.includes('.') || word.text.includes(':')),
  );
  if (!localWord || !remoteWord || !areEndpoints)
    return columns ? malformed('too-few-columns', 'local or foreign address is missing') : null;
  if (!columns && !/\.(\d+|\*|[a-z][\w-]*)$/i.test(localWord.text)) return null;
  const header = columns ?? NO_HEADER;
  const width = remoteWord.start - localWord.start - 1;
  const isNarrow = width === WIDTHS.narrow || (at > 0 && width < WIDTHS.normal);
  const local = readCut(localWord, { width, isNarrow, isRemote: false });
  const remote = readCut(remoteWord, { width, isNarrow, isRemote: true });
  if (!isEndpoint(local)) return { kind: 'error', problem: local };
  if (!isEndpoint(remote)) return { kind: 'error', problem: remote };
  const isIPv6 = [local, remote].some(({ form }) => form === 'ipv6' || form === 'truncated');
  // OpenBSD and NetBSD name IPv4 without a version.
  const family = version === '4' || (version === undefined && !isIPv6 && !protocol.endsWith('6')) ? 4 : 6;
  const hasQueues = header.queues && numbers === 2;
  const queues = hasQueues ? words.slice(at + 1, at + 3).map((word) => word.text) : [];
  if (queues.some((text) => text.length > 10))
    return malformed('bad-queue', `${queues.map((text) => `"${text}"`).join(' and ')} are not queue lengths`);
  const queue = (i: number): number | null => (hasQueues ? Number(queues[i]) : null);
  const transport: Transport =
    protocol === 'tcp' || protocol === 'udp' ? protocol : protocol.startsWith('udp') ? 'udplite' : 'raw';
  return {
    kind: 'row',
    row: {
      ...NO_EXTRAS,
      transport,
      family,
      local,
      remote,
      receiveQueue: queue(0),
      sendQueue: queue(1),
      ...readTail(text, rest, transport, columns, !isUnspecified(remote)),
    },
  };
}

/**
 * Parses an endpoint that may be truncated. An address that fills its precision is unknown, and so is a port that reaches the end of
 * the column. The width is that of the row: since macOS 12, the header has another one. Lost blanks make it as short as the text.
 */
function readCut(
  { text }: Word,
  { width, isNarrow, isRemote }: { width: number; isNarrow: boolean; isRemote: boolean },
): TextEndpoint | Problem {
  const end = readDotEndpoint(text);
  if (width >= WIDTHS.wide || text.length > WIDTHS.normal) return end;
  const at = text.lastIndexOf('.');
  const host = at < 0 ? text : text.slice(0, at);
  const isFull = text.length === WIDTHS.narrow && isNarrow;
  const isIPv6 = host.includes(':');
  if (isIPv6 && (!isEndpoint(end) || host.length === CUT_ADDRESS)) {
    if (!isEndpoint(end) && text.length < CUT_ADDRESS) return end;
    const port = at < 0 || isFull ? '' : text.slice(at + 1);
    const cut = { address: null, name: null, service: null, mayBeTruncated: false, isBracketed: false } as const;
    return { ...cut, form: 'truncated', port: /^\d{1,5}$/.test(port) && Number(port) <= 65_535 ? Number(port) : null };
  }
  if (!isEndpoint(end)) return end;
  // HTTPS is far more likely than the few ports that "443" could be cut from.
  const isWholePort = end.port === null || (isRemote && end.port === 443) || end.port > 9999;
  const isPortCut = isFull && end.form !== '*' && !isWholePort;
  const isServiceCut = end.service !== null && isFull;
  const mayBeTruncated = isNarrow && end.address !== null && host.length === SHORT_ADDRESS;
  return { ...end, mayBeTruncated, ...(isPortCut || isServiceCut ? { port: null, service: null } : {}) };
}

function readTail(
  text: string,
  words: readonly Word[],
  transport: Transport,
  columns: BsdColumns | null,
  hasPeer: boolean,
): Pick<LineRow, 'state' | 'holders' | 'problems'> {
  const { state: hasState, after } = columns ?? NO_HEADER;
  const word = words[0]?.text ?? '';
  const isState = hasState && /^[A-Z][A-Z_]+[12]?$/.test(word);
  let state: State | null | undefined = transport === 'tcp' ? null : hasPeer ? 'established' : 'unconnected';
  if (isState) state = stateOfWord(word, transport);
  const values = isState ? words.slice(1) : words;
  return { state, ...(after.length > 0 ? readProcess(text, values, after) : readProcessByShape(text, values)) };
}

/** Parses the process column named by the header. Columns are counted from the right because an empty state shifts them. */
function readProcess(
  text: string,
  values: readonly Word[],
  columns: readonly string[],
): Pick<LineRow, 'holders' | 'problems'> {
  const nothing = { holders: [], problems: [] };
  const named = columns.indexOf('process:pid');
  const column = named >= 0 ? named : columns.indexOf('pid');
  if (column < 0 || values.length === 0) return nothing;
  const right = columns.length - 1 - column;
  const first = values[column];
  const last = values[values.length - 1 - right];
  const isWhole = named >= 0 ? values.length >= columns.length : values.length === columns.length;
  if (!first || !last || !isWhole) return { holders: [], problems: [columnsDiffer(values.length, columns.length)] };
  const value = text.slice(first.start, last.end);
  const [, name, pid] = /^(?:(.*):)?(\d{1,10})$/s.exec(value) ?? [];
  if (pid === undefined || (name === undefined) !== named < 0)
    return { holders: [], problems: [{ error: 'bad-pid', reason: `"${value.slice(0, 60)}" is not a process` }] };
  return { holders: holdersOf(name, pid), problems: [] };
}

/**
 * Parses the process of a row of macOS without a header, between the buffer sizes and the state, options and generation count, which
 * have a fixed number of hexadecimal digits.
 */
function readProcessByShape(text: string, values: readonly Word[]): Pick<LineRow, 'holders' | 'problems'> {
  const options = values.findIndex(({ text: word }, i) => {
    const state = values[i - 1]?.text ?? '';
    const isOld = /^0x[\da-f]{8}$/.test(word) && /^0x[\da-f]{4}$/.test(state);
    return isOld || (/^[\da-f]{8}$/.test(word) && /^[\da-f]{5}$/.test(state) && /^[\da-f]{16}$/.test(after(i)));
  });
  const last = values[options - 2];
  const sizes = values.findIndex(({ text: word }) => !/^\d+$/.test(word));
  if (options < 0 || !last) return { holders: [], problems: [] };
  if (!last.text.includes(':')) {
    const pid = values[options - 3]?.text ?? '';
    const isPlace = options === 5 || options === 7;
    return { holders: isPlace && /^\d{1,10}$/.test(pid) ? holdersOf(undefined, pid) : [], problems: [] };
  }
  const first = values[Math.min(sizes, 4)];
  const [, name, pid] = /^(.*):(\d{1,10})$/s.exec(first ? text.slice(first.start, last.end) : '') ?? [];
  return { holders: pid === undefined ? [] : holdersOf(name, pid), problems: [] };

  function after(i: number): string {
    return values[i + 1]?.text ?? '';
  }
}

function holdersOf(name: string | undefined, pid: string): Holder[] {
  const holder: Holder = { pid: Number(pid) || null, name: name ?? null };
  return holder.pid === null && holder.name === null ? [] : [holder];
}

function columnsDiffer(values: number, columns: number): Problem {
  return {
    error: 'bad-pid',
    reason: `${values} values in ${columns} columns: the pid cannot be identified`,
  };
}
