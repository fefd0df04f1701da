import { spawnSync } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { formatCidr, ipv4, maskAddress } from '../../src/common/address.ts';
import { EMPTY_RULES, parseRules, readRules } from '../../src/config/rules.ts';
import { UsageError } from '../../src/common/errors.ts';

const PATH = 'peerscope.yaml';
const CIDR = 'must be a CIDR such as 10.0.0.0/8, with no bits set after the prefix';
const NAME = 'must be a name of 1 to 128 characters without control characters, and not "other"';

const EXPECTED = 'must be values such as AS64500, tcp/5432, shop/ledger, process/nc or listen/udp/ephemeral';

const problemsOf = (text: string): string[] => {
  try {
    parseRules(text, PATH);
    return [];
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message.split('\n').map((line) => line.replace('Cannot read configuration "peerscope.yaml": ', ''));
  }
};

it('reads every kind of rule', () => {
  const text = `
processes:            # first match names the process
  - name: "app-{{ .script }}"
    exe: "^python3"
    cmdline: "(?<script>[a-z]+)\\\\.py"
  - { name: "{{.comm}} of {{ .exe_base }}", comm: ^kworker }
workloads:            # first match names the workload
  - name: "{{ .app }}"
    labels: { "example.com/app": "^(?<app>.+)$" }
    annotations: { team: ^core$ }
  - { name: batch, cgroup: ^/batch/ }
  - { name: ssh, unit: ^sshd? }
endpoint_groups:
  - { name: postgres, cidrs: [10.0.0.0/8, "2001:db8::/32"], ports: [5432], transport: tcp }
  - name: the rest
networks:
  - { name: office, cidrs: [203.0.113.0/24] }
  - { name: lab, cidrs: [192.0.2.7], asn: 64500 }
asn: { never_send: [198.51.100.0/24] }
expected:
  - { workload: shop/web, what: "AS14618, tcp/5432", until: 2027-01-31, why: migration to S3 }
  - { workload: nginx.service, what: process/nc }
suspects: [asndrop.json]
`;
  expect(parseRules(text, PATH)).toEqual({
    processes: [
      { name: 'app-{{ .script }}', exe: /^python3/u, cmdline: /(?<script>[a-z]+)\.py/u },
      { name: '{{.comm}} of {{ .exe_base }}', comm: /^kworker/u },
    ],
    workloads: [
      { name: '{{ .app }}', labels: { 'example.com/app': /^(?<app>.+)$/u }, annotations: { team: /^core$/u } },
      { name: 'batch', cgroup: /^\/batch\//u },
      { name: 'ssh', unit: /^sshd?/u },
    ],
    endpointGroups: [
      {
        name: 'postgres',
        cidrs: [
          { address: ipv4(0x0a000000), bits: 104 },
          { address: [0x20010db8, 0, 0, 0], bits: 32 },
        ],
        ports: [5432],
        transport: 'tcp',
      },
      { name: 'the rest' },
    ],
    networks: [
      { name: 'office', cidrs: [{ address: ipv4(0xcb007100), bits: 120 }] },
      { name: 'lab', cidrs: [{ address: ipv4(0xc0000207), bits: 128 }], asn: 64_500 },
    ],
    asnNeverSend: [{ address: ipv4(0xc6336400), bits: 120 }],
    expected: [
      {
        namespace: 'shop',
        workload: 'web',
        what: ['AS16509', 'tcp/5432'],
        until: Date.parse('2027-02-01T00:00:00Z'),
        why: 'migration to S3',
      },
      { namespace: '', workload: 'nginx.service', what: ['process/nc'], until: null, why: '' },
    ],
    suspects: [{ file: 'asndrop.json', operators: [] }],
  });
});

describe('has no rules', () => {
  it.each([
    ['in an empty file', ''],
    ['in a file of comments', '# processes:\n'],
    ['in sections without content', 'processes:\nendpoint_groups: []\nnetworks: ~\nasn: {}\n'],
    ['after a byte order mark', '\ufeffasn:\n'],
  ])('%s', (_situation, text) => {
    expect(parseRules(text, PATH)).toEqual(EMPTY_RULES);
  });
});

it('accepts a network named like an Object.prototype property', () => {
  expect(problemsOf('networks: [{ name: constructor, cidrs: [10.0.0.0/8] }]')).toEqual([]);
});

it('is frozen', () => {
  const { networks } = parseRules('networks: [{ name: a, cidrs: [10.0.0.0/8] }]', PATH);
  expect([networks, networks[0], networks[0]?.cidrs].every(Object.isFrozen)).toBe(true);
});

it('names the file, the key, the value and what is allowed', () => {
  expect(() => parseRules('networks: [{ name: a, cidrs: [10.0.0.0/8, 10.0.0.0/33] }]', 'a "b".yaml')).toThrow(
    new UsageError(`Cannot read configuration "a \\"b\\".yaml": networks[0].cidrs[1] "10.0.0.0/33": ${CIDR}`),
  );
});

describe('rejects', () => {
  it.each<[situation: string, text: string, ...problems: string[]]>([
    [
      'an unknown section',
      'network: []',
      'network: unknown key, must be one of processes, workloads, endpoint_groups, networks, asn, expected, suspects',
    ],
    [
      'an unknown key of a rule',
      'networks: [{ name: a, cidr: [10.0.0.0/8], cidrs: [10.0.0.0/8] }]',
      'networks[0].cidr: unknown key, must be one of name, cidrs, asn',
    ],
    ['an unknown key of asn', 'asn: { never-send: [] }', 'asn."never-send": unknown key, must be one of never_send'],
    [
      'keys of every object',
      '__proto__: { a: 1 }\nconstructor: 1\ntoString: 2',
      ...['__proto__', 'constructor', 'toString'].map(
        (key) =>
          `${key}: unknown key, must be one of processes, workloads, endpoint_groups, networks, asn, expected, suspects`,
      ),
    ],
    [
      'a list as the file',
      '- name: a',
      'must be a mapping with the keys processes, workloads, endpoint_groups, networks, asn, expected, suspects',
    ],
    [
      'words as the file',
      'hello',
      '"hello": must be a mapping with the keys processes, workloads, endpoint_groups, networks, asn, expected, suspects',
    ],
    ['one rule without its list', 'networks: { name: a }', 'networks: must be a list of networks'],
    [
      'a rule without content',
      'processes: [~]',
      'processes[0] null: must be a mapping with the keys name, exe, comm, cmdline',
    ],
    [
      'a CIDR with bits after its prefix',
      'asn: { never_send: [10.1.2.3/8] }',
      `asn.never_send[0] "10.1.2.3/8": ${CIDR}`,
    ],
    ['a number as a CIDR', 'asn: { never_send: [10] }', `asn.never_send[0] 10: ${CIDR}`],
    ['a list of no CIDRs', 'networks: [{ name: a, cidrs: [] }]', 'networks[0].cidrs: must contain at least one CIDR'],
    ['a network without CIDRs', 'networks: [{ name: a }]', 'networks[0].cidrs: must be a list of CIDRs'],
    [
      'bad ports',
      'endpoint_groups: [{ name: a, ports: [0, 65536, 1.5, "80"] }]',
      'endpoint_groups[0].ports[0] 0: must be a whole number from 1 to 65535',
      'endpoint_groups[0].ports[1] 65536: must be a whole number from 1 to 65535',
      'endpoint_groups[0].ports[2] 1.5: must be a whole number from 1 to 65535',
      'endpoint_groups[0].ports[3] "80": must be a whole number from 1 to 65535',
    ],
    [
      'a list of no ports',
      'endpoint_groups: [{ name: a, ports: [] }]',
      'endpoint_groups[0].ports: must contain at least one port',
    ],
    [
      'an unknown transport',
      'endpoint_groups: [{ name: a, transport: TCP }]',
      'endpoint_groups[0].transport "TCP": must be one of tcp, udp, udplite, raw',
    ],
    [
      'ASNs that are reserved or written with letters',
      'networks: [{ name: a, cidrs: [10.0.0.0/8], asn: 0 }, { name: b, cidrs: [10.0.0.0/8], asn: AS64500 }]',
      'networks[0].asn 0: must be a whole number from 1 to 4294967294',
      'networks[1].asn "AS64500": must be a whole number from 1 to 4294967294',
    ],
    [
      'two networks of one name',
      'networks: [{ name: a, cidrs: [10.0.0.0/8] }, { name: a, cidrs: [192.168.0.0/16] }]',
      'networks[1].name "a": must be unique',
    ],
    [
      'a network called like a built-in one',
      'networks: [{ name: public, cidrs: [10.0.0.0/8] }]',
      'networks[0].name "public": must not be the name of a built-in network (public, private, shared, loopback, self, ' +
        'link_local, cloud_metadata, multicast, documentation, benchmarking, reserved, unspecified)',
    ],
    [
      'names that stand for what was folded',
      'networks: [{ name: other, cidrs: [10.0.0.0/8] }]\nendpoint_groups: [{ name: _other }]',
      `endpoint_groups[0].name "_other": ${NAME}`,
      `networks[0].name "other": ${NAME}`,
    ],
    ['a blank name', 'processes: [{ name: " " }]', `processes[0].name " ": ${NAME}`],
    [
      'a name with a control character',
      'processes: [{ name: "a\\e[31m" }]',
      `processes[0].name "a\\u001b[31m": ${NAME}`,
    ],
    ['a missing name', 'processes: [{ comm: a }]', `processes[0].name: ${NAME}`],
    [
      'a name that is too long',
      `processes: [{ name: ${'a'.repeat(129)} }]`,
      `processes[0].name "${'a'.repeat(99)}…: ${NAME}`,
    ],
    [
      'a broken pattern',
      'processes: [{ name: a, exe: "(", comm: "a: [" }]',
      'processes[0].exe "(": must be an ECMAScript regular expression (Unterminated group)',
      'processes[0].comm "a: [": must be an ECMAScript regular expression (Unterminated character class)',
    ],
    [
      'an escape that means nothing',
      "processes: [{ name: a, exe: '^/opt/my\\-app' }]",
      'processes[0].exe "^/opt/my\\\\-app": must be an ECMAScript regular expression (Invalid escape)',
    ],
    [
      'a pattern that is too long',
      `processes: [{ name: a, exe: ${'a'.repeat(1001)} }]`,
      `processes[0].exe "${'a'.repeat(99)}…: must be at most 1000 characters long`,
    ],
    [
      'a template of a group that no pattern has',
      'processes: [{ name: "app-{{ .scirpt }}", comm: "^py", cmdline: "(?<script>.*)" }]',
      'processes[0].name "app-{{ .scirpt }}": must contain no {{ }} except {{ .exe_base }}, {{ .comm }}, {{ .script }}',
    ],
    [
      'a template without its dot',
      'processes: [{ name: "{{ comm }}" }]',
      'processes[0].name "{{ comm }}": must contain no {{ }} except {{ .exe_base }}, {{ .comm }}',
    ],
    [
      'YAML that is none',
      'networks:\n  - [',
      'line 2, column 6: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    ['a key given twice', 'networks: []\nnetworks: []', 'line 2, column 1: Map keys must be unique'],
    ['a second document', '---\nasn: {}\n---\nasn: {}', 'line 3, column 1: must be a single document'],
    [
      'a list as a key',
      '? [asn]\n: {}',
      '"[ asn ]": unknown key, must be one of processes, workloads, endpoint_groups, networks, asn, expected, suspects',
    ],
    ['a tag', 'asn: !secret {}', 'line 1, column 6: Unresolved tag: !secret'],
    ['an alias without anchor', 'asn: *a', 'Unresolved alias (the anchor must be set before the alias): a'],
  ])('%s', (_situation, text, ...problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });

  it('aliases that expand exponentially', () => {
    const levels = Array.from(
      'bcdefghij',
      (name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(', ')}]`,
    );
    expect(problemsOf(['a: &a [x]', ...levels].join('\n'))).toEqual([
      'Excessive alias count indicates a resource exhaustion attack',
    ]);
  });

  it('more than 100 aliases', () => {
    const list = (count: number): string => `x: &x a\ny: [${Array(count).fill('*x').join(', ')}]`;
    expect(problemsOf(list(101))).toEqual(['line 2, column 405: must have at most 100 aliases']);
    expect(problemsOf(list(100))).toEqual([expect.stringContaining('x: unknown key'), expect.anything()]);
  });

  // Each step was compared with all others: these took minutes.
  it.each([
    ['keys', Array.from({ length: 40_000 }, (_, i) => `k${i}: 1`).join('\n'), 'k0: unknown key'],
    ['keys in braces', `{${Array.from({ length: 40_000 }, (_, i) => `k${i}: 1`).join(', ')}}`, 'k0: unknown key'],
    [
      'anchors and aliases',
      `- [${Array.from({ length: 20_000 }, (_, i) => `&a${i} x`).join(', ')}]\n- [${Array.from({ length: 20_000 }, (_, i) => `*a${i}`).join(', ')}]`,
      'must have at most 100 aliases',
    ],
  ])('many %s in a short time', (_situation, text, problem) => {
    expect(problemsOf(text)[0]).toContain(problem);
  });

  it('more than 20 lists of suspects', () => {
    expect(problemsOf(`suspects: [${Array(21).fill('a').join(', ')}]`)).toEqual([
      'suspects: must contain at most 20 files',
    ]);
  });

  it('deeply nested lists', () => {
    expect(problemsOf('- '.repeat(10_000))).toEqual([
      expect.stringMatching(/^line 1, column \d+: must not be nested too deeply$/),
    ]);
  });

  it('a recursive alias', () => {
    expect(problemsOf('networks: &a [{ name: a, cidrs: *a }]')).toEqual([`networks[0].cidrs[0]: ${CIDR}`]);
  });

  it('a text of more than 1 MiB', () => {
    const bytes = 1024 * 1024;
    expect(problemsOf('#'.repeat(bytes))).toEqual([]);
    expect(problemsOf('#'.repeat(bytes + 1))).toEqual(['must be at most 1048576 bytes long']);
    expect(problemsOf('é'.repeat(bytes / 2 + 1))).toEqual(['must be at most 1048576 bytes long']);
  });

  it('many problems with a limited number of lines', () => {
    const problems = problemsOf(`asn: { never_send: [${Array(50).fill('x').join(', ')}] }`);
    expect(problems).toHaveLength(21);
    expect(problems.at(-1)).toBe('30 more problems are not shown');
  });
});

it('round-trips rules', () => {
  const name = fc.constantFrom('office', 'a b', 'é "x"', "it's: # no", 'null', 'yes', '1.0', '[', '- a', '0x1');
  const cidr = fc.tuple(fc.nat(0xffffffff), fc.nat(32)).map(([bits, length]) => ({
    address: maskAddress(ipv4(bits), length + 96),
    bits: length + 96,
  }));
  const few = { maxLength: 3 };
  const cidrs = fc.array(cidr, { minLength: 1, maxLength: 3 });
  const pattern = fc
    .constantFrom('^a$', '(?<x>b)', '\\p{L}+', '"#: [{}]', "'")
    .map((source) => new RegExp(source, 'u'));
  const rules = fc.record({
    processes: fc.array(
      fc.record({ name, exe: pattern, comm: pattern, cmdline: pattern }, { requiredKeys: ['name'] }),
      few,
    ),
    workloads: fc.array(
      fc.record(
        { name, labels: fc.record({ app: pattern, 'a.b/c': pattern }), cgroup: pattern, unit: pattern },
        { requiredKeys: ['name', 'unit'] },
      ),
      few,
    ),
    endpointGroups: fc.array(
      fc.record(
        {
          name,
          cidrs,
          ports: fc.array(fc.integer({ min: 1, max: 65_535 }), { minLength: 1, maxLength: 3 }),
          transport: fc.constantFrom('tcp', 'udp', 'udplite', 'raw'),
        },
        { requiredKeys: ['name'] },
      ),
      few,
    ),
    networks: fc.uniqueArray(
      fc.record({ name, cidrs, asn: fc.integer({ min: 1, max: 4_294_967_294 }) }, { requiredKeys: ['name', 'cidrs'] }),
      { ...few, selector: (network) => network.name },
    ),
    asnNeverSend: fc.array(cidr, few),
    expected: fc.constant([]),
    suspects: fc.constant([]),
  });
  fc.assert(
    fc.property(rules, (expected) => {
      const written = <T extends { cidrs?: typeof expected.asnNeverSend }>({ cidrs: blocks, ...rest }: T) =>
        blocks ? { ...rest, cidrs: blocks.map(formatCidr) } : rest;
      const text = stringify({
        processes: expected.processes.map((rule) =>
          Object.fromEntries(
            Object.entries(rule).map(([key, value]) => [key, value instanceof RegExp ? value.source : value]),
          ),
        ),
        workloads: expected.workloads.map(({ labels, ...rule }) => ({
          ...Object.fromEntries(
            Object.entries(rule).map(([key, value]) => [key, value instanceof RegExp ? value.source : value]),
          ),
          ...(labels && {
            labels: Object.fromEntries(Object.entries(labels).map(([key, { source }]) => [key, source])),
          }),
        })),
        endpoint_groups: expected.endpointGroups.map(written),
        networks: expected.networks.map(written),
        asn: { never_send: expected.asnNeverSend.map(formatCidr) },
      });
      expect(parseRules(text, PATH)).toEqual(expected);
    }),
  );
});

it.each<[given: string, ...problems: string[]]>([
  ['{ what: AS64500 }', 'expected[0].workload: must be a workload such as shop/web or nginx.service'],
  ['{ workload: web }', `expected[0].what: ${EXPECTED}`],
  ['{ workload: shop/*, what: AS64500 }', 'expected[0].workload "shop/*": must contain no wildcards'],
  [
    '{ workload: shop/, what: AS1 }',
    'expected[0].workload "shop/": must be a workload such as shop/web or nginx.service',
  ],
  ['{ workload: web, what: "" }', `expected[0].what "": ${EXPECTED}`],
  ['{ workload: web, what: [AS1] }', `expected[0].what: ${EXPECTED}`],
  [
    '{ workload: web, what: metadata }',
    'expected[0].what "metadata": calls to the metadata service are always reported',
  ],
  [
    '{ workload: web, what: "AS1, shop/*, AS0, AS2" }',
    'expected[0].what "AS1, shop/*, AS0, AS2": wildcards are not allowed',
    'expected[0].what "AS1, shop/*, AS0, AS2": not an AS number',
  ],
  ...['2027-02-30', '2027-13-01', '31.1.2027', '2027-01-31T25:00Z', 'never', '2027-01-31T10:00'].map(
    (until): [string, string] => [
      `{ workload: web, what: AS1, until: "${until}" }`,
      `expected[0].until "${until}": must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z`,
    ],
  ),
  [
    '{ workload: web, what: AS1, why: "" }',
    'expected[0].why "": must be a text of 1 to 300 characters without control characters',
  ],
  [
    '{ workload: web, what: AS1, because: x }',
    'expected[0].because: unknown key, must be one of workload, what, until, why',
  ],
])('rejects expected: [%s]', (rule, ...problems) => {
  expect(problemsOf(`expected: [${rule}]`)).toEqual(problems);
});

it.each([
  ['2027-01-31', '2027-02-01T00:00:00Z'],
  ['2028-02-29', '2028-03-01T00:00:00Z'],
  ['2027-01-31T18:00:00Z', '2027-01-31T18:00:00Z'],
  ['2027-01-31T18:00+02:00', '2027-01-31T16:00:00Z'],
])('reads until: %s as %s', (until, time) => {
  const [rule] = parseRules(`expected: [{ workload: web, what: AS1, until: ${until} }]`, PATH).expected;
  expect(rule?.until).toBe(Date.parse(time));
});

describe('a list of suspects', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-suspects-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const config = join(folder, 'peerscope.yaml');
  spawnSync('mkfifo', [join(folder, 'pipe')]);
  const read = (list: string | Uint8Array, text = 'suspects: [list.txt]'): unknown => {
    writeFileSync(join(folder, 'list.txt'), list);
    writeFileSync(config, text);
    return readRules(config).suspects;
  };

  it('is read from beside the configuration, and again at each reload', () => {
    expect(read('AS64500 # a host\n64501\n')).toEqual([{ file: 'list.txt', operators: ['AS64500', 'AS64501'] }]);
    expect(read('{"asn":64502,"asname":"X"}\n')).toEqual([{ file: 'list.txt', operators: ['AS64502'] }]);
  });

  it.each<[situation: string, list: string | Uint8Array, text: string, reason: string]>([
    ['is absent', '', 'suspects: [none.txt]', 'suspects[0] "none.txt": no such file or directory'],
    ['is a folder', '', 'suspects: [.]', 'suspects[0] ".": is a directory'],
    ['is a pipe', '', 'suspects: [pipe]', 'suspects[0] "pipe": is not a regular file'],
    [
      'has a wrong line',
      'AS1\nexample\n',
      'suspects: [list.txt]',
      'suspects[0] "list.txt": Cannot read suspect operator "example" in line 2: not an AS number',
    ],
    [
      'is too large',
      '1\n'.repeat(600_000),
      'suspects: [list.txt]',
      'suspects[0] "list.txt": must be at most 1048576 bytes long',
    ],
    [
      'is not UTF-8',
      Uint8Array.of(0xff, 0xfe),
      'suspects: [list.txt]',
      'suspects[0] "list.txt": The encoded data was not valid for encoding utf-8',
    ],
  ])('that %s is an error', (_situation, list, text, reason) => {
    expect(() => read(list, text)).toThrow(
      new UsageError(`Cannot read configuration ${JSON.stringify(config)}: ${reason}`),
    );
  });
});

it.each([
  ['workloads: [{ name: a }]', 'workloads[0]: must have labels, annotations, cgroup or unit'],
  ['workloads: [{ name: a, labels: {} }]', 'workloads[0].labels: must contain at least one key'],
  ['workloads: [{ name: a, labels: app }]', 'workloads[0].labels "app": must be a mapping of keys to patterns'],
  [
    'workloads: [{ name: a, annotations: { a.b/c: "(" } }]',
    /^workloads\[0\]\.annotations\."a\.b\/c" "\(": must be an ECMAScript regular expression \(/,
  ],
  [
    'workloads: [{ name: "{{ .app }}", unit: a }]',
    'workloads[0].name "{{ .app }}": must contain no {{ }} except {{ .group }} of a named group in a pattern of the rule',
  ],
  [
    'workloads: [{ name: "{{ .x }}", labels: { app: "(?<app>a)" } }]',
    'workloads[0].name "{{ .x }}": must contain no {{ }} except {{ .app }}',
  ],
  ['workloads: [{ name: other, unit: a }]', /^workloads\[0\]\.name "other": must be a name of/],
  [
    'workloads: [{ name: a, label: { app: a } }]',
    'workloads[0].label: unknown key, must be one of name, labels, annotations, cgroup, unit',
  ],
])('reports the path of a wrong key in %s', (text, reason) => {
  let message = '';
  try {
    parseRules(text, PATH);
  } catch (error) {
    message = (error as Error).message.split('\n')[0]?.replace(/^Cannot read configuration ".*?": /, '') ?? '';
  }
  if (typeof reason === 'string') expect(message).toBe(reason);
  else expect(message).toMatch(reason);
});

it('returns rules or problems for any text', () => {
  const words = fc.constantFrom(
    'networks',
    'processes',
    'asn',
    'name',
    'cidrs',
    ': ',
    '- ',
    '\n',
    '  ',
    '[',
    '{',
    '*a',
    '&a',
    '"',
    '10.0.0.0/8',
    '~',
  );
  const text = fc.oneof(
    fc.array(fc.nat(0xffff)).map((units) => String.fromCharCode(...units)),
    fc.array(words).map((parts) => parts.join('')),
    fc.json(),
  );
  fc.assert(
    fc.property(text, (candidate) => {
      expect(problemsOf(candidate)).toBeInstanceOf(Array);
    }),
  );
});

describe('a file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-rules-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const write = (name: string, bytes: string | Buffer): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };

  it('is read', () => {
    expect(readRules(write('good.yaml', 'networks: [{ name: büro, cidrs: [10.0.0.0/8] }]')).networks[0]?.name).toBe(
      'büro',
    );
  });

  it('may be a pipe', { timeout: 60_000 }, () => {
    const module = new URL('../../src/config/rules.ts', import.meta.url).href;
    const program = `import { readRules } from ${JSON.stringify(module)}; process.stdout.write(readRules('/dev/stdin').networks[0].name)`;
    const text = 'networks: [{ name: piped, cidrs: [10.0.0.0/8] }]';
    const script = 'printf %s "$0" | "$1" --input-type=module --eval "$2"';
    const output = execFileSync('/bin/sh', ['-c', script, text, process.execPath, program], { encoding: 'utf8' });
    expect(output).toBe('piped');
  });

  it.each<[situation: string, path: () => string, reason: string]>([
    ['is absent', () => join(folder, 'absent.yaml'), 'no such file or directory'],
    ['is a folder', () => folder, 'is a directory'],
    ['has no end', () => '/dev/zero', 'must be at most 1048576 bytes long'],
    [
      'is not text',
      () => write('binary.yaml', Buffer.from([0xff, 0xfe])),
      'The encoded data was not valid for encoding utf-8',
    ],
  ])('is refused where it %s', (_situation, path, reason) => {
    expect(() => readRules(path())).toThrow(
      new UsageError(`Cannot read configuration ${JSON.stringify(path())}: ${reason}`),
    );
  });
});
