import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stateOf, TABLES } from '../../src/collect/net-tcp-udp-raw.ts';
import { filterExamples, isFilter, parseFilters } from '../../src/rows/filter.ts';
import type { Row } from '../../src/model.ts';
import { UsageError } from '../../src/common/errors.ts';

const NGINX: Row = {
  transport: 'tcp',
  family: 4,
  local_address: '192.0.2.5',
  local_port: 443,
  remote_address: '198.51.100.7',
  remote_port: 51514,
  state: 'established',
  direction: 'inbound',
  direction_evidence: 'listener',
  receive_queue: 0,
  send_queue: 0,
  uid: 33,
  inode: 123456,
  netns: 4026531840,
  pid: 812,
  pids: [812, 813],
  process: 'nginx',
  owner_evidence: 'fd',
  unattributed_reason: null,
  process_state: 'S',
  umask: '0022',
  threads: 4,
  resident_memory_bytes: 8388608,
  namespace: 'shop',
  pod: 'web-0',
  container: 'nginx',
  container_id: null,
  workload: 'web',
  network: 'public',
  asn: 64500,
  asns: [64500, 64501],
  as_name: 'EXAMPLE',
  bgp_prefix: '198.51.100.0/24',
  registry: 'ripencc',
  registry_country: 'LU',
  remote_name: null,
  service: 'https',
  opened_at: null,
  sent_bytes: null,
  received_bytes: null,
  retransmitted_bytes: null,
  round_trip_seconds: null,
  min_round_trip_seconds: null,
  local_name: null,
  user: null,
  cgroup: null,
  acknowledged_bytes: null,
  retransmits: null,
  congestion_control: null,
  congestion_window: null,
  timer: null,
  timer_seconds: null,
  timer_retransmits: null,
  exe: null,
  exe_deleted: null,
  cmdline: '/usr/sbin/nginx -g *** --user=www',
  ppid: null,
  parents: null,
  process_started_at: null,
};

/** A UDP socket without a peer, with all other fields unknown. */
const UNKNOWN: Row = {
  ...NGINX,
  transport: 'udp',
  family: 6,
  local_address: '2001:db8::5',
  local_port: 53,
  remote_address: null,
  remote_port: null,
  state: 'unconnected',
  direction: 'listen',
  pid: null,
  pids: [],
  process: null,
  unattributed_reason: 'permission',
  namespace: null,
  pod: null,
  network: null,
  asn: null,
  asns: null,
};

