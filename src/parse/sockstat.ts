import type { State, Transport } from '../model.ts';
import {
  isEndpoint,
  isUnspecified,
  readColonEndpoint,
  readDotEndpoint,
  type TextEndpoint,
  type Problem,
} from './endpoint.ts';
import { NO_EXTRAS, wordsOf, type Holder, type LineResult } from './line.ts';
import { stateOfWord } from './states.ts';

const PROTOCOL = /^(tcp|udp|udplite|sctp|divert|icmp|raw)(4|6|46)?$/;
const OTHER = /^(?:stream|dgram|seqpac|seqpacket|unix|netlink|route)$/;
const NUMBER = /^(?:\d{1,10}|\?)$/;

/** Whether a line is a header of sockstat on FreeBSD or NetBSD. */
export function isSockstatHeader(text: string): boolean {
  return /^USER\s+COMMAND\s+PID\s+FD\s+PROTO\s+(?:LOCAL ADDRESS|\S)/.test(text);
}

/** Parses a line of sockstat; null if it does not start like a row. A command may have blanks: columns are found by the protocol. */
export function readSockstat(text: string, isKnown: boolean): LineResult | null {
  const words = wordsOf(text, 0, 20);
  const at = words.findIndex(
    ({ text: word }, i) =>
      i >= 4 && (PROTOCOL.test(word) || OTHER.test(word)) && NUMBER.test(word1(i - 1)) && NUMBER.test(word1(i - 2)),
  );
  if (at < 0) return null;
  const [, protocol, version] = PROTOCOL.exec(word1(at)) ?? [];
  if (protocol === undefined || protocol === 'sctp' || protocol === 'divert' || protocol === 'icmp')
    return isKnown ? { kind: 'other' } : null;
  const local = readEndpoint(word1(at + 1));
  const remote = readEndpoint(word1(at + 2));
  if (!isEndpoint(local) || !isEndpoint(remote)) {
    if (!isKnown) return null;
    return { kind: 'error', problem: isEndpoint(local) ? (remote as Problem) : local };
  }
  const transport: Transport = protocol === 'tcp' || protocol === 'udp' || protocol === 'raw' ? protocol : 'udplite';
  const isIPv6 = version !== undefined ? version !== '4' : [local, remote].some(({ form }) => form === 'ipv6');
  const pid = /^\d+$/.test(word1(at - 2)) ? Number(word1(at - 2)) : null;
  const first = words[1];
  const last = words[at - 3];
  const name = pid === null || !first || !last ? null : text.slice(first.start, last.end);
  const holder: Holder = { pid, name };
  return {
    kind: 'row',
    row: {
      ...NO_EXTRAS,
      transport,
      family: isIPv6 ? 6 : 4,
      local,
      remote,
      state: stateOf(
        transport,
        remote,
        words.slice(at + 3).map((word) => word.text),
      ),
      receiveQueue: null,
      sendQueue: null,
      uid: /^\d{1,10}$/.test(word1(0)) ? Number(word1(0)) : null,
      details: { user: /^(?:\?|\d+)$/.test(word1(0)) ? null : word1(0) },
      holders: pid === null ? [] : [holder],
      warnings: (name?.length ?? 0) === COMMAND_WIDTH ? ['name-truncated'] : [],
    },
  };

  function word1(i: number): string {
    return words[i]?.text ?? '';
  }
}

/** Width of the command. */
const COMMAND_WIDTH = 10;

/** The state of -s. Without it, sockstat calls a TCP socket without a foreign address a listening socket. */
function stateOf(transport: Transport, remote: TextEndpoint, others: readonly string[]): State | null | undefined {
  const word = others.find((one) => /^[A-Z][A-Z_]+\d?$/.test(one));
  if (transport !== 'tcp') return isUnspecified(remote) ? 'unconnected' : 'established';
  if (word !== undefined) return stateOfWord(word, transport);
  return isUnspecified(remote) ? 'listen' : null;
}

/** FreeBSD separates the port with a colon, NetBSD with a dot. */
function readEndpoint(text: string): TextEndpoint | Problem {
  const end = readColonEndpoint(text);
  return isEndpoint(end) && !end.service?.includes('.') ? end : readDotEndpoint(text);
}
