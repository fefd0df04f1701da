import { deepStrictEqual, ok } from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fc, { type Arbitrary } from 'fast-check';
import { Decoder } from 'ioredis/built/resp/decoder.js';
import { formatAddress, formatCidr, ipv4, parseAddress, parseCidr } from '../../src/common/address.ts';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import { FibTrie, parseIfInet6 } from '../../src/collect/fib-trie.ts';
import { nameProcess } from '../../src/collect/process-name.ts';
import { parseFdinfo } from '../../src/collect/procfs.ts';
import { readProtocolCounts } from '../../src/collect/protocol-counters.ts';
import { parseSocketRows, SocketRows } from '../../src/collect/net-tcp-udp-raw.ts';
import { FrameDecoder } from '../../src/collect/agent-frames.ts';
import { DiagRows, EndedSockets, parseDump, parseEnded, parseNsid } from '../../src/collect/sock-diag.ts';
import { parseSockstat } from '../../src/collect/sockstat.ts';
import { parseStat, parseStatus } from '../../src/collect/pid-stat.ts';
import { readStatistics, renderStatistics } from '../../src/collect/netstat-s.ts';
import { parseOrigin, renderOrigin } from '../../src/enrich/asn/cache.ts';
import { parseAsText, parseOriginText } from '../../src/enrich/asn/cymru-dns.ts';
import { readList } from '../../src/enrich/kubernetes/list-parser.ts';
import { readEndpointSlice, readService } from '../../src/enrich/kubernetes/services.ts';
import { ClusterCache } from '../../src/enrich/kubernetes/cluster-cache.ts';
import { parseReply } from '../../src/enrich/asn/cymru-whois.ts';
import { parseMmdb } from '../../src/enrich/asn/mmdb.ts';
import { readPod } from '../../src/enrich/kubernetes/pods.ts';
import { ReplyGuard } from '../../src/store/redis-replies.ts';
import { parseTsv } from '../../src/enrich/asn/ip2asn-tsv.ts';
import { parseWebConfig } from '../../src/web/web-config.ts';
import { historyOfApi, rowOfApi, unusualOfApi } from '../../src/cli/api-answers.ts';
import type { ApiClient } from '../../src/cli/api-client.ts';
import { jsonLine } from '../../src/cli/terminal/format.ts';
import { csvLine, ROW_COLUMNS } from '../../src/cli/terminal/row-columns.ts';
import { renderTable } from '../../src/cli/terminal/table.ts';
import { FLAGS } from '../../src/config/flags.ts';
import { checkFamilies, Published } from '../../src/metrics/published.ts';
import { parseFilters } from '../../src/rows/filter.ts';
import { cleanLabel } from '../../src/common/sanitize.ts';
import type { Origin, Row } from '../../src/model.ts';
import { decodeText, splitLines } from '../../src/parse/line-splitter.ts';
import { parseText, placeText } from '../../src/parse/text-reader.ts';
import { setDirections } from '../../src/collect/saved-output.ts';
import { parseRules } from '../../src/config/rules.ts';
import { parseServicePorts, parseServices } from '../../src/common/etc-services.ts';
import { writeMmdb } from '../support/mmdb-writer.ts';
import { answerTruly, eventFrame, helloFrame, nsidFrame } from '../support/fake-agent.ts';
import { damaged, damagedBytes, damagedJson } from './damage.ts';
import { UsageError } from '../../src/common/errors.ts';
import { workloadOf } from '../../src/enrich/owner-labels.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');
// eslint-disable-next-line no-control-regex -- that is what must not be there
export const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** A parser of outside bytes, its inputs, and what must hold for every result. */
export interface Target {
  readonly name: string;
  readonly input: Arbitrary<unknown>;
  /** Throws where the parser did something that it must not. */
  readonly check: (input: never) => void | Promise<void>;
  /** How many cases of another target take the time of one; 1 by default. */
  readonly cost?: number;
}

export function target<T>(
  name: string,
  input: Arbitrary<T>,
  check: (input: T) => void | Promise<void>,
  cost = 1,
): Target {
  return { name, input, check, cost };
}

function recorded(...patterns: readonly string[]): string[] {
  const files = patterns.flatMap((pattern) => globSync(pattern, { cwd: FIXTURES }).sort());
  ok(files.length > 0, `no fixture is called ${patterns.join(' or ')}`);
  return files.map((file) => readFileSync(join(FIXTURES, file), 'latin1'));
}