describe('a filter', () => {
  it.each<[filters: string, meaning: string, nginx: boolean, unknown: boolean]>([
    ['', 'no filter matches all', true, true],
    ['transport=tcp', 'one value', true, false],
    ['transport=udplite,udp', 'values separated by commas are alternatives', false, true],
    ['transport=tcp transport=udp', 'values of a repeated key are alternatives', true, true],
    ['transport=tcp port=53', 'all keys must match', false, false],
    ['state=established', 'a state', true, false],
    ['direction=listen', 'a direction', false, true],
    ['pid=812', 'the owner process', true, false],
    ['pid=813', 'another process that holds the socket', true, false],
    ['process=nginx', 'a process', true, false],
    ['process=ngin', 'names match as a whole', false, false],
    ['process=NGINX', 'case does not matter', true, false],
    ['process~ngin', 'a regular expression matches a part', true, false],
    ['process~^NG', 'a regular expression ignores case', true, false],
    ['process~=^ng', '~= is ~', true, false],
    ['process~^gin', 'a regular expression with an anchor', false, false],
    ['process~curl process~nginx', 'regular expressions of a key are alternatives', true, false],
    ['process~a,b', 'a comma is part of a regular expression', false, false],
    ['process!~^ng', 'an unknown process does not match', false, true],
    ['port~^44', 'a number as text', true, false],
    ['address~^198\\.', 'an address as text', true, false],
    ['cidr~^2001:', 'either address', false, true],
    ['state=ESTAB', 'a state as ss has it', true, false],
    ['state=Established', 'a state in any case', true, false],
    ['state=TIME-WAIT,LISTEN,UNCONN', 'states as ss has them', false, true],
    ['workload=WEB', 'a workload', true, true],
    ['uid=33', 'a user id', true, true],
    ['user=33', 'a user by id', true, true],
    ['user=www-data', 'a user that is not known', false, false],
    ['service=HTTPS', 'a service', true, true],
    ['country=lu', 'a country', true, true],
    ['prefix=198.51.100.0/24', 'a prefix', true, true],
    ['container=nginx', 'a container', true, true],
    ['operator=example', 'the registered name of an operator', true, true],
    ['cmdline~-g', 'a part of the arguments', true, true],
    ['cmdline~^-g', 'the arguments as a whole', false, false],
    ['nginx', 'a bare word', true, false],
    ['NGIN', 'a part of a word in any case', true, false],
    ['web-0', 'a pod', true, false],
    ['exam', 'an operator', true, true],
    ['as64500', 'an AS number', true, false],
    ['198.51.100', 'a part of an address', true, false],
    ['2001:db8:', 'a part of an IPv6 address', false, true],
    ['443', 'a port', true, false],
    ['812', 'a pid', true, false],
    ['nginx curl', 'all bare words must match', false, false],
    ['nginx exam', 'words can match different values', true, false],
    ['text=nginx,curl', 'values of text are alternatives', true, false],
    ['text!=nginx', 'a word that is nowhere', false, true],
    ['process!=nginx', 'an unknown process is not nginx', false, true],
    ['process!=nginx,curl', 'none of several values', false, true],
    ['process!=nginx process!=curl', 'none of several values, repeated key', false, true],
    ['process=nginx process!=nginx', 'a filter and its opposite match nothing', false, false],
    ['process!=curl process!=a=b', 'a value can contain =', true, true],
    ['port=443', 'the local port', true, false],
    ['port=51514', 'the remote port', true, false],
    ['local-port=443', 'only the local port', true, false],
    ['local-port=51514', 'not the remote port', false, false],
    ['remote-port=51514', 'only the remote port', true, false],
    ['remote-port!=443', 'not the local port', true, true],
    ['address=192.0.2.5', 'the local address', true, false],
    ['address=198.51.100.7', 'the remote address', true, false],
    ['address=::ffff:198.51.100.7', 'a mapped address is the IPv4 address', true, false],
    ['address=2001:DB8:0::5', 'an address in any notation', false, true],
    ['cidr=198.51.100.0/24', 'a block that contains one end', true, false],
    ['cidr=2001:db8::/32,10.0.0.0/8', 'one of several blocks', false, true],
    ['cidr!=192.0.2.0/24', 'a block that contains neither end', false, true],
    ['asn=64500', 'the exported AS number', true, false],
    ['asn=AS64501', 'another origin of the prefix', true, false],
    ['asn=0', '0 is not announced, not unknown', false, false],
    ['network=public', 'a network', true, false],
    ['network=office', 'a network name of the configuration', false, false],
    ['namespace=shop pod=web-0', 'a pod', true, false],
    ['pod!=web-0', 'another pod or no pod', false, true],
    ['netns=4026531840', 'a network namespace', true, true],
  ])('"%s": %s', (filters, _meaning, nginx, unknown) => {
    const matches = parseFilters(filters.split(' ').filter((text) => text !== ''));
    expect([matches(NGINX), matches(UNKNOWN)]).toEqual([nginx, unknown]);
  });

  it('accepts every state of a row', () => {
    const states = TABLES.flatMap((_, table) => Array.from({ length: 13 }, (_, code) => stateOf(table, code)));
    for (const state of new Set(states)) expect(parseFilters([`state=${state}`])({ ...NGINX, state })).toBe(true);
  });

  it.each(['cidr', 'address', 'pid', 'port', 'process'])('with thousands of values of %s reads a row once', (key) => {
    const values = Array.from({ length: 2_000 }, (_, i) => {
      if (key === 'cidr') return `${(i + 1).toString(16)}::/16`;
      return key === 'address' ? `::${(i + 1).toString(16)}` : String(10_000 + i);
    });
    const matches = parseFilters([`${key}=${values.join(',')}`]);
    let reads = 0;
    const counted = new Proxy(NGINX, {
      get: (row, name) => {
        reads++;
        return row[name as keyof Row];
      },
    });
    expect(matches(counted)).toBe(false);
    expect(reads).toBeLessThanOrEqual(2);
  });

  it('matches an AS that is not announced by asn=0', () => {
    expect(parseFilters(['asn=0'])({ ...NGINX, asn: 0, asns: [] })).toBe(true);
  });
});

it.each(['(a+)+$', '(.*)*x', '(a|a)*$', '([a-z]+)*$'])(
  'the slow regular expression %s ends and does not match',
  (pattern) => {
    const matches = parseFilters([`process~^${pattern}`]);
    const row = { ...NGINX, process: `${'a'.repeat(64)}!` };
    // Without a bound, the first match would take longer than any test.
    expect(Array.from({ length: 10_000 }, () => matches(row)).filter(Boolean)).toEqual([]);
  },
);

