import { cidrContains, formatAddress, formatCidr, parseAddress, parseCidr } from '../common/address.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { escapeControls } from '../common/sanitize.ts';
import type { Cidr, Direction, Row, State, Transport } from '../model.ts';
import { UsageError } from '../common/errors.ts';
import { operatorName } from '../common/operator-name.ts';
import { RegexpBudget } from '../common/regexp-budget.ts';

/** Whether a row matches. */
export type Filter = (row: Row) => boolean;

/** A value of a row that a filter compares; null is unknown and never matches. */
type Value = string | number | null;

/** A filter key, and how its values are read and compared. */
interface Criterion {
  /** Completes "must be ...". */
  readonly allowed: string;
  readonly example: string;
  readonly begin: () => Alternatives;
  /** The values that a regular expression is matched against. */
  readonly valuesOf: (row: Row) => readonly Value[];
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

/** The names of states that ss and netstat use, without separators. */
const STATE_ALIASES: Readonly<Record<string, State>> = {
  estab: 'established',
  synrecv: 'syn_received',
  synrcvd: 'syn_received',
  listening: 'listen',
  close: 'closed',
  unconn: 'unconnected',
};

const CRITERIA: ReadonlyMap<string, Criterion> = new Map([
  ['transport', oneOf('transport=udp', TRANSPORTS, (row) => row.transport)],
  ['state', oneOf('state=ESTAB,time_wait', STATES, (row) => row.state, stateOf)],
  ['direction', oneOf('direction=inbound', DIRECTIONS, (row) => row.direction)],
  ['pid', number('pid=812', 'a process id', Infinity, (row) => [row.pid, ...row.pids])],
  ['process', name('process=nginx', 'the name of a process', (row) => [row.process])],
  ['user', name('user=www-data', 'a user name or id', (row) => [row.user, row.uid === null ? null : String(row.uid)])],
  ['uid', number('uid=33', 'a user id', Infinity, (row) => [row.uid])],
  ['workload', name('workload=nginx.service', 'the name of a workload', (row) => [row.workload])],
  ['namespace', name('namespace=shop', 'the name of a Kubernetes namespace', (row) => [row.namespace])],
  ['pod', name('pod=web-0', 'the name of a pod', (row) => [row.pod])],
  ['container', name('container=redis', 'the name or id of a container', containerNames)],
  ['port', port('port=443', (row) => [row.local_port, row.remote_port])],
  ['local-port', port('local-port=22', (row) => [row.local_port])],
  ['remote-port', port('remote-port=443,853', (row) => [row.remote_port])],
  ['service', name('service=https', 'the name of a service', (row) => [row.service])],
  [
    'address',
    equal('address=192.0.2.5', 'an IPv4 or IPv6 address', canonicalAddress, (row) => [
      row.local_address,
      row.remote_address,
    ]),
  ],
  [
    'cidr',
    {
      ...criterion('a CIDR such as 10.0.0.0/8, with no bits set after the prefix', parseCidr, within),
      example: 'cidr=10.0.0.0/8',
      valuesOf: (row) => [row.local_address, row.remote_address],
    },
  ],
  ['network', name('network=public', 'the name of a network', (row) => [row.network])],
  ['asn', equal('asn=AS13335', 'an AS number such as 64500', asNumber, (row) => [row.asn, ...(row.asns ?? [])])],
  ['operator', name('operator=cloudflare', 'the name of a network operator', operatorNames)],
  ['prefix', equal('prefix=1.1.1.0/24', 'an announced prefix such as 1.1.1.0/24', prefix, (row) => [row.bgp_prefix])],
  ['country', name('country=us', 'a country code', (row) => [row.registry_country])],
  ['netns', number('netns=4026531840', 'the inode number of a network namespace', Infinity, (row) => [row.netns])],
  ['exe', name('exe=/usr/sbin/nginx', 'the path of a program', (row) => [row.exe])],
  ['cmdline', name('cmdline~--config', 'the arguments of a process', (row) => [row.cmdline])],
  ['text', { ...criterion('a word', nonEmpty, holdsWord), example: 'text=cloudflare', valuesOf: wordsOf }],
]);

/** The milliseconds that the slow regular expressions of a filter may take each time, and the time after which they may again. */
const SLOW_MS = 200;
const SLOW_EVERY_MS = 10_000;

/** A filter as typed: key, comparison, value. */
const SHAPE = /^([a-z-]+)(!?(?:~=|=|~))(.*)$/s;
/** Characters that a bare word cannot contain: it is probably a mistyped filter. */
const NOT_BARE = /[=~<>!]/;

/** Each key with an example, for the help. */
export function filterExamples(): readonly (readonly [example: string, meaning: string])[] {
  return [...CRITERIA].map(([key, { example, allowed }]) => [example, key === 'text' ? BARE_WORD : allowed]);
}

const BARE_WORD = 'a word in the process, pod, workload, operator or address, or a port or pid; also as a bare word';

/** Whether filters need the details of a process, which are read on demand. */
export function needsDetails(texts: readonly string[]): boolean {
  return texts.some((text) => /^(?:exe|cmdline)!?[=~]/.test(text));
}

/** Whether a command-line argument is a filter, rather than a file. */
export function isFilter(text: string): boolean {
  const [, key = '', operator = ''] = SHAPE.exec(text) ?? [];
  return operator.endsWith('=') || (CRITERIA.has(key) && operator !== '');
}

/**
 * Parses filters such as "state=established,time_wait", "process!=nginx" or "process~^ng" into one filter that matches rows which match
 * all of them. Values separated by commas and values of a repeated key are alternatives. With "!=" and "!~" no value may match; an
 * unknown value never matches. "~" is a regular expression for a part of the value. A bare word is "text=". Case does not matter.
 * `pid` compares every holder, `port`, `address` and `cidr` both ends, `asn` every origin.
 * Throws UsageError for an unknown key or an invalid value.
 */
export function parseFilters(texts: readonly string[]): Filter {
  const conditions = new Map<string, { readonly isEqual: boolean; readonly alternatives: Alternatives }>();
  const regexps = new RegexpFilters();
  for (const text of texts) {
    const isBare = text !== '' && !NOT_BARE.test(text);
    const [, key = '', operator = '', values = ''] = isBare ? ['', 'text', '=', text] : (SHAPE.exec(text) ?? []);
    const criterion = CRITERIA.get(key);
    const refuse = (reason: string): UsageError =>
      new UsageError(`Cannot use filter ${escapeControls(JSON.stringify(text))}: ${reason}`);
    if (!criterion)
      throw refuse(
        `must be a word, KEY=VALUE, KEY!=VALUE or KEY~REGEXP, with KEY one of ${[...CRITERIA.keys()].join(', ')}`,
      );
    const isRegexp = operator.includes('~');
    // All bare words must match.
    const id = isBare ? `word ${text}` : key + operator.replace('~=', '~');
    const begin = isRegexp ? (): Alternatives => regexps.begin(criterion.valuesOf) : criterion.begin;
    const condition = conditions.get(id) ?? { isEqual: !operator.startsWith('!'), alternatives: begin() };
    conditions.set(id, condition);
    for (const value of isRegexp || isBare ? [values] : values.split(','))
      if (!condition.alternatives.add(value))
        throw refuse(`${key} must be ${isRegexp ? 'a regular expression such as ^ng' : criterion.allowed}`);
  }
  const all = [...conditions.values()].map(({ isEqual, alternatives }) => ({
    isEqual,
    matches: alternatives.filter(),
  }));
  return (row) => all.every(({ isEqual, matches }) => matches(row) === isEqual);
}

/** Regular expressions of filters: a slow one does not match, because a process may choose the texts. */
class RegexpFilters {
  readonly #budget = new RegexpBudget(() => SYSTEM_CLOCK.monotonic(), SLOW_MS);
  #begunAt = -Infinity;