/** Of a parser that may refuse its input: with an error of this class, in one message without control characters. */
function mayRefuse<T>(parse: () => T, error: new (...args: never[]) => Error): T | undefined {
  try {
    return parse();
  } catch (thrown) {
    ok(thrown instanceof error, `throws ${String(thrown)}`);
    ok(!CONTROL.test(thrown.message.replaceAll('\n', '')), `says ${JSON.stringify(thrown.message)}`);
    return undefined;
  }
}

const isCount = (value: number | null): boolean => value === null || (Number.isSafeInteger(value) && value >= 0);
const isPort = (value: number | null): boolean => value === null || (isCount(value) && value <= 65_535);

/** An address as RFC 5952 writes it, so that reading and writing it again changes nothing. */
function isCanonical(text: string | null): boolean {
  if (text === null) return true;
  const address = parseAddress(text);
  return address !== undefined && formatAddress(address) === text;
}

export function checkRow(row: Row): void {
  ok(isPort(row.local_port) && isPort(row.remote_port), 'a port is invalid');
  ok(
    isCount(row.receive_queue) && isCount(row.send_queue) && isCount(row.inode) && isCount(row.uid),
    'a count is invalid',
  );
  ok(
    row.pids.every((pid) => isCount(pid)),
    'a pid is invalid',
  );
  ok(isCanonical(row.local_address) && isCanonical(row.remote_address), 'an address is not canonical');
  const { sent_bytes, received_bytes, acknowledged_bytes, retransmitted_bytes, retransmits } = row;
  const counts = [sent_bytes, received_bytes, acknowledged_bytes, retransmitted_bytes, retransmits];
  ok([...counts, row.congestion_window, row.timer_retransmits].every(isCount), 'a detail is no count');
  const seconds = [row.round_trip_seconds, row.min_round_trip_seconds, row.timer_seconds];
  ok(
    seconds.every((time) => time === null || (Number.isFinite(time) && time >= 0)),
    'a detail is no time',
  );
  deepStrictEqual(JSON.parse(JSON.stringify(row)), row);
}

