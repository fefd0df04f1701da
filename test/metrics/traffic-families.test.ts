import { describe, expect, it } from 'vitest';
import { endOf, renderFamilies } from '../../src/expose/prometheus-text.ts';
import { collectorOf, FAMILIES, type Collector } from '../../src/metrics/catalogue.ts';
import { Families } from '../../src/metrics/families.ts';
import { EndpointPeers } from '../../src/metrics/endpoint-peers.ts';
import type { ScanData } from '../../src/metrics/scan-data.ts';
import type { NetlinkStatus } from '../../src/traffic/traffic-collector.ts';
import type { Family } from '../../src/model.ts';
import type { Traffic } from '../../src/traffic/traffic-counters.ts';
import { checkMetrics, needPromtool } from '../support/promtool.ts';

const NOTHING: ScanData = {
  groups: [],
  endpointPeers: new EndpointPeers(),
  listeners: [],
  stalls: [],
  ephemeralPorts: [],
  processes: [],
  opened: [],
  closed: [],
  protocols: { byPod: { totals: [], folded: 0 }, byNamespace: { totals: [], folded: 0 } },
  coverageRatio: null,
  unattributed: new Map(),
  directionsGuessed: 0,
  namespaces: { read: 1, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0, no_process: 0 },
  asnNames: new Map([
    ['64500', { name: 'EXAMPLE', country: 'DE' }],
    ['64501', { name: 'ROUND', country: 'FR' }],
  ]),
  asnCache: null,
  unusual: null,
  traffic: null,
  netlink: null,
};
const UP: NetlinkStatus = { scope: 'all', isUp: true, events: 12, overruns: 1, closedWithoutTotals: 2 };
const CURL = { process: 'curl', namespace: '', workload: '' };
const TRAFFIC: Traffic = {
  asn: [
    {
      labels: {
        process: 'other',
        namespace: 'other',
        workload: 'other',
        direction: 'outbound',
        network: 'public',
        asn: 'other',
      },
      sentBytes: 5,
      receivedBytes: 6,
      retransmittedBytes: 0,
      closedConnections: 2,
    },
    {
      labels: { ...CURL, direction: 'outbound', network: 'public', asn: '64500' },
      sentBytes: 9_007_199_254_740_991,
      receivedBytes: 20,
      retransmittedBytes: 3,
      closedConnections: 1,
    },
  ],
  endpoints: [
    { labels: { ...CURL, endpoint_group: 'AS64500:443', direction: 'outbound' }, sentBytes: 7, receivedBytes: 8 },
  ],
  roundTrips: [
    { labels: { direction: 'outbound', network: 'public', asn: '64501' }, sumSeconds: 0.75, count: 3 },
    { labels: { direction: 'inbound', network: 'private', asn: '' }, sumSeconds: 0.001, count: 1 },
  ],
  folded: { asn: 9, endpoints: 0, roundTrips: 4 },
};

function familiesOf(data: Partial<ScanData>, off: readonly Collector[] = []): Family[] {
  return new Families(
    1000,
    (collector) => !off.includes(collector),
    (_, reason) => expect.fail(reason),
  ).of({ ...NOTHING, ...data }, 0);
}

const namesOf = (families: readonly Family[]): string[] => families.map(({ name }) => name);
const BYTES = FAMILIES.filter(({ collector, needs }) => collector === 'netlink' && needs).map(({ name }) => name);
const STATUS = FAMILIES.filter(({ collector, needs }) => collector === 'netlink' && !needs).map(({ name }) => name);

/** The families of the netlink collector, and what the others say of them. */
const shown = (families: readonly Family[]): Family[] => {
  const about = ['peerscope_asn_info', 'peerscope_series_limit', 'peerscope_series_folded'];
  return families
    .filter(({ name }) => collectorOf(name) === 'netlink' || about.includes(name))
    .map((family) => {
      if (!family.name.startsWith('peerscope_series')) return family;
      const samples = family.samples.filter(({ labels: [name = ''] }) => collectorOf(name) === 'netlink');
      return { ...family, samples };
    });
};

