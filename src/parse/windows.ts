import type { Transport } from '../model.ts';
import { isEndpoint, readColonEndpoint } from './endpoint.ts';
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
  const stateWords = values.slice(0, at < 0 ? values.length : at).join('_');
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
      state: transport === 'udp' ? 'unconnected' : stateWords === '' ? null : stateOfWord(stateWords, transport),
      receiveQueue: null,
      sendQueue: null,
      holders: pid > 0 && isPid ? [{ pid, name: null }] : [],
      problems: isPid ? [] : [{ error: 'bad-pid', reason: `"${String(values[at])}" is not a process ID` }],
    },
  };
}

/** The process name in a line of netstat -b such as " [svchost.exe]"; null for any other line. */
export function windowsOwner(text: string): string | null {
  return /^\s*\[(.+)\]\s*$/s.exec(text)?.[1] ?? null;
}
