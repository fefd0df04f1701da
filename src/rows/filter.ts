import { cidrContains, formatAddress, parseAddress, parseCidr } from '../common/address.ts';
import { escapeControls } from '../common/sanitize.ts';
import type { Cidr, Direction, Row, State, Transport } from '../model.ts';
import { UsageError } from '../common/errors.ts';

/** Whether a row matches. */
export type Filter = (row: Row) => boolean;

/** The comparison of a filter key. */
interface Criterion {
  /** Completes "must be ...". */
  readonly allowed: string;
  readonly begin: () => Alternatives;
}

/** Allowed values: a row must match one. */
interface Alternatives {
  /** Returns false for an invalid value. */
  readonly add: (text: string) => boolean;
  /** Called after the last `add`. */
  readonly filter: () => Filter;
}

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'udplite', 'raw'];
const DIRECTIONS: readonly Direction[] = ['listen', 'inbound', 'outbound', 'loopback'];
const STATES: readonly State[] = [
  'established',
  'syn_sent',
  'syn_received',
  'fin_wait_1',
  'fin_wait_2',
  'time_wait',
  'closed',
  'close_wait',
  'last_ack',
  'listen',
  'closing',
  'unconnected',
  'unknown',
];

const CRITERIA: ReadonlyMap<string, Criterion> = new Map([
  ['transport', oneOf(TRANSPORTS, (row) => row.transport)],
  ['state', oneOf(STATES, (row) => row.state)],
  ['direction', oneOf(DIRECTIONS, (row) => row.direction)],
  ['pid', number('a process id', Infinity, (row) => [row.pid, ...row.pids])],
  ['process', name('the name of a process', (row) => row.process)],
  ['port', port((row) => [row.local_port, row.remote_port])],
  ['local-port', port((row) => [row.local_port])],
  ['remote-port', port((row) => [row.remote_port])],
  ['address', equal('an IPv4 or IPv6 address', canonicalAddress, (row) => [row.local_address, row.remote_address])],
  ['cidr', criterion('a CIDR such as 10.0.0.0/8, with no bits set after the prefix', parseCidr, within)],
  ['asn', equal('an AS number such as 64500', asNumber, (row) => [row.asn, ...(row.asns ?? [])])],
  ['network', name('the name of a network', (row) => row.network)],
  ['pod', name('the name of a pod', (row) => row.pod)],
  ['namespace', name('the name of a Kubernetes namespace', (row) => row.namespace)],
  ['netns', number('the inode number of a network namespace', Infinity, (row) => [row.netns])],
]);

/**
 * Parses filters such as "state=established,time_wait" or "process!=nginx" into one filter that matches rows which match all of them.
 * Values separated by commas and values of a repeated key are alternatives. With "!=" no value may match; an unknown value never
 * matches. `pid` compares every holder, `port`, `address` and `cidr` both ends, `asn` every origin.
 * Throws UsageError for an unknown key or an invalid value.
 */
export function parseFilters(texts: readonly string[]): Filter {
  const conditions = new Map<string, { readonly isEqual: boolean; readonly alternatives: Alternatives }>();
  for (const text of texts) {
    const [, key = '', operator = '', values = ''] = /^([a-z-]+)(!?=)(.*)$/s.exec(text) ?? [];
    const criterion = CRITERIA.get(key);
    const refuse = (reason: string): UsageError =>
      new UsageError(`Cannot use filter ${escapeControls(JSON.stringify(text))}: ${reason}`);
    if (!criterion) throw refuse(`must be KEY=VALUE or KEY!=VALUE, with KEY one of ${[...CRITERIA.keys()].join(', ')}`);
    const condition = conditions.get(key + operator) ?? { isEqual: operator === '=', alternatives: criterion.begin() };
    conditions.set(key + operator, condition);
    for (const value of values.split(','))
      if (!condition.alternatives.add(value)) throw refuse(`${key} must be ${criterion.allowed}`);
  }
  const all = [...conditions.values()].map(({ isEqual, alternatives }) => ({
    isEqual,
    matches: alternatives.filter(),
  }));
  return (row) => all.every(({ isEqual, matches }) => matches(row) === isEqual);
}

/** `matches` checks a row once for all values: a request can have thousands. */
function criterion<T>(
  allowed: string,
  read: (text: string) => T | undefined,
  matches: (values: readonly T[]) => Filter,
): Criterion {
  return {
    allowed,
    begin: () => {
      const values: T[] = [];
      const add = (text: string): boolean => {
        const value = read(text);
        if (value !== undefined) values.push(value);
        return value !== undefined;
      };
      return { add, filter: () => matches(values) };
    },
  };
}

function equal<T>(
  allowed: string,
  read: (text: string) => T | undefined,
  valuesOf: (row: Row) => readonly (T | null)[],
): Criterion {
  return criterion(allowed, read, (values) => {
    const accepted = new Set<T | null>(values);
    return (row) => valuesOf(row).some((value) => accepted.has(value));
  });
}

function oneOf<T extends string>(names: readonly T[], valueOf: (row: Row) => T | null): Criterion {
  const allowed = `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`;
  return equal(
    allowed,
    (text) => names.find((candidate) => candidate === text),
    (row) => [valueOf(row)],
  );
}

function name(allowed: string, valueOf: (row: Row) => string | null): Criterion {
  return equal(
    allowed,
    (text) => (text === '' ? undefined : text),
    (row) => [valueOf(row)],
  );
}

function number(allowed: string, most: number, valuesOf: (row: Row) => readonly (number | null)[]): Criterion {
  return equal(
    allowed,
    (text) => (/^\d{1,15}$/.test(text) && Number(text) <= most ? Number(text) : undefined),
    valuesOf,
  );
}

function port(valuesOf: (row: Row) => readonly (number | null)[]): Criterion {
  return number('a port from 0 to 65535', 65_535, valuesOf);
}

function canonicalAddress(text: string): string | undefined {
  const address = parseAddress(text);
  return address && formatAddress(address);
}

function asNumber(text: string): number | undefined {
  const [, digits] = /^(?:AS)?(\d{1,10})$/i.exec(text) ?? [];
  return digits === undefined || Number(digits) >= 2 ** 32 ? undefined : Number(digits);
}

function within(cidrs: readonly Cidr[]): Filter {
  const holds = (end: string | null): boolean => {
    const address = parseAddress(end ?? '');
    return address !== undefined && cidrs.some((cidr) => cidrContains(cidr, address));
  };
  return (row) => holds(row.local_address) || holds(row.remote_address);
}
