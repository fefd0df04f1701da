import type { State, Transport } from '../model.ts';
import { isEndpoint, isUnspecified, readColonEndpoint, type TextEndpoint, type Problem } from './endpoint.ts';
import { NO_EXTRAS, malformed, type Holder, type LineResult, type LineRow } from './line.ts';
import { stateOfWord } from './states.ts';

/** The optional columns named by the header. */
export interface NetToolsColumns {
  readonly user: boolean;
  readonly timer: boolean;
}

/** Without -W, net-tools truncates an IPv6 address so that address, colon and port have this length. */
const CUT_WIDTH = 23;
/** Length at which pid and name are truncated. */
const OWNER_WIDTH = 19;
const ROW = /^(tcp|udp|udplite|udpl|raw)(6?)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)(.*)$/s;
/** Other socket types, which are not parsed. */
const OTHER = /^(unix|sctp|l2cap|l2|rfcomm|ipx|ax25|x25|netrom)\s/;
const TIMER = /\s(?:off|on|keepalive|timewait|probe|unkn-\d+)\s+\([\d.]+\/\d+\/\d+\)\s*$/;

/** Parses a header of netstat on Linux; null for any other line. */
export function netToolsColumns(text: string): NetToolsColumns | null {
  if (!/^Proto Recv-Q Send-Q \p{Lu}/u.test(text) || text.includes('(state)')) return null;
  return { user: / User +Inode/.test(text), timer: / Timer\s*$/.test(text) };
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
): Pick<LineRow, 'state' | 'uid' | 'inode' | 'holders' | 'problems' | 'warnings'> {
  let rest = (columns && !columns.timer ? text : text.replace(TIMER, '')).trim();
  const take = (pattern: RegExp): string | undefined => {
    const [found] = pattern.exec(rest) ?? [];
    if (found !== undefined) rest = rest.slice(found.length).trimStart();
    return found;
  };
  const word = /^\S+/.exec(rest)?.[0] ?? '';
  const known = stateOfWord(word, transport);
  const isOwner = word === '-' || /^\d+\//.test(word);
  let state: State | null | undefined = transport === 'tcp' ? null : hasPeer ? 'established' : 'unconnected';
  if (transport === 'raw') {
    // A number: the state, or the placeholder of busybox.
    if (!isOwner) take(/^\d+(?=\s|$)/);
  } else if (known !== undefined) {
    state = known;
    take(/^\S+/);
  } else if (word !== '' && !isOwner && !/^\d+$/.test(word) && (transport === 'tcp' || !columns?.user)) {
    state = undefined;
    take(/^\S+/);
  }
  const hasUser = columns ? columns.user : /^\S+\s+\d+(\s+(-|\d+\/)|$)/.test(rest) && !/^(-|\d+\/)/.test(rest);
  const user = hasUser ? take(/^\S+/) : undefined;
  const inode = hasUser ? Number(take(/^\d{1,15}/) ?? 0) : 0;
  const uid = /^\d+$/.test(user ?? '') && inode > 0 ? Number(user) : null;
  return { state, uid, inode: inode > 0 ? inode : null, ...readOwner(rest) };
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