const ASKED = ['74.125.225.0/24', '2001:4860:4860::/48', '216.90.108.0/24', '198.28.137.0/24'].flatMap(
  (text) => parseCidr(text) ?? [],
);
const LOOKED_UP = [ipv4(0x01010101), ipv4(0x08080808), parseAddress('2606:4700::1111') ?? ipv4(0)];
const ORIGIN: Origin = {
  asns: [64_500, 64_501],
  name: 'EXAMPLE',
  asCountry: 'LU',
  prefix: '198.51.100.0/24',
  registry: 'ripencc',
  registryCountry: 'LU',
  allocated: '2001-02-03',
  askedAt: 1_700_000_000_000,
  freshUntil: 1_700_086_400_000,
  source: 'cymru',
};
const CONFIGURATION = `processes:
  - name: "app-{{ .script }}"
    exe: "^python3"
    cmdline: "(?<script>[a-z]+)\\\\.py"
endpoint_groups:
  - { name: postgres, cidrs: [10.0.0.0/8, "2001:db8::/32"], ports: [5432, 5433], transport: tcp }
networks:
  - { name: office, cidrs: [203.0.113.0/24], asn: 64500 }
asn: { never_send: [198.51.100.0/24] }
`;
const WEB_CONFIGURATION = `tls_server_config: { cert_file: server.pem, key_file: server-key.pem }
basic_auth_users: { prometheus: "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e" }
http_server_config: { headers: { X-Frame-Options: deny, Strict-Transport-Security: max-age=31536000 } }
`;
const KUBERNETES_OBJECTS: readonly unknown[] = [
  ...recorded('kubernetes/*.json').flatMap((text) => (JSON.parse(text) as { items: unknown[] }).items),
  {
    metadata: { namespace: 'shop', name: 'db' },
    spec: {
      clusterIP: '10.96.0.10',
      clusterIPs: ['10.96.0.10', 'fd00::a'],
      externalIPs: ['203.0.113.9'],
      ports: [{ name: 'pg', port: 5432, protocol: 'TCP' }],
    },
    status: { loadBalancer: { ingress: [{ ip: '198.51.100.7' }] } },
  },
  {
    metadata: { namespace: 'shop', name: 'db-x1', labels: { 'kubernetes.io/service-name': 'db' } },
    endpoints: [{ addresses: ['10.244.0.7', 'fd00:1::7'] }],
    ports: [{ name: 'pg', port: 5432, protocol: 'TCP' }],
  },
];
const FILTERS = [
  'state=established,time_wait\nprocess!=nginx\npid=1,2\nport=443\nlocal-port!=22\naddress=2001:db8::1',
  'cidr=10.0.0.0/8\nasn=AS64500\nnetwork=public\npod=a\nnamespace!=b\nnetns=4026531840\ntransport=tcp\ndirection=listen',
];
/** As a server sends them; what counts the bytes of a text is right until it is damaged. */
const REDIS_REPLIES = [
  '+OK\r\n-READONLY You cannot\r\n:12\r\n:-2\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n',
  '*2\r\n$10\r\n1795211295\r\n$6\r\n123456\r\n*3\r\n*2\r\n:1\r\n:2\r\n*1\r\n$-1\r\n-ERR x\r\n',
  '$4\r\na\r\nb\r\n*2\r\n*1\r\n*1\r\n*0\r\n$3\r\n:1\n\r\n+\r\n:+5\r\n',
];
const FAMILY_NAMES = [
  'peerscope_connections',
  '!peerscope_connections',
  'peerscope_*_total,!peerscope_udp_*',
  '*,!*_info',
];
const API_ANSWERS = [
  ...parseText(recorded('text/ss-tunap.out')[0] ?? '').rows.slice(0, 4),
  {
    unusual: [
      {
        namespace: 'shop',
        workload: 'web',
        severity: 'critical',
        points: 5,
        evidence: [
          {
            ...{ kind: 'operator', what: 'AS64500', process: 'curl', reach: 'none', points: 5, reason: 'new' },
            ...{ first_seen_at: '2026-11-20T10:00:00.000Z', reported_at: '2026-11-20T10:00:00.000Z' },
          },
        ],
      },
    ],
    decisions: [
      {
        ...{ namespace: null, workload: 'nginx.service', what: 'AS64500', accepted: true },
        ...{ at: '2026-11-20T10:00:00.000Z', by: 'root@db1', why: null },
      },
    ],
  },
  {
    history: [
      {
        ...{ namespace: null, workload: 'nginx.service', direction: 'inbound', asn: 64_500, as_name: 'EXAMPLE' },
        ...{ first_seen: '2026-11-20T10:00:00.000Z', last_seen: '2026-11-20T10:00:00.000Z' },
      },
    ],
    next: null,
  },
];
const FILTER = parseFilters(['process~web', 'cidr=10.0.0.0/8', 'remote-port=443']);
const ROWS = parseText(recorded('text/ss-tunap.out')[0] ?? '').rows;
const DATABASES = [
  writeMmdb([
    ['1.1.1.0/24', { autonomous_system_number: 13_335, autonomous_system_organization: 'CLOUDFLARENET' }],
    ['8.8.8.0/24', { autonomous_system_number: 15_169, autonomous_system_organization: 'GOOGLE' }],
    ['2606:4700::/32', { asn: 'AS13335', as_name: 'Cloudflare, Inc.' }],
  ]),
  writeMmdb([['1.1.1.0/24', { asn: 'AS13335', as_name: 'Cloudflare, Inc.' }]], { recordSize: 28, ipVersion: 4 }),
];

