import type { State, Transport } from '../model.ts';
import { readNetToolsTimer, type Details } from './details.ts';
import { isEndpoint, isUnspecified, readColonEndpoint, type TextEndpoint, type Problem } from './endpoint.ts';
import { NO_EXTRAS, malformed, wordsOf, type Holder, type LineResult, type LineRow } from './line.ts';
import { stateOfWord } from './states.ts';

/** The optional columns named by the header; null if its language hides them, so that the values decide. */
export interface NetToolsColumns {
  readonly user: boolean | null;
  readonly timer: boolean | null;
}

const NO_HEADER: NetToolsColumns = { user: null, timer: null };
/** Without -W, net-tools truncates an IPv6 address so that address, colon and port have this length. */
const CUT_WIDTH = 23;
/** Length at which pid and name are truncated. */
const OWNER_WIDTH = 19;
const ROW = /^(tcp|udp|udplite|udpl|raw)(6?)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)(.*)$/s;
/** Other socket types, which are not parsed. */
const OTHER = /^(unix|sctp|l2cap|l2|rfcomm|ipx|ax25|x25|netrom)\s/;
/** A timer in any language, such as "keepalive (7199.63/0/0)" or "desconh.-4 (0,90/0)". */
const TIMER = /(?:^|\s)(\S{1,30})\s+\({1,2}(\d{1,10}[.,]\d{1,3}(?:\/\d{1,10}){1,2})\)\s*$/;
const OWNER_TITLE = 'PID/Program name';

/** Parses a header of netstat on Linux in any language; null for any other line. */
export function netToolsColumns(text: string): NetToolsColumns | null {
  if (!/^Proto\s/.test(text)) return null;
  const [, receive = '', send = '', ...titles] = text.trim().split(/\s+/);
  // The header of UNIX domain sockets has a title without a queue.
  const areQueues = receive.includes('-') === send.includes('-') && !/^Ref|Ref$/.test(receive);
  // So have the control sockets of macOS, with titles in lower case.
  const isTitle = /^(?:\p{Lu}|[^\p{ASCII}])/u.test(titles[0] ?? '');
  if (!areQueues || !isTitle || titles.length < 2 || /\d|[[\]]|\(state\)/.test(text) || /I-Node\b/.test(text))
    return null;
  if (receive !== 'Recv-Q' || titles[0] !== 'Local') {
    const [, tail] = text.split(OWNER_TITLE);
    return { user: null, timer: tail === undefined ? null : tail.trim() !== '' };
  }
  // OpenBSD and FreeBSD have no state column for UDP.
  if (titles.join(' ') === 'Local Address Foreign Address') return null;
  const user = /\sInode\b/.test(text);
  const owner = text.indexOf(OWNER_TITLE);
  return { user, timer: owner < 0 ? /\sTimer\s*$/.test(text) : text.slice(owner + OWNER_TITLE.length).trim() !== '' };
}

/** Parses a line of netstat from net-tools or busybox; null if it does not start like a row. */
export function readNetTools(text: string, columns: NetToolsColumns | null): LineResult | null {
  if (OTHER.test(text)) return { kind: 'other' };
  const match = ROW.exec(text);
  if (!match) {
    return columns && /^(tcp|udp|udplite|udpl|raw)6?\s/.test(text)
      ? malformed('too-few-columns', 'queues or addresses are missing')
      : null;
  }
  const [, protocol = '', six, received = '', sent = '', localText = '', remoteText = '', rest = ''] = match;
  if (!columns && localText.lastIndexOf(':') <= localText.lastIndexOf('.')) return null;
  if (!/^\d{1,10}$/.test(received) || !/^\d{1,10}$/.test(sent))
    return columns ? malformed('bad-queue', `"${received}" and "${sent}" are not queue lengths`) : null;
  if (rest.trimStart().startsWith('users:((')) return null;
  const transport: Transport = protocol === 'tcp' || protocol === 'udp' || protocol === 'raw' ? protocol : 'udplite';
  const local = readWide(localText);
  const remote = readWide(remoteText);
  if (!isEndpoint(local)) return { kind: 'error', problem: local };
  if (!isEndpoint(remote)) return { kind: 'error', problem: remote };
  const isIPv6 = six === '6' || [local, remote].some(({ form }) => form === 'ipv6' || form === 'truncated');
  const hasPeer = !isUnspecified(remote);
  const tail = readTail(rest, transport, columns, hasPeer);
  return {
    kind: 'row',
    row: {
      ...NO_EXTRAS,
      transport,
      family: isIPv6 ? 6 : 4,
      local,
      remote,
      receiveQueue: Number(received),
      sendQueue: Number(sent),
      ...tail,
    },
  };
}

