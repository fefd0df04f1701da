import type { State, Transport } from '../model.ts';
import { isEndpoint, isUnspecified, readDotEndpoint, type TextEndpoint, type Problem } from './endpoint.ts';
import { NO_EXTRAS, wordsOf, malformed, type Holder, type LineResult, type LineRow, type Word } from './line.ts';
import { stateOfWord } from './states.ts';

/** The columns named by the header: queues, state, the width of an address, and the columns after the state. */
export interface BsdColumns {
  readonly queues: boolean;
  readonly state: boolean;
  readonly width: number;
  readonly after: readonly string[];
}

const NO_HEADER: BsdColumns = { queues: true, state: true, width: 22, after: [] };
/** Without -W or -l, an IPv6 address is truncated to this length, before its port (inet6.c of netstat). */
const CUT_ADDRESS = 16;
/** With -A and without -n, an address is truncated to this length, which an IPv4 address may exceed. */
const SHORT_ADDRESS = 12;
/** Address columns of at least this width are never truncated. */
const WIDE = 40;
const PROTOCOL = /^(tcp|udp|udplite|udplt|icm|ip|raw)(4|6|46)?$/;

/** Parses a header of netstat on macOS or FreeBSD; null for any other line. */
export function bsdColumns(text: string): BsdColumns | null {
  const local = text.indexOf('Local Address');
  const foreign = text.indexOf('Foreign Address');
  if (!/\bProto\s/.test(text) || local < 0 || foreign < 0) return null;
  const isBsd = text.includes('(state)') || /\b(Rexmit|R-MBUF|R-HIWA)\b/.test(text);
  if (!isBsd) return null;
  const state = text.indexOf('(state)');
  return {
    queues: /\bRecv-Q Send-Q\b/.test(text),
    state: state >= 0,
    width: foreign - local - 1,
    after: wordsOf(state < 0 ? '' : text.slice(state + '(state)'.length)).map((word) => word.text),
  };
}

/** Parses a line of netstat on macOS or FreeBSD; null if it does not start like a row. */
export function readBsd(text: string, columns: BsdColumns | null): LineResult | null {
  const words = wordsOf(text);
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
  const family = version === '4' ? 4 : version === undefined ? null : 6;
  const local = readCut(localWord.text, header.width);
  const remote = readCut(remoteWord.text, header.width);
  if (!isEndpoint(local)) return { kind: 'error', problem: local };
  if (!isEndpoint(remote)) return { kind: 'error', problem: remote };
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
      ...readTail(text, rest, transport, header, !isUnspecified(remote)),
    },
  };
}

/** Parses an endpoint that may be truncated. The address is then unknown, and so is the port if the text fills the column. */
function readCut(text: string, width: number): TextEndpoint | Problem {
  const end = readDotEndpoint(text);
  if (width >= WIDE) return end;
  const at = text.lastIndexOf('.');
  const host = at < 0 ? text : text.slice(0, at);
  const hasZone = host.includes('%');
  const isIPv6 = host.includes(':');
  if (isIPv6 && !hasZone && (!isEndpoint(end) || host.length === CUT_ADDRESS)) {
    if (isEndpoint(end) ? false : text.length < Math.min(width, CUT_ADDRESS)) return end;
    const port = at < 0 || (text.length >= width && width < CUT_ADDRESS + 6) ? '' : text.slice(at + 1);
    const cut = { address: null, name: null, service: null, mayBeTruncated: false, isBracketed: false } as const;
    return { ...cut, form: 'truncated', port: /^\d{1,5}$/.test(port) && Number(port) <= 65_535 ? Number(port) : null };
  }
  if (!isEndpoint(end)) return end;
  const isNarrow = width < CUT_ADDRESS + 6;
  const isPortCut = text.length >= width && (isNarrow || host.length > CUT_ADDRESS) && end.form !== '*';
  const mayBeTruncated = isNarrow && end.address !== null && host.length === SHORT_ADDRESS;
  return { ...end, mayBeTruncated, ...(isPortCut ? { port: null, service: null } : {}) };
}

function readTail(
  text: string,
  words: readonly Word[],
  transport: Transport,
  { state: hasState, after }: BsdColumns,
  hasPeer: boolean,
): Pick<LineRow, 'state' | 'holders' | 'problems'> {
  const word = words[0]?.text ?? '';
  const isState = hasState && /^[A-Z][A-Z_]+[12]?$/.test(word);
  let state: State | null | undefined = transport === 'tcp' ? null : hasPeer ? 'established' : 'unconnected';
  if (isState) state = stateOfWord(word, transport);
  return { state, ...readProcess(text, isState ? words.slice(1) : words, after) };
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
  const holder: Holder = { pid: Number(pid) || null, name: name ?? null };
  return { holders: holder.pid === null && holder.name === null ? [] : [holder], problems: [] };
}

function columnsDiffer(values: number, columns: number): Problem {
  return {
    error: 'bad-pid',
    reason: `${values} values in ${columns} columns: the pid cannot be identified`,
  };
}