/** Every parser that meets bytes from outside. */
const LSOF = `COMMAND     PID      USER   FD   TYPE             DEVICE SIZE/OFF NODE NAME
node      34548 user   20u  IPv4 0xa42a1d0ade5d3585      0t0  TCP *:62981 (LISTEN)
Code\\x20H   637 user   51u  IPv6 30993  0t0  TCP [2001:db8::1]:9->[2001:db8::2]:https (CLOSE_WAIT)
`;
const SOCKSTAT = `USER     COMMAND    PID   FD PROTO  LOCAL ADDRESS         FOREIGN ADDRESS      
root     sshd       1420  4  tcp4   *:22                  *:*
www      php-fpm: m 77    6  tcp6   2001:db8::1:80        2001:db8::2:999
?        ?          ?     ?  udp4   192.0.2.5.80          198.51.100.7.999
root     sshd       1420  5  stream -> /var/run/log
`;
const SOLARIS = `TCP: IPv4
   Local Address        Remote Address    Swind Send-Q Rwind Recv-Q    State
-------------------- -------------------- ----- ------ ----- ------ -----------
192.0.2.5.22         198.51.100.7.51514   64064      0 64240      0 ESTABLISHED
UDP: IPv6
   Local Address                     Remote Address                   State      If
      *.68                                Idle
SCTP: IPv4
0.0.0.0                         0.0.0.0                              0      0 102400      0  32/32  CLOSED
`;
const CONNECTIONS = [
  { LocalAddress: '::', LocalPort: 49676, RemoteAddress: '::', RemotePort: 0, State: 2, OwningProcess: 716 },
  { LocalAddress: '192.0.2.4', LocalPort: 9, RemoteAddress: '198.51.100.34', RemotePort: 443, State: 'Established' },
];
const POWERSHELL = [
  `LocalAddress LocalPort RemoteAddress RemotePort State       AppliedSetting OwningProcess
------------ --------- ------------- ---------- -----       -------------- -------------
::           49676     ::            0          Listen                     716
192.0.2.4    52135     198.51.100.34 443        Established Internet       5284
`,
  JSON.stringify(CONNECTIONS, null, 4),
  JSON.stringify(CONNECTIONS),
  CONNECTIONS.map(
    (one) =>
      `${Object.entries(one)
        .map(([key, value]) => `${key} : ${value}\n`)
        .join('')}\n`,
  ).join(''),
  `"LocalAddress","LocalPort","RemoteAddress","RemotePort","State"\n"::","1","::","0","Listen"\n`,
  '::  49676  ::  0  Listen  716\n192.0.2.4  52135  198.51.100.34  443  Established Internet  5284\n',
];

const NSID = Buffer.from(nsidFrame(40, 4).subarray(16));
const AGENT_STREAM = Buffer.concat([
  helloFrame(),
  ...[2, 10].map((family) => answerTruly({ version: 1, kind: 1, family, pid: 0 })),
  nsidFrame(40, 4),
  eventFrame({ localPort: 443 }, 4),
]);
const SERVICES = 'ssh 22/tcp\nsmtp 25/tcp mail\ndomain 53/tcp\ndomain 53/udp\nhttps 443/tcp\n';
const SERVICE_NAMES = parseServices(SERVICES);
const SERVICE_PORTS = parseServicePorts(SERVICES);

/** Checks what holds of any text: every line is counted, and every row is valid. */
function checkText(text: string): void {
  const { rows: placed, malformed, counts } = placeText(text, { portOf: SERVICE_PORTS });
  setDirections(placed, SERVICE_NAMES);
  const rows = placed.map(({ row }) => row);
  const lines = splitLines(text);
  const total = Object.values<number>({ ...counts }).reduce((sum, count) => sum + count, 0);
  // One line of JSON or of lsof -F0 may hold several rows.
  ok(
    total === lines.length || (total > lines.length && /[{}]|\0/.test(text)),
    `${lines.length} lines are ${JSON.stringify(counts)}`,
  );
  ok(counts.row === rows.length, `${rows.length} rows`);
  ok(malformed.every(({ line, reason }) => line >= 1 && line <= lines.length && reason !== ''));
  rows.forEach(checkRow);
}

