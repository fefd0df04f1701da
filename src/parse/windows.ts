import type { State, Transport } from '../model.ts';
import { isEndpoint, isUnspecified, readColonEndpoint } from './endpoint.ts';
import { NO_EXTRAS, wordsOf, malformed, type LineResult } from './line.ts';
import { stateOfWord } from './states.ts';

const ROW = /^(?:> )?\s*(TCP|UDP)(?:v6)?\s+(.*)$/s;

/** Parses a row of netstat on Windows in any language; null if it does not start like a row. */
export function readWindows(text: string): LineResult | null {
  const [, protocol, rest = ''] = ROW.exec(text) ?? [];
  if (protocol === undefined) return null;
  const transport: Transport = protocol === 'TCP' ? 'tcp' : 'udp';
  const [localWord, remoteWord, ...values] = wordsOf(rest).map((word) => word.text);
  if (localWord === undefined || remoteWord === undefined)
    return malformed('too-few-columns', 'local or foreign address is missing');
  const local = readColonEndpoint(localWord);
  const remote = readColonEndpoint(remoteWord);
  if (!isEndpoint(local)) return { kind: 'error', problem: local };
  if (!isEndpoint(remote)) return { kind: 'error', problem: remote };
  const at = values.findIndex((value) => /^\d+$/.test(value));
  const isListening = transport === 'tcp' && isUnspecified(remote);
  const pid = Number(values[at] ?? 0);
  const isPid = pid <= 0xffffffff;
  return {
    kind: 'row',
    row: {
      ...NO_EXTRAS,
      transport,
      family: local.form === 'ipv6' ? 6 : local.form === 'ipv4' ? 4 : null,
      local,
      remote,
      state: transport === 'udp' ? 'unconnected' : stateOf(values.slice(0, at < 0 ? values.length : at), isListening),
      receiveQueue: null,
      sendQueue: null,
      holders: pid > 0 && isPid ? [{ pid, name: null }] : [],
      problems: isPid ? [] : [{ error: 'bad-pid', reason: `"${String(values[at])}" is not a process ID` }],
    },
  };
}

/** The state in the words before the pid. A column such as Offload State may follow; a translated state may have several words. */
function stateOf(words: readonly string[], isListening: boolean): State | null | undefined {
  for (let count = Math.min(words.length, 3); count > 0; count--) {
    const state = stateOfWord(words.slice(0, count).join('_'), 'tcp');
    if (state !== undefined) return state;
  }
  return words.length === 0 ? null : isListening ? 'listen' : undefined;
}

/** The process name in a line of netstat -b such as " [svchost.exe]"; null for any other line. */
export function windowsOwner(text: string): string | null {
  return /^\s*\[(.+)\]\s*$/s.exec(text)?.[1] ?? null;
}