/** Parses an endpoint that may be truncated: its port is complete, its address is not but may look valid. */
function readWide(text: string): TextEndpoint | Problem {
  const end = readColonEndpoint(text);
  if (isEndpoint(end)) return { ...end, mayBeTruncated: end.form === 'ipv6' && text.length === CUT_WIDTH };
  if (text.length !== CUT_WIDTH) return end;
  const [, port] = /^[\da-f:.]*:[\da-f:.]*:(\d{1,5}|\*)$/i.exec(text) ?? [];
  if (port === undefined) return end;
  const cut = {
    address: null,
    name: null,
    service: null,
    mayBeTruncated: false,
    isBracketed: false,
    form: 'truncated',
  } as const;
  return { ...cut, port: port === '*' ? null : Number(port) };
}

/** Parses state, user, inode, pid and name, and the timer. */
function readTail(
  text: string,
  transport: Transport,
  columns: NetToolsColumns | null,
  hasPeer: boolean,
): Pick<LineRow, 'state' | 'uid' | 'inode' | 'holders' | 'details' | 'problems' | 'warnings'> {
  const { user: hasUserColumn, timer: hasTimer } = columns ?? NO_HEADER;
  const timer = hasTimer === false ? null : findTimer(text);
  let rest = (timer ? text.slice(0, timer.start) : text).trim();
  const take = (pattern: RegExp): string | undefined => {
    const [found] = pattern.exec(rest) ?? [];
    if (found !== undefined) rest = rest.slice(found.length).trimStart();
    return found;
  };
  const words = wordsOf(rest, 0, 2).map(({ text: one }) => one);
  const pair = stateOfWord(words.join(' '), transport) === undefined ? 1 : words.length;
  const word = words.slice(0, pair).join(' ');
  const known = stateOfWord(word, transport);
  const isOwner = word === '-' || /^\d+\//.test(word);
  let state: State | null | undefined = transport === 'tcp' ? null : hasPeer ? 'established' : 'unconnected';
  if (transport === 'raw') {
    // A number: the state, or the placeholder of busybox.
    if (!isOwner) take(/^\d+(?=\s|$)/);
  } else if (known !== undefined) {
    state = known;
    for (let i = 0; i < pair; i++) take(/^\S+/);
  } else if (word !== '' && !isOwner && !/^\d+$/.test(word) && (transport === 'tcp' || !hasUserColumn)) {
    // A TCP socket without a peer is only shown if it listens, in every language.
    state = transport === 'tcp' && !hasPeer && !isAscii(word) ? 'listen' : undefined;
    take(/^\S+/);
  }
  const hasUser = hasUserColumn ?? (/^\S+\s+\d+(\s+(-|\d+\/)|$)/.test(rest) && !/^(-|\d+\/)/.test(rest));
  const user = hasUser ? take(/^\S+/) : undefined;
  const inode = hasUser ? Number(take(/^\d{1,15}/) ?? 0) : 0;
  const uid = /^\d{1,10}$/.test(user ?? '') && inode > 0 ? Number(user) : null;
  const name = inode > 0 && user !== undefined && !/^\d+$/.test(user) ? user : null;
  const details = { ...timer?.details, ...(name === null ? {} : { user: name }) };
  return { state, uid, inode: inode > 0 ? inode : null, details, ...readOwner(rest) };
}

/** Parses the timer at the end of a row. Only the end is searched: a name may be long. */
function findTimer(text: string): { start: number; details: Details } | null {
  const from = Math.max(0, text.length - 120);
  const match = TIMER.exec(text.slice(from));
  return match && { start: from + match.index, details: readNetToolsTimer(match[1] ?? '', match[2] ?? '') };
}

function isAscii(text: string): boolean {
  return /^[\u0000-\u007f]*$/.test(text);
}

function readOwner(text: string): Pick<LineRow, 'holders' | 'problems' | 'warnings'> {
  if (text === '' || text === '-') return { holders: [], problems: [], warnings: [] };
  const [, pid, name = ''] = /^(\d{1,10})\/(.*)$/s.exec(text) ?? [];
  if (pid === undefined) {
    const reason = `"${text.slice(0, 60)}" is neither "-" nor pid/name`;
    return { holders: [], problems: [{ error: 'bad-pid', reason }], warnings: [] };
  }
  const holder: Holder = { pid: Number(pid), name: name === '' ? null : name };
  return { holders: [holder], problems: [], warnings: text.length >= OWNER_WIDTH ? ['name-truncated'] : [] };
}
