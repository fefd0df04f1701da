import type { State, Transport } from '../model.ts';
import { isEndpoint, isUnspecified, readDotEndpoint } from './endpoint.ts';
import { NO_EXTRAS, malformed, wordsOf, type LineResult } from './line.ts';
import { stateOfWord } from './states.ts';

/** What the title and the header above a row say. */
export interface SolarisSection {
  /** Null for a section of other sockets, such as SCTP. */
  readonly transport: Transport | null;
  /** Null without a title, for "*". */
  readonly family: 4 | 6 | null;
  /** Titles of the columns after the addresses. */
  readonly columns: readonly string[];
}

const TITLE = /^(TCP|UDP|SCTP|ICMP|RAW)(?:: | )\s*IPv([46])\s*$/;
const STATE = /^[A-Z][A-Za-z_]+[-_]?\d?$/;

/** Parses a title such as "TCP: IPv4"; null for any other line. */
export function solarisTitle(text: string): SolarisSection | null {
  const [, name, version] = TITLE.exec(text) ?? [];
  if (name === undefined) return null;
  const transport = name === 'TCP' ? 'tcp' : name === 'UDP' ? 'udp' : null;
  return { transport, family: version === '4' ? 4 : 6, columns: [] };
}

/** The titles of the columns after the addresses; null for any other line. */
export function solarisColumns(text: string): readonly string[] | null {
  const [, columns] = /^Local Address\s+Remote Address\s+(\S.*)$/.exec(text) ?? [];
  return columns === undefined ? null : wordsOf(columns).map((word) => word.text);
}

/** The section of a TCP row without a title, which its four numbers identify; null for any other line. */
export function solarisSection(text: string): SolarisSection | null {
  const [, local = ''] =
    /^(\S{3,60})\.(?:\d+|\*)\s+\S{1,60}\.(?:\d+|\*)(?:\s+\d+){4}\s+[A-Z][A-Z_\d]+\s*$/.exec(text) ?? [];
  if (local === '') return null;
  const columns = ['Swind', 'Send-Q', 'Rwind', 'Recv-Q', 'State'];
  return { transport: 'tcp', family: local.includes(':') ? 6 : local.includes('.') ? 4 : null, columns };
}

/** Parses a line of netstat on Solaris and illumos; null if it does not start like a row. */
export function readSolaris(text: string, { transport, family, columns }: SolarisSection): LineResult | null {
  if (/^-[- ]*$/.test(text)) return { kind: 'header' };
  const words = wordsOf(text, 0, 16).map((word) => word.text);
  const [localWord = '', second = ''] = words;
  const local = readDotEndpoint(localWord);
  if (!/^[\da-f:.*]*\.(?:\d+|\*)$|^\S+\.\w+$/i.test(localWord) || !isEndpoint(local)) return null;
  if (transport === null) return { kind: 'other' };
  // A UDP socket without a peer has a blank remote address.
  const hasRemote = second.includes('.');
  const remote = hasRemote ? readDotEndpoint(second) : { ...local, ...ANY };
  if (!isEndpoint(remote)) return { kind: 'error', problem: remote };
  const values = words.slice(hasRemote ? 2 : 1);
  const at = values.findIndex((value) => STATE.test(value) && stateOfWord(value, transport) !== undefined);
  const word = values.find((value) => STATE.test(value));
  const isConnected = !isUnspecified(remote);
  let state: State | null | undefined = transport === 'tcp' ? null : isConnected ? 'established' : 'unconnected';
  if (at >= 0) state = stateOfWord(values[at] ?? '', transport);
  else if (word !== undefined && columns.at(-1) === 'State') state = undefined;
  const valueOf = (title: string): string | null => {
    const column = columns.indexOf(title);
    return column < 0 || !hasRemote ? null : (values[column] ?? null);
  };
  const queue = (title: string): number | null => {
    const value = valueOf(title);
    return value !== null && /^\d{1,10}$/.test(value) ? Number(value) : null;
  };
  const pid = queue('Pid');
  if (transport === 'tcp' && !hasRemote) return malformed('too-few-columns', 'the remote address is missing');
  return {
    kind: 'row',
    row: {
      ...NO_EXTRAS,
      transport,
      family,
      local,
      remote,
      state,
      receiveQueue: queue('Recv-Q'),
      sendQueue: queue('Send-Q'),
      holders: pid === null ? [] : [{ pid, name: valueOf('Command') }],
    },
  };
}

const ANY = {
  address: null,
  port: null,
  form: '*',
  name: null,
  service: null,
  mayBeTruncated: false,
  isBracketed: false,
} as const;