  begin(valuesOf: Criterion['valuesOf']): Alternatives {
    const patterns: RegExp[] = [];
    const add = (text: string): boolean => {
      try {
        patterns.push(new RegExp(text, 'i'));
        return text !== '';
      } catch {
        return false;
      }
    };
    return { add, filter: () => (row) => this.#matches(patterns, valuesOf(row)) };
  }

  #matches(patterns: readonly RegExp[], values: readonly Value[]): boolean {
    const now = SYSTEM_CLOCK.monotonic();
    if (now - this.#begunAt > SLOW_EVERY_MS) {
      this.#begunAt = now;
      this.#budget.begin();
    }
    return values.some(
      (value) => value !== null && patterns.some((pattern) => this.#budget.match(pattern, String(value)) !== null),
    );
  }
}

/** `matches` checks a row once for all values: a request can have thousands. */
function criterion<T>(
  allowed: string,
  read: (text: string) => T | undefined,
  matches: (values: readonly T[]) => Filter,
): Pick<Criterion, 'allowed' | 'begin'> {
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

function equal<T extends string | number>(
  example: string,
  allowed: string,
  read: (text: string) => T | undefined,
  valuesOf: (row: Row) => readonly (T | null)[],
  folded: (value: T | null) => T | null = (value) => value,
): Criterion {
  const compare = criterion(allowed, read, (values: readonly T[]) => {
    const accepted = new Set<T | null>(values);
    return (row) => valuesOf(row).some((value) => accepted.has(folded(value)));
  });
  return { ...compare, example, valuesOf };
}

function oneOf<T extends string>(
  example: string,
  names: readonly T[],
  valueOf: (row: Row) => T | null,
  read = (text: string): T | undefined => names.find((candidate) => candidate === text.toLowerCase()),
): Criterion {
  const allowed = `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`;
  return equal(example, allowed, read, (row) => [valueOf(row)]);
}

function name(example: string, allowed: string, valuesOf: (row: Row) => readonly (string | null)[]): Criterion {
  return equal(example, allowed, nonEmpty, valuesOf, (value) => value?.toLowerCase() ?? null);
}

function number(
  example: string,
  allowed: string,
  most: number,
  valuesOf: (row: Row) => readonly (number | null)[],
): Criterion {
  const read = (text: string): number | undefined =>
    /^\d{1,15}$/.test(text) && Number(text) <= most ? Number(text) : undefined;
  return equal(example, allowed, read, valuesOf);
}

function port(example: string, valuesOf: (row: Row) => readonly (number | null)[]): Criterion {
  return number(example, 'a port from 0 to 65535', 65_535, valuesOf);
}

function nonEmpty(text: string): string | undefined {
  return text === '' ? undefined : text.toLowerCase();
}

/** Reads "time_wait", "TIME-WAIT", "TimeWait" and the short names of ss. */
function stateOf(text: string): State | undefined {
  const plain = (name: string): string => name.toLowerCase().replaceAll(/[-_ ]/g, '');
  const wanted = plain(text);
  return (
    STATES.find((state) => plain(state) === wanted) ??
    (Object.hasOwn(STATE_ALIASES, wanted) ? STATE_ALIASES[wanted] : undefined)
  );
}

function canonicalAddress(text: string): string | undefined {
  const address = parseAddress(text);
  return address && formatAddress(address);
}

function prefix(text: string): string | undefined {
  const cidr = parseCidr(text);
  return cidr && formatCidr(cidr);
}

function asNumber(text: string): number | undefined {
  const [, digits] = /^(?:AS)?(\d{1,10})$/i.exec(text) ?? [];
  return digits === undefined || Number(digits) >= 2 ** 32 ? undefined : Number(digits);
}

function containerNames({ container, container_id: id }: Row): (string | null)[] {
  return [container, id, id?.slice(0, 12) ?? null];
}

/** The registered name and the common one. */
function operatorNames({ asn, as_name: registered, network }: Row): (string | null)[] {
  return [registered, asn === null || network !== 'public' ? null : operatorName(asn, registered)];
}

/** What a bare word is searched in. */
function wordsOf(row: Row): (string | null)[] {
  const asn = row.asn === null ? null : `AS${row.asn}`;
  return [
    ...[row.process, row.pod, row.workload, asn, ...operatorNames(row)],
    ...[row.remote_name, row.local_address, row.remote_address],
  ];
}

function holdsWord(words: readonly string[]): Filter {
  const numbers = new Set<number | null>(words.filter((word) => /^\d{1,15}$/.test(word)).map(Number));
  return (row) => {
    if (numbers.has(row.local_port) || numbers.has(row.remote_port) || numbers.has(row.pid)) return true;
    const texts = wordsOf(row).map((text) => text?.toLowerCase());
    return words.some((word) => texts.some((text) => text?.includes(word)));
  };
}

function within(cidrs: readonly Cidr[]): Filter {
  const holds = (end: string | null): boolean => {
    const address = parseAddress(end ?? '');
    return address !== undefined && cidrs.some((cidr) => cidrContains(cidr, address));
  };
  return (row) => holds(row.local_address) || holds(row.remote_address);
}