export const TARGETS: readonly Target[] = [
  target('sockets', damaged(recorded('proc-net/{tcp,tcp6,udp,udp6,raw,raw6,udplite}')), (text) => {
    const bytes = Buffer.from(text, 'latin1');
    for (const family of [4, 6] as const) {
      const rows = new SocketRows(1);
      const end = parseSocketRows(bytes, 0, bytes.length, family, true, rows);
      const lines = bytes.subarray(0, end).filter((byte) => byte === 0x0a).length;
      ok(
        rows.count + rows.malformed === lines,
        `${lines} lines are ${rows.count} rows and ${rows.malformed} malformed ones`,
      );
      ok(!bytes.subarray(end).includes(0x0a), 'whole lines are left');
      for (let i = 0; i < rows.count; i++) ok(isCount(rows.inode[i] ?? -1), 'an inode is invalid');
    }
  }),
  target('sock_diag', damagedBytes(datagrams()), (bytes) => {
    const most = bytes.length / 16 + 1;
    for (const littleEndian of [true, false]) {
      const rows = new EndedSockets(1);
      parseEnded(bytes, littleEndian, -1, 0, rows);
      checkSockets(rows, most);
      for (let i = 0; i < rows.count; i++)
        for (const leftTimeWait of [true, false, null]) {
          const facts = { lastState: 8, wasHeld: false, leftTimeWait, peerSentBytes: null };
          ok(isCount(rows.receivedBytesOf(i, facts)), 'the received bytes of an event are invalid');
        }
      for (const family of [4, 6] as const) {
        const dump = new DiagRows(1);
        parseDump(bytes, family, littleEndian, dump);
        checkSockets(dump, most);
      }
    }
  }),
  target('namespace ids', damagedBytes([NSID]), (bytes) => {
    for (const littleEndian of [true, false]) ok(isCount(parseNsid(bytes, littleEndian)), 'a namespace id is invalid');
  }),
  target('agent frames', fc.tuple(damagedBytes([AGENT_STREAM]), fc.integer({ min: 1, max: 300 })), ([bytes, size]) => {
    const decode = (length: number): unknown => {
      const frames: unknown[] = [];
      const decoder = new FrameDecoder(true, ({ kind, value, nsid, payload }) =>
        frames.push([kind, value, nsid, Buffer.from(payload).toString('latin1')]),
      );
      for (let at = 0; at < bytes.length; at += length) decoder.push(bytes.subarray(at, at + length));
      return [frames, decoder.invalidLength];
    };
    deepStrictEqual(decode(size), decode(bytes.length));
  }),
  target('stat', damaged(recorded('proc/*/[0-9]*/stat')), (text) => {
    const stat = parseStat(Buffer.from(text, 'latin1'));
    if (!stat) return;
    ok([stat.ppid, stat.startTime, stat.threads, stat.residentPages].every(isCount), JSON.stringify(stat));
  }),
  target('status', damaged(recorded('proc/*/[0-9]*/status'), 60), (text) => {
    const { uid, umask, residentMemoryBytes } = parseStatus(Buffer.from(text, 'latin1'));
    ok(isCount(uid) && isCount(residentMemoryBytes));
    ok(umask === null || /^[0-7]{4}$/.test(umask));
  }),
  target('cgroup', damaged([...recorded('proc/*/[0-9]*/cgroup'), ...cgroupCases()]), (text) => {
    const cgroup = parseCgroup(text);
    const { containerId, podUid } = cgroup;
    ok(containerId === null || containerId === cleanLabel(containerId), JSON.stringify(containerId));
    ok(podUid === null || /^[0-9a-f-]{32,36}$/.test(podUid), JSON.stringify(podUid));
    ok(workloadOf(cgroup) === cleanLabel(workloadOf(cgroup)), JSON.stringify(workloadOf(cgroup)));
  }),
  target('cmdline', damaged(recorded('proc/*/[0-9]*/cmdline')), (text) => {
    const cmdline = text.split('\0');
    for (const exe of [
      cmdline[0] ?? null,
      '/usr/bin/python3',
      '/usr/bin/java',
      '/bin/busybox',
      '/usr/bin/node',
      null,
    ]) {
      const name = nameProcess({ exe, comm: text.slice(0, 15), cmdline, self: false }, []);
      ok(name === cleanLabel(name), `${JSON.stringify(name)} is no clean label`);
    }
  }),
  target('fdinfo', damaged(['pos:\t0\nflags:\t02000002\nmnt_id:\t10\nino:\t42\n']), (text) => {
    const { mount, inode } = parseFdinfo(Buffer.from(text, 'latin1'));
    ok(isCount(mount) && isCount(inode));
  }),
  target('addresses of a namespace', damaged(recorded('proc/*/[0-9]*/net/{fib_trie,if_inet6}'), 30), (text) => {
    const fibTrie = new FibTrie();
    for (const line of text.split('\n')) fibTrie.parseLine(line);
    for (const cidr of fibTrie.local) deepStrictEqual(parseCidr(formatCidr(cidr)), cidr);
    for (const address of parseIfInet6(text)) deepStrictEqual(parseAddress(formatAddress(address)), address);
  }),
  target(
    'counters',
    damaged(
      recorded('proc-net/{snmp,snmp6,netstat,sockstat,sockstat6}', 'netstat-s/{snmp,snmp6,netstat,xfrm_stat}'),
      20,
    ),
    (text) => {
      ok(Object.values(readProtocolCounts(text, text, text)).every(Number.isFinite));
      parseSockstat(text, text);
      renderStatistics(readStatistics({ snmp: text, netstat: text, snmp6: text, xfrm: text }));
    },
  ),
  target('whois', damaged(recorded('cymru/bulk-*', 'cymru/single-*', 'cymru/bgp-*'), 12), (text) => {
    const { answers, refused, unanswered, malformed, unasked } = parseReply(text, ASKED);
    ok(answers.length + refused.length + unanswered.length === ASKED.length, 'a network is in no place, or in two');
    ok(isCount(malformed) && isCount(unasked));
    for (const { announcement } of answers)
      for (const { asn, name } of announcement.origins) {
        ok(Number.isSafeInteger(asn) && asn > 0 && asn < 2 ** 32, String(asn));
        ok(name === null || (name.length <= 240 && !CONTROL.test(name)), JSON.stringify(name));
      }
  }),
  target(
    'dns',
    damaged(recorded('cymru/dns-txt.tsv').flatMap((text) => text.split('\n').map((line) => line.split('\t')[1] ?? ''))),
    (text) => {
      const announcement = parseOriginText(text);
      ok(announcement === undefined || announcement.origins.every(({ asn }) => isCount(asn)));
      const names = parseAsText(text, 23_028);
      ok(!names?.name || !CONTROL.test(names.name), JSON.stringify(names));
    },
  ),
  target('stored answer', damaged([renderOrigin(ORIGIN)]), (text) => {
    const origin = parseOrigin(text);
    if (origin) deepStrictEqual(parseOrigin(renderOrigin(origin)), origin);
  }),
  target('mmdb', damagedBytes(DATABASES), (bytes) => {
    const lookup = mayRefuse(() => parseMmdb(bytes), Error);
    for (const address of LOOKED_UP) {
      const finding = lookup?.(address);
      ok(!finding?.name || !CONTROL.test(finding.name), JSON.stringify(finding));
    }
  }),
  target(
    'tsv',
    damaged([
      '1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET\n1.1.1.0\t1.1.1.255\t13335\tUS\tCLOUDFLARENET\n8.8.8.0\t8.8.8.255\t15169\tUS\tGOOGLE\n2606:4700::\t2606:4700:ffff:ffff:ffff:ffff:ffff:ffff\t13335\tUS\tCLOUDFLARENET\n',
    ]),
    async (text) => {
      const parsing = parseTsv(Readable.from([Buffer.from(text)]));
      const table = await parsing.catch((error: unknown) => {
        ok(error instanceof SyntaxError && !CONTROL.test(error.message), String(error));
      });
      for (const address of LOOKED_UP) ok(!table?.find(address)?.asns.some((asn) => !isCount(asn)));
    },
  ),
  target(
    'text of ss and netstat',
    damaged(recorded('text/*.out', 'text/{languages,ss}/*.out', 'text-other/*.out', 'netstat-s/*.out'), 12),
    checkText,
  ),
  target('text of lsof', damaged([...recorded('text/lsof/*.out'), LSOF], 12), checkText),
  target('text of sockstat', damaged([SOCKSTAT], 12), checkText),
  target('text of Solaris', damaged([SOLARIS], 12), checkText),
  target('text of PowerShell', damaged(POWERSHELL, 12), checkText),
  target(
    'several texts in one',
    damaged([
      [LSOF, SOCKSTAT, SOLARIS, ...POWERSHELL, ...recorded('text/ss/tapi.out', 'text/languages/cs_CZ-tunwao.out')].join(
        '$ \n',
      ),
      recorded('text/ss/tunwapeoim.out')
        .map((text) => text.replaceAll(/^/gm, 'Nov 30 10:00:01 web1 netmon[4711]: '))
        .join(''),
    ]),
    checkText,
  ),
  target(
    'encoding of a text',
    damagedBytes([
      Buffer.from('\ufeffProto Local\r\n', 'utf16le'),
      Buffer.from('\ufefftcp é\n'),
      Buffer.from('tcp \xe9\n', 'latin1'),
    ]),
    (bytes) => {
      parseText(decodeText(bytes)).rows.forEach(checkRow);
    },
  ),
  target('configuration', damaged([CONFIGURATION], 12), (text) => {
    mayRefuse(() => parseRules(text, 'peerscope.yaml'), UsageError);
  }),
  target('web configuration', damaged([WEB_CONFIGURATION], 12), (text) => {
    const config = mayRefuse(() => parseWebConfig(text, join(FIXTURES, 'tls', 'web.yaml')), UsageError);
    // A file with users always requires a password.
    const named = /^basic_auth_users: *\{ *[^ }]/m.test(text);
    ok(!config || !named || config.users.size > 0, 'nobody is asked for a password');
    for (const value of Object.values(config?.headers ?? {})) ok(!CONTROL.test(value), JSON.stringify(value));
  }),
  target('Kubernetes objects', damagedJson(KUBERNETES_OBJECTS), (object) => {
    const [pod, service, slice] = [readPod(object), readService(object), readEndpointSlice(object)];
    for (const read of [pod, service, slice])
      for (const name of [read?.namespace ?? '', read?.name ?? '']) ok(name === cleanLabel(name), JSON.stringify(name));
    ok(!pod || (pod.uid !== '' && pod.workload === cleanLabel(pod.workload)), JSON.stringify(pod));
    for (const [id, name] of pod?.containers ?? [])
      ok(id !== '' && name === cleanLabel(name), JSON.stringify([id, name]));
    const addresses = [pod?.addresses, service?.clusterAddresses, service?.otherAddresses, slice?.addresses];
    for (const address of addresses.flatMap((list) => list ?? []))
      deepStrictEqual(parseAddress(formatAddress(address)), address);
    const cluster = new ClusterCache(['pods', 'services', 'endpointslices']);
    for (const kind of ['set', 'set', 'delete'] as const) {
      if (pod) cluster.accept({ resource: 'pods', change: { kind, item: pod } }, 0);
      if (service) cluster.accept({ resource: 'services', change: { kind, item: service } }, 0);
      if (slice) cluster.accept({ resource: 'endpointslices', change: { kind, item: slice } }, 0);
      for (const address of addresses.flatMap((list) => list ?? [])) {
        const name = cluster.endpointNameOf(address, 443, 'tcp') ?? '';
        ok(!CONTROL.test(name), JSON.stringify(name));
      }
    }
  }),
  target(
    'a list of the Kubernetes API in parts',
    fc.tuple(
      damaged([JSON.stringify({ metadata: { resourceVersion: '1' }, items: KUBERNETES_OBJECTS })], 20),
      fc.integer({ min: 1, max: 300 }),
    ),
    async ([text, size]) => {
      const bytes = Buffer.from(text, 'latin1');
      const read = async (length: number): Promise<unknown> => {
        const parts = Array.from({ length: Math.ceil(bytes.length / length) }, (_, i) =>
          bytes.subarray(i * length, (i + 1) * length),
        );
        const items: unknown[] = [];
        try {
          const around = await readList(Readable.from(parts), 65_536, (item) => items.push(item));
          return [items, around];
        } catch (error) {
          return [items, String(error)];
        }
      };
      deepStrictEqual(await read(size), await read(bytes.length + 1));
    },
    20,
  ),
  target('replies of Redis', fc.tuple(damaged(REDIS_REPLIES, 20), fc.integer({ min: 1, max: 64 })), ([text, size]) => {
    const chunks: Buffer[] = [];
    for (let at = 0; at < text.length; at += size) chunks.push(Buffer.from(text.slice(at, at + size), 'latin1'));
    const passed = (asked: number): readonly Buffer[] | undefined => {
      const replies = new ReplyGuard();
      for (let i = 0; i < asked; i++) replies.expect();
      return mayRefuse(() => chunks.map((chunk) => replies.check(chunk)), Error);
    };
    const bytes = passed(1_000);
    if (!bytes) return;
    // The library that gets what passes sees as many replies in it.
    let read = 0;
    const count = (): void => {
      read++;
    };
    const onPush = (): void => ok(false, 'lets a push through');
    const decoder = new Decoder({ getTypeMapping: () => ({}), onReply: count, onErrorReply: count, onPush });
    for (const piece of bytes) decoder.write(piece);
    ok(passed(read + 1), `finds more than ${read} replies`);
    ok(read === 0 || !passed(read - 1), `finds fewer than ${read} replies`);
  }),
  target('filters', damaged(FILTERS), (text) => {
    const filter = mayRefuse(() => parseFilters(text.split('\n')), UsageError);
    if (filter) for (const row of ROWS) ok(typeof filter(row) === 'boolean');
  }),
  target('names of families', damaged(FAMILY_NAMES, 1), (line) => {
    const families = FLAGS.find(({ name }) => name === 'metrics.families')?.parse(line.trim());
    if (!Array.isArray(families)) return;
    const names = families as string[];
    mayRefuse(() => checkFamilies(names), UsageError);
    const published = new Published({ families: names, podLabel: true, containerLabel: true });
    for (const name of ['peerscope_connections', 'peerscope_processes', 'peerscope_build_info'])
      ok(!names.includes(`!${name}`) || !published.has(name), `publishes ${name}, which is left out`);
  }),
  target('answers of the API', damagedJson(API_ANSWERS), async (answer) => {
    const text = JSON.stringify(answer);
    const row = mayRefuse(() => rowOfApi(text), Error);
    if (row) {
      ok(typeof FILTER(row) === 'boolean');
      const shown = [renderTable(ROW_COLUMNS, [row]), csvLine(row), jsonLine(row)];
      for (const one of shown) ok(!CONTROL.test(one.replaceAll(/\r?\n/g, '')), JSON.stringify(one));
    }
    for (const { reports } of mayRefuse(() => unusualOfApi(text), Error)?.unusual ?? [])
      for (const { at, recordedAt } of reports) ok(Number.isFinite(at) && Number.isFinite(recordedAt));
    const client = {
      url: 'http://192.0.2.1:10043',
      linesIfPresent: <T>(_path: string, _what: string, _signal: AbortSignal, read: (line: string) => T) =>
        Promise.resolve([read(text)]),
    } as Partial<ApiClient> as ApiClient;
    try {
      for (const { first_seen: first, last_seen: last } of await historyOfApi(client))
        ok(Number.isFinite(Date.parse(first)) && Number.isFinite(Date.parse(last)));
    } catch (error) {
      ok(error instanceof Error && error.message.startsWith('the answer is not'), String(error));
    }
  }),
  target(
    'services',
    damaged(['ssh\t22/tcp\nhttps 443/tcp # web\nhttps 443/udp\ndomain 53/udp nameserver\n']),
    (text) => {
      const services = parseServices(text);
      for (const port of [22, 53, 443]) ok(!CONTROL.test(services('tcp', port) ?? ''));
    },
  ),
  target(
    'addresses',
    damaged(['192.0.2.1\n2001:db8::1\n::ffff:192.0.2.1\nfe80::1\n192.0.2.0/24\n2001:db8::/32\n'], 1),
    (text) => {
      const [word = ''] = text.split('\n');
      const address = parseAddress(word);
      if (address) deepStrictEqual(parseAddress(formatAddress(address)), address);
      const cidr = parseCidr(word);
      if (cidr) deepStrictEqual(parseCidr(formatCidr(cidr)), cidr);
    },
  ),
];

