import { describe, expect, test } from 'vitest';
import type { Family } from '../../../src/model.ts';
import { overviewOf } from '../../../src/web/page/overview.ts';

function family(
  name: string,
  labels: string,
  ...samples: readonly (readonly [labels: string, value: number])[]
): Family {
  const split = (text: string): string[] =>
    text === '' ? [] : text.split(' ').map((part) => (part === '-' ? '' : part));
  return {
    name: `peerscope_${name}`,
    help: '',
    type: 'gauge',
    labels: split(labels),
    samples: samples.map(([texts, value]) => ({ labels: split(texts), value })),
  };
}

const OWNER = 'process namespace workload';

test('without families, the overview is empty', () => {
  expect(overviewOf([])).toEqual({
    at: 0,
    version: '',
    sockets: 0,
    directions: { inbound: 0, outbound: 0, loopback: 0, listen: 0 },
    states: [],
    processes: null,
    namespaces: 0,
    top: { lines: [], more: 0 },
    operators: null,
    traffic: null,
    networks: [],
    endpoints: null,
    loopbackDuplicates: 0,
    listeners: { lines: [], more: 0, total: 0 },
    blindSpots: [],
    costs: [],
  });
});

describe('processes', () => {
  test('are summed over pods, transports and directions, and ranked by sockets', () => {
    const { top, sockets, directions, states } = overviewOf([
      family(
        'connections',
        `${OWNER} pod container transport direction state`,
        ['nginx - nginx.service - - tcp inbound established', 2],
        ['nginx - nginx.service - - tcp listen listen', 1],
        ['nginx - other.service - - tcp listen listen', 9],
        ['- - - - - udp outbound established', 4],
        ['- - - a - tcp loopback time_wait', 3],
      ),
    ]);
    expect(top.lines.map(({ owner, total, states }) => [owner.process, owner.workload, total, states])).toEqual([
      ['nginx', 'other.service', 9, [['listen', 9]]],
      [
        '',
        '',
        7,
        [
          ['established', 4],
          ['time_wait', 3],
        ],
      ],
      [
        'nginx',
        'nginx.service',
        3,
        [
          ['established', 2],
          ['listen', 1],
        ],
      ],
    ]);
    expect([sockets, directions]).toEqual([19, { inbound: 2, outbound: 4, loopback: 3, listen: 10 }]);
    expect(states).toEqual([
      ['listen', 10],
      ['established', 6],
      ['time_wait', 3],
    ]);
  });

  test('after the tenth are counted, and folded series come last', () => {
    const many = Array.from({ length: 13 }, (_, i) => [`p${i} - - tcp listen listen`, i + 1] as const);
    const { top } = overviewOf([
      family('connections', `${OWNER} transport direction state`, ...many, ['other - - tcp listen listen', 999]),
    ]);
    expect(top.lines.map(({ owner }) => owner.process)).toEqual([
      ...['p12', 'p11', 'p10', 'p9', 'p8', 'p7', 'p6', 'p5', 'p4', 'p3'],
      'other',
    ]);
    expect(top.more).toBe(3);
  });
});

test('operators have names and counts by direction; connections without one are counted by network', () => {
  const { operators, networks } = overviewOf([
    family(
      'asn_connections',
      `${OWNER} direction network asn state`,
      ['a - - inbound public 64500 established', 1],
      ['b - - outbound public 64500 time_wait', 5],
      ['a - - outbound public 0 established', 2],
      ['a - - outbound public - established', 3],
      ['a - - loopback loopback - established', 8],
      ['a - - outbound office - established', 1],
      ['a - - outbound public other established', 70],
    ),
    family('asn_info', 'asn as_name as_country', ['64500 EXAMPLE LU', 1], ['other - -', 1]),
  ]);
  expect(operators?.lines).toEqual([
    { asn: '64500', name: 'EXAMPLE', country: 'LU', inbound: 1, outbound: 5, total: 6 },
    { asn: '0', name: '', country: '', inbound: 0, outbound: 2, total: 2 },
    { asn: 'other', name: '', country: '', inbound: 0, outbound: 70, total: 70 },
  ]);
  expect(operators?.known).toBe(1);
  expect(networks).toEqual([
    ['loopback', 8],
    ['public', 3],
    ['office', 1],
  ]);
});

test('ASN 0 is not counted as an operator', () => {
  const ranked = Array.from({ length: 11 }, (_, i) => [`a - - outbound public ${64500 + i} established`, 2] as const);
  const { operators } = overviewOf([
    family('asn_connections', `${OWNER} direction network asn state`, ...ranked, [
      'a - - outbound public 0 established',
      1,
    ]),
  ]);
  expect([operators?.known, operators?.more]).toEqual([11, 2]);
});

test('endpoints are grouped by direction, one line per owner and transport', () => {
  const { endpoints, loopbackDuplicates } = overviewOf([
    family(
      'endpoint_connections',
      `${OWNER} endpoint_group direction transport state`,
      ['web - - 192.0.2.1:443 inbound tcp established', 3],
      ['web - - 192.0.2.1:443 inbound tcp time_wait', 4],
      ['web - - 192.0.2.1:443 inbound udp established', 1],
      ['app - - 127.0.0.1:5432 loopback tcp established', 2],
    ),
    family('loopback_duplicates', '', ['', 2]),
  ]);
  expect(endpoints?.inbound.total).toBe(8);
  expect(endpoints?.inbound.ranking.lines.map(({ name, transport, total }) => [name, transport, total])).toEqual([
    ['192.0.2.1:443', 'tcp', 7],
    ['192.0.2.1:443', 'udp', 1],
  ]);
  expect(endpoints?.outbound).toEqual({ total: 0, ranking: { lines: [], more: 0 } });
  expect([endpoints?.loopback.total, loopbackDuplicates]).toEqual([2, 2]);
});