const PAGE = `# HELP peerscope_asn_info Name and registration country of each exported ASN, always 1. ASN "0": not announced; "other": folded; "": not public or not yet resolved.
# TYPE peerscope_asn_info gauge
peerscope_asn_info{asn="",as_name="",as_country=""} 1
peerscope_asn_info{asn="64500",as_name="EXAMPLE",as_country="DE"} 1
peerscope_asn_info{asn="64501",as_name="ROUND",as_country="FR"} 1
peerscope_asn_info{asn="other",as_name="",as_country=""} 1
# HELP peerscope_asn_sent_bytes_total Total number of payload bytes sent over TCP, by network and ASN of the remote. Connections of pods are counted when they end.
# TYPE peerscope_asn_sent_bytes_total counter
peerscope_asn_sent_bytes_total{process="curl",namespace="",workload="",direction="outbound",network="public",asn="64500"} 9007199254740991
peerscope_asn_sent_bytes_total{process="other",namespace="other",workload="other",direction="outbound",network="public",asn="other"} 5
# HELP peerscope_asn_received_bytes_total Total number of payload bytes received over TCP, by network and ASN of the remote. Connections of pods are counted when they end.
# TYPE peerscope_asn_received_bytes_total counter
peerscope_asn_received_bytes_total{process="curl",namespace="",workload="",direction="outbound",network="public",asn="64500"} 20
peerscope_asn_received_bytes_total{process="other",namespace="other",workload="other",direction="outbound",network="public",asn="other"} 6
# HELP peerscope_asn_retransmitted_bytes_total Total number of payload bytes sent again over TCP, by network and ASN of the remote. Connections of pods are counted when they end.
# TYPE peerscope_asn_retransmitted_bytes_total counter
peerscope_asn_retransmitted_bytes_total{process="curl",namespace="",workload="",direction="outbound",network="public",asn="64500"} 3
peerscope_asn_retransmitted_bytes_total{process="other",namespace="other",workload="other",direction="outbound",network="public",asn="other"} 0
# HELP peerscope_asn_closed_connections_total Total number of TCP connections that ended, however short, by network and ASN of the remote.
# TYPE peerscope_asn_closed_connections_total counter
peerscope_asn_closed_connections_total{process="curl",namespace="",workload="",direction="outbound",network="public",asn="64500"} 1
peerscope_asn_closed_connections_total{process="other",namespace="other",workload="other",direction="outbound",network="public",asn="other"} 2
# HELP peerscope_endpoint_sent_bytes_total Total number of payload bytes sent over TCP, by service endpoint. Connections of pods are counted when they end.
# TYPE peerscope_endpoint_sent_bytes_total counter
peerscope_endpoint_sent_bytes_total{process="curl",namespace="",workload="",endpoint_group="AS64500:443",direction="outbound",peer_namespace="",peer_workload=""} 7
# HELP peerscope_endpoint_received_bytes_total Total number of payload bytes received over TCP, by service endpoint. Connections of pods are counted when they end.
# TYPE peerscope_endpoint_received_bytes_total counter
peerscope_endpoint_received_bytes_total{process="curl",namespace="",workload="",endpoint_group="AS64500:443",direction="outbound",peer_namespace="",peer_workload=""} 8
# HELP peerscope_asn_round_trip_seconds Minimum round-trip time of TCP connections, by network and ASN of the remote. Observed when a connection ends, and at most once a minute while it is open; connections of pods are observed when they end.
# TYPE peerscope_asn_round_trip_seconds summary
peerscope_asn_round_trip_seconds_sum{direction="inbound",network="private",asn=""} 0.001
peerscope_asn_round_trip_seconds_count{direction="inbound",network="private",asn=""} 1
peerscope_asn_round_trip_seconds_sum{direction="outbound",network="public",asn="64501"} 0.75
peerscope_asn_round_trip_seconds_count{direction="outbound",network="public",asn="64501"} 3
# HELP peerscope_netlink_up Whether the source of socket totals is connected: 1 if yes, 0 otherwise. Scope "own": one network namespace; "all": also the ended sockets of other network namespaces.
# TYPE peerscope_netlink_up gauge
peerscope_netlink_up{scope="all"} 1
# HELP peerscope_socket_events_total Total number of ended TCP sockets that the kernel reported.
# TYPE peerscope_socket_events_total counter
peerscope_socket_events_total{scope="all"} 12
# HELP peerscope_socket_event_overruns_total Total number of reports of ended TCP sockets that were lost because a buffer was full. A broken connection to the socket agent counts as one.
# TYPE peerscope_socket_event_overruns_total counter
peerscope_socket_event_overruns_total{scope="all"} 1
# HELP peerscope_connections_closed_without_totals_total Total number of TCP connections that ended without a report. Their bytes since the last scan that saw them are not counted.
# TYPE peerscope_connections_closed_without_totals_total counter
peerscope_connections_closed_without_totals_total 2
# HELP peerscope_series_limit Maximum number of series of a metric family.
# TYPE peerscope_series_limit gauge
peerscope_series_limit{family="peerscope_asn_closed_connections_total"} 1000
peerscope_series_limit{family="peerscope_asn_received_bytes_total"} 1000
peerscope_series_limit{family="peerscope_asn_retransmitted_bytes_total"} 1000
peerscope_series_limit{family="peerscope_asn_round_trip_seconds"} 1000
peerscope_series_limit{family="peerscope_asn_sent_bytes_total"} 1000
peerscope_series_limit{family="peerscope_endpoint_received_bytes_total"} 1000
peerscope_series_limit{family="peerscope_endpoint_sent_bytes_total"} 1000
# HELP peerscope_series_folded Number of series of a metric family that are folded into "other" or, for info and timestamp families, left out.
# TYPE peerscope_series_folded gauge
peerscope_series_folded{family="peerscope_asn_closed_connections_total"} 9
peerscope_series_folded{family="peerscope_asn_received_bytes_total"} 9
peerscope_series_folded{family="peerscope_asn_retransmitted_bytes_total"} 9
peerscope_series_folded{family="peerscope_asn_round_trip_seconds"} 4
peerscope_series_folded{family="peerscope_asn_sent_bytes_total"} 9
peerscope_series_folded{family="peerscope_endpoint_received_bytes_total"} 0
peerscope_series_folded{family="peerscope_endpoint_sent_bytes_total"} 0
`;