/** A dump of each family, and destroy events. */
function datagrams(): Buffer[] {
  const [dump = '', endings = ''] = [recorded('sock-diag/dump.json')[0], recorded('sock-diag/endings.jsonl')[0]];
  const { tcp, tcp6 } = JSON.parse(dump) as Record<'tcp' | 'tcp6', string[]>;
  const events = endings
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { event: string }).event);
  return [...tcp, ...tcp6, ...events, events.slice(0, 4).join('')].map((hex) => Buffer.from(hex, 'hex'));
}

function checkSockets(rows: DiagRows, most: number): void {
  ok(rows.count + rows.malformed <= most, `${rows.count} rows and ${rows.malformed} malformed ones`);
  for (let i = 0; i < rows.count; i++)
    for (const column of [rows.cookie, rows.sentBytes, rows.receivedBytes, rows.retransmittedBytes])
      ok(isCount(column[i] ?? -1), 'a count is invalid');
}

function cgroupCases(): string[] {
  const { cases } = JSON.parse(readFileSync(join(FIXTURES, 'cgroup', 'cases.json'), 'utf8')) as {
    cases: readonly { readonly line?: string; readonly lines?: readonly string[] }[];
  };
  return cases.map(({ line, lines }) => lines?.join('\n') ?? line ?? '');
}