test('listeners are sorted by backlog, then by port', () => {
  const { listeners } = overviewOf([
    family(
      'listener_accept_queue',
      `${OWNER} local_address local_port`,
      ['a - - 0.0.0.0 9000', 0],
      ['b - - :: 80', 0],
      ['b - - 0.0.0.0 80', 0],
      ['c - - 127.0.0.1 65000', 2],
    ),
  ]);
  expect(listeners.lines.map(({ address, port, waiting }) => `${address} ${port} ${waiting}`)).toEqual([
    '127.0.0.1 65000 2',
    '0.0.0.0 80 0',
    ':: 80 0',
    '0.0.0.0 9000 0',
  ]);
});

describe('blindSpots', () => {
  const table: { name: string; families: Family[]; spots: (string | RegExp)[] }[] = [
    {
      name: 'lists each reason for sockets without a process, except reasons with a count of 0',
      families: [family('sockets_unattributed', 'reason', ['permission', 1200], ['no_descriptor', 1], ['vanished', 0])],
      spots: [
        /^1,200 sockets without a process: a process that peerscope may not read/,
        /^1 socket without a process: held by the kernel/,
      ],
    },
    {
      name: 'counts unreadable and incomplete namespaces only',
      families: [family('network_namespaces', 'status', ['read', 5], ['unreadable', 2], ['incomplete', 1])],
      spots: [/^2 unreadable network namespaces/, /^1 incomplete network namespace/],
    },
    {
      name: 'never rounds missed connections to 0 %',
      families: [family('connection_coverage_ratio', '', ['', 0.999])],
      spots: [/^1 % of the new TCP connections .* missed: .*--sample\.interval/],
    },
    {
      name: 'rounds the share of missed connections',
      families: [family('connection_coverage_ratio', '', ['', 0.71])],
      spots: [/^29 % /],
    },
    {
      name: 'is empty when no connection was missed',
      families: [family('connection_coverage_ratio', '', ['', 1])],
      spots: [],
    },
    {
      name: 'sums folded series, malformed lines and guessed directions',
      families: [
        family('series_folded', 'family', ['peerscope_connections', 2], ['peerscope_asn_connections', 1]),
        family('malformed_rows_total', 'source', ['tcp', 1]),
        family('direction_guessed', '', ['', 2]),
      ],
      spots: [/^1 malformed line in a/, /^2 guessed directions/, /^3 series folded into "other"/],
    },
    {
      name: 'reports paused ASN queries, a failing store and pending lookups',
      families: [
        family('asn_pending', '', ['', 3]),
        family('asn_breaker_open', '', ['', 1]),
        family('store_up', 'store', ['sqlite', 0]),
      ],
      spots: [/^3 networks with pending/, /^No new operators/, /^No persistent storage/],
    },
    {
      name: 'lists collectors that failed and collectors that are off',
      families: [
        family(
          'scrape_collector_success',
          'collector',
          ['sockets', 0],
          ['protocols', 1],
          ['processes', 1],
          ['asn', 1],
          ['endpoints', 1],
        ),
      ],
      spots: [/^Incomplete: sockets/, /^Off: first-seen: .*--no-collector\.first-seen/],
    },
  ];
  test.each(table)('$name', ({ families, spots }) => {
    const lines = overviewOf(families).blindSpots.map(({ amount, what, why }) => `${amount} ${what}: ${why}`);
    expect(lines).toHaveLength(spots.length);
    for (const [i, spot] of spots.entries()) expect(lines[i]).toMatch(spot);
  });
});

describe('traffic', () => {
  const labels = `${OWNER} direction network asn`;
  const sent = family(
    'asn_sent_bytes_total',
    labels,
    ['curl - - outbound public 64500', 100],
    ['curl - - outbound public 64501', 5],
    ['nginx - web inbound public 64500', 20],
    ['nginx - web outbound private -', 7],
    ['other other other other other other', 1000],
  );
  const received = family(
    'asn_received_bytes_total',
    labels,
    ['curl - - outbound public 64501', 400],
    ['nginx - web inbound public -', 3],
  );

  test('is summed by operator and by process, most bytes first, folded series last', () => {
    const { traffic } = overviewOf([
      sent,
      received,
      family('asn_info', 'asn as_name as_country', ['64501 EXAMPLE LU', 1]),
    ]);
    expect(traffic?.operators.lines).toEqual([
      { asn: '64501', name: 'EXAMPLE', network: '', sent: 5, received: 400, total: 405 },
      { asn: '64500', name: '', network: '', sent: 120, received: 0, total: 120 },
      { asn: '', name: '', network: 'private', sent: 7, received: 0, total: 7 },
      { asn: '', name: '', network: 'public', sent: 0, received: 3, total: 3 },
      { asn: 'other', name: '', network: '', sent: 1000, received: 0, total: 1000 },
    ]);
    expect(
      traffic?.processes.lines.map(({ owner, ...bytes }) => [
        owner.process,
        owner.workload,
        bytes.sent,
        bytes.received,
      ]),
    ).toEqual([
      ['curl', '', 105, 400],
      ['nginx', 'web', 27, 3],
      ['other', 'other', 1000, 0],
    ]);
  });

  test('is absent without both families, and empty before any byte', () => {
    expect(overviewOf([sent]).traffic).toBeNull();
    expect(overviewOf([received]).traffic).toBeNull();
    const none = { lines: [], more: 0 };
    const empty = [family('asn_sent_bytes_total', labels), family('asn_received_bytes_total', labels)];
    expect(overviewOf(empty).traffic).toEqual({ operators: none, processes: none });
  });
});