describe('the families of the netlink collector', () => {
  it('are on the page with names of their ASNs and their series limit', async () => {
    expect(await renderFamilies(shown(familiesOf({ traffic: TRAFFIC, netlink: UP })), 'text')).toBe(PAGE);
  });

  it('pass promtool', async ({ skip }) => {
    const page = await renderFamilies(familiesOf({ traffic: TRAFFIC, netlink: UP }), 'text');
    expect(checkMetrics(needPromtool(skip), page)).toEqual({ status: 0, output: '' });
  });

  it('have units in OpenMetrics', async () => {
    const page =
      (await renderFamilies(shown(familiesOf({ traffic: TRAFFIC, netlink: UP })), 'openmetrics')) +
      endOf('openmetrics');
    expect(page.split('\n').filter((line) => line.startsWith('# UNIT'))).toEqual([
      '# UNIT peerscope_asn_sent_bytes bytes',
      '# UNIT peerscope_asn_received_bytes bytes',
      '# UNIT peerscope_asn_retransmitted_bytes bytes',
      '# UNIT peerscope_endpoint_sent_bytes bytes',
      '# UNIT peerscope_endpoint_received_bytes bytes',
      '# UNIT peerscope_asn_round_trip_seconds seconds',
    ]);
  });

  it.each<[situation: string, data: Partial<ScanData>, off: Collector[], expected: string[]]>([
    ['are absent without a source', {}, [], []],
    ['are absent without a source, even with counters', { traffic: TRAFFIC }, [], []],
    [
      'without bytes while the source is not connected',
      { traffic: TRAFFIC, netlink: { ...UP, isUp: false } },
      [],
      STATUS,
    ],
    ['without bytes before the first counters', { netlink: UP }, [], STATUS],
    ['are absent if the collector is off', { traffic: TRAFFIC, netlink: UP }, ['netlink'], []],
    [
      'by operator are absent without the asn collector',
      { traffic: TRAFFIC, netlink: UP },
      ['asn'],
      [...BYTES.filter((name) => name.startsWith('peerscope_endpoint_')), ...STATUS],
    ],
    [
      'by endpoint are absent without the endpoints collector',
      { traffic: TRAFFIC, netlink: UP },
      ['endpoints'],
      [...BYTES.filter((name) => name.startsWith('peerscope_asn_')), ...STATUS],
    ],
  ])('%s', (_situation, data, off, expected) => {
    const families = familiesOf(data, off);
    expect(namesOf(families).filter((name) => collectorOf(name) === 'netlink')).toEqual(expected);
    const budgets = families.find(({ name }) => name === 'peerscope_series_limit')?.samples ?? [];
    const limited = budgets.flatMap(({ labels }) => labels).filter((name) => collectorOf(name) === 'netlink');
    expect(limited.sort()).toEqual(expected.filter((name) => BYTES.includes(name)).sort());
  });

  it('say 0 while the source is not connected', async () => {
    const families = familiesOf({ netlink: { ...UP, scope: 'own', isUp: false } });
    const up = families.filter(({ name }) => name === 'peerscope_netlink_up');
    expect((await renderFamilies(up, 'text')).split('\n').at(-2)).toBe('peerscope_netlink_up{scope="own"} 0');
  });
});
