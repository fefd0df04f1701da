import type { Transport } from '../model.ts';
import { isEndpoint, isUnspecified, readColonEndpoint, type TextEndpoint, type Problem } from './endpoint.ts';
import { NO_EXTRAS, wordsOf, type LineResult, type LineRow } from './line.ts';
import { stateOfWord } from './states.ts';

const TRANSPORTS: ReadonlyMap<string, Transport> = new Map([
  ['TCP', 'tcp'],
  ['UDP', 'udp'],
  ['UDPLITE', 'udplite'],
]);
/** Width at which lsof truncates a command without +c. */
const COMMAND_WIDTH = 9;
const ANY: TextEndpoint = {
  address: null,
  port: null,
  form: '*',
  name: null,
  service: null,
  mayBeTruncated: false,
  isBracketed: false,
};

/** Whether a line is a header of lsof. */
export function isLsofHeader(text: string): boolean {
  return /^COMMAND\s+PID\s.*\bTYPE\s+DEVICE\s.*\bNAME\s*$/.test(text);
}

/** Parses a line of the table of lsof; null if it does not start like a row. Columns are found by the type. */
export function readLsof(text: string, isKnown: boolean): LineResult | null {
  const words = wordsOf(text, 0, 24);
  const at = words.findIndex(({ text: word }, i) => i >= 4 && /^IPv[46]$/.test(word));
  const protocol = at < 0 ? -1 : words.findIndex(({ text: word }, i) => i > at && i <= at + 4 && TRANSPORTS.has(word));
  const pid = words.findIndex(({ text: word }, i) => i > 0 && i < at && /^\d{1,10}$/.test(word));
  const name = words[protocol + 1];
  // A socket of macOS that has lost its addresses: "no PCB".
  if (isKnown && protocol >= 0 && name?.text === 'no') return { kind: 'other' };
  if (at < 0 || protocol < 0 || pid < 0 || !name) {
    const isOther = isKnown && /\s(?:unix|sock|netlink|raw6?|REG|DIR|CHR|FIFO|a_inode|PIPE|KQUEUE|systm)\s/.test(text);
    return isOther || (isKnown && at >= 0) ? { kind: 'other' } : null;
  }
  const command = text.slice(words[0]?.start, words[pid - 1]?.end);
  const user = words.slice(pid + 1, at - 1).at(-1)?.text ?? '';
  const row = rowOf({
    c: command,
    p: words[pid]?.text,
    u: user,
    t: words[at]?.text,
    P: words[protocol]?.text,
    n: name.text,
    TST: /\(([A-Z][A-Z_ \d]+)\)/.exec(text.slice(name.end))?.[1],
  });
  if (!('transport' in row)) return isKnown ? { kind: 'error', problem: row } : null;
  return { kind: 'row', row: command.length === COMMAND_WIDTH ? { ...row, warnings: ['name-truncated'] } : row };
}

/** A field: process, numbers, login name, command, file descriptor, name, or another letter with a word. */
const FIELD = /^(?:p\d{1,10}|[gRu]\d{1,10}|[cnLlaG].*|T[A-Z]{2}=.*|[fdDsokPtiS]\S{0,100})$/s;

/** Fields of lsof -F by their letter: process, command, user, type, protocol, name; TST is the TCP state. */
type Fields = Partial<Record<string, string | undefined>>;

/** Parses the output of lsof -F: a field a line, or with -F0 a zero byte after each field. */
export class LsofFields {
  #process: Fields = {};
  #file: Fields | null = null;
  #isOpen = false;

  /** Whether a line starts the fields of a process. */
  isStart(text: string): boolean {
    return /^p\d{1,10}(?:\0|$)/.test(text);
  }

  read(text: string): LineResult | null {
    if (!this.#isOpen && !this.isStart(text)) return null;
    const fields = text.split('\0').filter((field) => field !== '');
    if (!fields.every((field) => FIELD.test(field))) return null;
    this.#isOpen = true;
    const rows: (LineRow | Problem)[] = [];
    for (const field of fields) {
      const row = this.#take(field);
      if (row) rows.push(row);
    }
    return { kind: 'record', rows };
  }

  /** Ends the last file. */
  end(): LineRow | Problem | null {
    const file = this.#file;
    this.#file = null;
    if (!file || !/^IPv[46]$/.test(file.t ?? '')) return null;
    // A socket of macOS that has lost its addresses, or a protocol that is not parsed.
    if (!TRANSPORTS.has(file.P ?? '') || file.n === undefined || file.n.startsWith('no ')) return null;
    return rowOf({ ...this.#process, ...file });
  }

  #take(field: string): LineRow | Problem | null {
    const letter = field.charAt(0);
    const value = field.slice(1);
    if (letter === 'p' || letter === 'f') {
      const row = this.end();
      if (letter === 'p') this.#process = { p: value };
      else this.#file = {};
      return row;
    }
    const state = /^TST=(.+)$/.exec(field)?.[1];
    const target = this.#file ?? this.#process;
    if (state !== undefined) target.TST = state;
    else if (letter !== 'T') target[letter] = value;
    return null;
  }
}

function rowOf({ c, p, u, L, t, P, n = '', TST }: Fields): LineRow | Problem {
  const transport = TRANSPORTS.get(P ?? '');
  if (transport === undefined) return { error: 'bad-address', reason: `"${(P ?? '').slice(0, 60)}" is not a protocol` };
  const [localText = '', remoteText] = n.split(' ', 1)[0]?.split('->', 2) ?? [];
  const local = readColonEndpoint(localText);
  const remote = remoteText === undefined ? ANY : readColonEndpoint(remoteText);
  if (!isEndpoint(local)) return local;
  if (!isEndpoint(remote)) return remote;
  const state = TST === undefined ? (transport === 'tcp' ? null : undefined) : stateOfWord(TST, transport);
  const pid = /^\d{1,10}$/.test(p ?? '') ? Number(p) : null;
  const name = c === undefined || c === '' ? null : unescape(c);
  return {
    ...NO_EXTRAS,
    transport,
    family: t === 'IPv4' ? 4 : 6,
    local,
    remote,
    state: transport === 'tcp' ? state : isUnspecified(remote) ? 'unconnected' : 'established',
    receiveQueue: null,
    sendQueue: null,
    uid: /^\d{1,10}$/.test(u ?? '') ? Number(u) : null,
    details: { user: L ?? (u === undefined || u === '' || /^\d+$/.test(u) ? null : u) },
    holders: pid === null && name === null ? [] : [{ pid, name }],
  };
}

/** Replaces the escapes of lsof: "\x20" is a blank. */
function unescape(text: string): string {
  return text.replaceAll(/\\x([\da-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}
