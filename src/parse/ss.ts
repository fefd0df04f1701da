import type { Transport } from '../model.ts';
import { isEndpoint, readColonEndpoint, type Problem } from './endpoint.ts';
import { NO_EXTRAS, wordsOf, malformed, type Holder, type LineResult, type LineRow, type Word } from './line.ts';
import { isTcpState, stateOfWord } from './states.ts';

const TRANSPORTS: ReadonlyMap<string, Transport> = new Map([
  ['tcp', 'tcp'],
  ['udp', 'udp'],
  ['raw', 'raw'],
]);
/** Netids of other socket types, which are not parsed. */
const OTHER_NETID = /^(u_\w+|nl|p_\w+|v_\w+|ti_\w+|dccp|sctp|mptcp|icmp6?|xdp|\?\?\?|`-)$/;
const GLUED = /^(tcp|udp|raw)([A-Z][A-Z0-9-]+)$/;
const NUMBER = /^\d{1,10}$/;
/** Maximum length of a comm (TASK_COMM_LEN minus the terminating zero). */
const MAX_COMM_BYTES = 15;

/** Whether a line is a header of ss. */
export function isSsHeader(text: string): boolean {
  return /^\s*(Netid|State|Recv-Q|Local\s+Address:Port).*Peer\s+Address:\s?Port/.test(text);
}

/** What the header of ss shows of its release and of the transports. */
export interface SsHeader {
  /** Releases since 4.14 name the processes. */
  readonly isNew: boolean;
  /** Without a Netid column, all rows have the same transport. */
  readonly hasNetid: boolean;
}

export function readSsHeader(text: string): SsHeader {
  return { isNew: /Process\s*$/.test(text), hasNetid: /^\s*Netid/.test(text) };
}

/** Details of -e, -i, -m and -o, which may stand on a line of their own. */
const DETAIL =
  /(?:^|\s)(?:skmem:\(|timer:\(|users:\(\(|ino:\d|sk:[\da-f]|cgroup:[/u]|(?:wscale|rto|rtt|ato|mss|pmtu|cwnd|minrtt|rcv_space|rcv_ssthresh|segs_in|segs_out|bytes_acked|bytes_sent|bytes_received|lastsnd|lastrcv|lastack|send|backoff|unacked|retrans|snd_wnd|ssthresh|token|inet-sockopt):[\d( a-f])/;

/** Whether a line holds details of the row before it. */
export function isSsDetail(text: string): boolean {
  return DETAIL.test(text.slice(0, 1000));
}

/**
 * Parses a line of ss. Netid, State and the queues may be missing, and details of -e, -o, -m and -i may follow. Null if the line
 * does not start like a row. Format: iproute2, misc/ss.c.
 */
export function readSs(text: string): LineResult | null {
  const words = wordsOf(text, 0, 6);
  let at = 0;
  let netid: string | null = null;
  let stateWord: string | null = null;
  const first = words[0]?.text ?? '';
  const glued = GLUED.exec(first);
  if (OTHER_NETID.test(first)) return { kind: 'other' };
  if (TRANSPORTS.has(first)) netid = first;
  else if (glued) [, netid = null, stateWord = null] = glued;
  if (netid !== null) at++;
  const transport = TRANSPORTS.get(netid ?? '') ?? null;
  const next = words[at]?.text ?? '';
  if (stateWord === null && isStateWord(next)) {
    stateWord = next;
    at++;
  }
  const beginsAsNumbers = NUMBER.test(first) && NUMBER.test(words[1]?.text ?? '');
  const state = stateWord === null ? null : stateOfWord(stateWord, transport);
  if (netid === null && !beginsAsNumbers && (stateWord === null || state === undefined) && /^\s/.test(text))
    return { kind: 'continuation' };
  if (netid === null && !beginsAsNumbers && (stateWord === null || state === undefined)) return null;
  return readRow(text, words.slice(at), {
    transport: transport ?? (isTcpState(state) ? 'tcp' : null),
    state,
    hasState: stateWord !== null,
  });
}

/** Whether a word looks like a state. An address differs because it has a colon. */
function isStateWord(word: string): boolean {
  return /^[A-Z][A-Z0-9_-]+$/.test(word);
}

function readRow(
  text: string,
  words: readonly Word[],
  known: Pick<LineRow, 'transport' | 'state' | 'hasState'>,
): LineResult {
  const hasQueues = !(words[0]?.text ?? '').includes(':');
  const [received, sent] = hasQueues ? words : [];
  const [localWord, remoteWord] = words.slice(hasQueues ? 2 : 0);
  if (!localWord || !remoteWord) return malformed('too-few-columns', 'local or peer address is missing');
  if (hasQueues && !(NUMBER.test(received?.text ?? '') && NUMBER.test(sent?.text ?? '')))
    return malformed('bad-queue', `"${received?.text ?? ''}" and "${sent?.text ?? ''}" are not queue lengths`);
  const local = readColonEndpoint(localWord.text);
  const remote = readColonEndpoint(remoteWord.text);
  if (!isEndpoint(local)) return { kind: 'error', problem: local };
  if (!isEndpoint(remote)) return { kind: 'error', problem: remote };
  const family = [local, remote].some(({ form }) => form === 'ipv6') ? 6 : local.form === 'ipv4' ? 4 : null;
  return {
    kind: 'row',
    row: {
      ...NO_EXTRAS,
      ...known,
      family,
      local,
      remote,
      receiveQueue: received ? Number(received.text) : null,
      sendQueue: sent ? Number(sent.text) : null,
      ...readTail(text, remoteWord.end),
    },
  };
}

/** Parses processes, uid and inode after the endpoints. Stops at the cgroup, because its path may contain anything. */
function readTail(
  text: string,
  from: number,
): Pick<LineRow, 'holders' | 'uid' | 'inode' | 'detailText' | 'problems' | 'isOpen'> {
  let holders: readonly Holder[] = [];
  const problems: Problem[] = [];
  let uid: number | null = null;
  let inode: number | null = null;
  let before = '';
  let after = from;
  for (let at = from; ;) {
    const [word] = wordsOf(text, at, 1);
    if (!word || word.text.startsWith('cgroup:')) break;
    at = word.end;
    if (word.text.startsWith('users:(')) {
      const end = text.indexOf('))', word.start);
      if (end < 0) return { holders: [], uid, inode, problems: [UNTERMINATED_USERS], isOpen: true };
      const users = readUsers(text.slice(word.start + 'users:('.length, end + 1));
      if (users) holders = users;
      else problems.push({ error: 'bad-users', reason: 'invalid list of processes' });
      before += text.slice(after, word.start);
      at = end + 2;
      after = at;
    } else if (/^uid:\d{1,10}$/.test(word.text)) uid = Number(word.text.slice(4));
    else if (/^ino:\d{1,15}$/.test(word.text)) inode = Number(word.text.slice(4));
  }
  // With -e, the inode is always printed, and the uid unless it is 0.
  if (inode !== null) uid ??= 0;
  const detailText = before + text.slice(after);
  const isKnown = inode !== 0;
  return { holders, uid: isKnown ? uid : null, inode: isKnown ? inode : null, detailText, problems, isOpen: false };
}

const UNTERMINATED_USERS: Problem = { error: 'bad-users', reason: 'unterminated list of processes' };

/** Parses ("name",pid=1,fd=3),("name",1,3). ss ends a name at its first ")" and escapes nothing. */
function readUsers(text: string): Holder[] | null {
  if (!text.startsWith('("') || !text.endsWith(')')) return null;
  const holders: Holder[] = [];
  for (const entry of text.slice(1, -1).split('),(')) {
    const at = entry.lastIndexOf('",pid=');
    const [, pid] = /^(\d{1,10})(?=,|$)/.exec(at < 0 ? '' : entry.slice(at + '",pid='.length)) ?? [];
    const [, oldName = '', oldPid] = at < 0 ? (/^"(.*)",(\d{1,10}),\d+$/s.exec(entry) ?? []) : [];
    const digits = pid ?? oldPid;
    if (!entry.startsWith('"') || digits === undefined) return null;
    holders.push({ pid: Number(digits), name: pid === undefined ? oldName : entry.slice(1, at) });
  }
  return holders;
}

/** Whether all process names fit into a comm. If not, the two lines of a row were joined wrongly. */
export function hasCommNames({ holders }: LineRow): boolean {
  return holders.every(({ name }) => Buffer.byteLength(name ?? '') <= MAX_COMM_BYTES);
}