it('every filter key has an example that is valid', () => {
  for (const [example] of filterExamples()) expect(() => parseFilters([example])).not.toThrow();
});

it.each([
  ['state=listen', true],
  ['process~ng', true],
  ['process!~ng', true],
  ['proces=x', true],
  ['ss.txt', false],
  ['notes~', false],
  ['nginx', false],
  ['-', false],
])('%s is a filter and no file: %s', (text, expected) => {
  expect(isFilter(text)).toBe(expected);
});

describe('an invalid filter is rejected with one line', () => {
  const KEYS =
    'must be a word, KEY=VALUE, KEY!=VALUE or KEY~REGEXP, with KEY one of transport, state, direction, pid, process, ' +
    'user, uid, workload, namespace, pod, container, port, local-port, remote-port, service, address, cidr, network, ' +
    'asn, operator, prefix, country, netns, exe, cmdline, text';
  it.each<[text: string, reason: string]>([
    ['proces~nginx', KEYS],
    ['process~', 'process must be a regular expression such as ^ng'],
    ['process~(', 'process must be a regular expression such as ^ng'],
    ['prefix=1.1.1', 'prefix must be an announced prefix such as 1.1.1.0/24'],
    ['text=', 'text must be a word'],
    ['proces=nginx', KEYS],
    ['constructor=x', KEYS],
    ['=tcp', KEYS],
    ['port>80', KEYS],
    ['', KEYS],
    ['transport=sctp', 'transport must be tcp, udp, udplite or raw'],
    [
      'state=ESTABLISH',
      'state must be established, syn_sent, syn_received, fin_wait_1, fin_wait_2, time_wait, closed, close_wait, last_ack, listen, closing, unconnected or unknown',
    ],
    ['direction=in', 'direction must be listen, inbound, outbound or loopback'],
    ['pid=-1', 'pid must be a process id'],
    ['process=', 'process must be the name of a process'],
    ['process=nginx,', 'process must be the name of a process'],
    ['port=65536', 'port must be a port from 0 to 65535'],
    ['local-port=http', 'local-port must be a port from 0 to 65535'],
    ['remote-port=1e3', 'remote-port must be a port from 0 to 65535'],
    ['address=192.0.2', 'address must be an IPv4 or IPv6 address'],
    ['cidr=10.1.0.0/8', 'cidr must be a CIDR such as 10.0.0.0/8, with no bits set after the prefix'],
    ['asn=4294967296', 'asn must be an AS number such as 64500'],
    ['netns=net:[4026531840]', 'netns must be the inode number of a network namespace'],
    ['port!=80,\n', 'port must be a port from 0 to 65535'],
  ])('%j', (text, reason) => {
    expect(() => parseFilters(['transport=tcp', text])).toThrow(
      new UsageError(`Cannot use filter ${JSON.stringify(text)}: ${reason}`),
    );
  });

  it('with terminal control characters escaped', () => {
    expect(() => parseFilters(['\u009b2J\u202e=1'])).toThrow('Cannot use filter "\\u009b2J\\u202e=1": must be');
  });
});

describe('for any filters and rows', () => {
  const values = {
    transport: ['tcp', 'udp'],
    state: ['established', 'unconnected'],
    pid: ['812', '813', '1'],
    process: ['nginx', 'curl'],
    port: ['53', '443', '51514'],
    cidr: ['192.0.2.0/24', '::/0', '0.0.0.0/0'],
    asn: ['0', '64501'],
  };
  const condition = fc
    .constantFrom(...Object.entries(values))
    .chain(([key, all]) => fc.tuple(fc.constant(key), fc.subarray(all, { minLength: 1 })));
  const row = fc.constantFrom(NGINX, UNKNOWN);

  it('"!=" is the opposite of "="', () => {
    fc.assert(
      fc.property(condition, row, ([key, alternatives], row) => {
        const list = alternatives.join(',');
        return parseFilters([`${key}=${list}`])(row) !== parseFilters([`${key}!=${list}`])(row);
      }),
    );
  });

  it('the order of filters does not matter, and commas equal repeated keys', () => {
    const conditions = fc.uniqueArray(condition, { selector: ([key]) => key });
    fc.assert(
      fc.property(conditions, row, (conditions, row) => {
        const short = conditions.map(([key, alternatives]) => `${key}=${alternatives.join(',')}`);
        const long = conditions.flatMap(([key, alternatives]) => alternatives.map((value) => `${key}=${value}`));
        return parseFilters(short)(row) === parseFilters(long.toReversed())(row);
      }),
    );
  });
});
