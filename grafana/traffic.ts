import { dashboard, UIDS } from './dashboard.ts';
import { TO_OPERATOR, TO_OWNER } from './links.ts';
import { bars, lines, MOST_LINES, named, stat, TARGETS } from './panels.ts';

/** Panels are empty where peerscope reads only procfs. */
export const NO_TRAFFIC = 'No data. Bytes need netlink sockets: see docs/traffic.md.';

/** A point for lines that are averages over an hour. */
const HOURLY_INTERVAL = '5m';

const OPERATOR = `{${TARGETS}, asn!=""}`;

/** The operators with the highest rate of an hour. */
export const operators = (count: number, direction: 'sent' | 'received'): readonly [expr: string, legend: string] => [
  `topk(${count}, sum by (asn, as_name) (${named(`sum by (cluster, asn) (peerscope:asn_${direction}_bytes:rate1h${OPERATOR})`)}))`,
  'AS{{asn}} {{as_name}}',
];

/** The processes with the highest rate of an hour. */
export const workloads = (count: number, direction: 'sent' | 'received'): readonly [expr: string, legend: string] => [
  `topk(${count}, sum by (process, namespace, workload) (peerscope:workload_${direction}_bytes:rate1h{${TARGETS}}))`,
  '{{process}} {{namespace}} {{workload}}',
];

const endpoints = (direction: 'sent' | 'received'): readonly [expr: string, legend: string] => [
  `topk(20, sum by (endpoint_group, direction) (peerscope:endpoint_${direction}_bytes:rate1h{${TARGETS}}))`,
  '{{direction}} {{endpoint_group}}',
];

/** Retransmitted bytes as a share of all bytes that were sent, by these labels. */
const retransmitted = (matchers: string, by: string, above: number): string => {
  const rate = (name: string): string => `sum${by} (peerscope:asn_${name}_bytes:rate1h{${TARGETS}${matchers}})`;
  return `${rate('retransmitted')} / (${rate('sent')} + ${rate('retransmitted')} > ${above})`;
};

const roundTrip = (matchers: string, by: string): string => {
  const rate = (name: string): string =>
    `sum${by} (peerscope:asn_round_trip_seconds_${name}:rate1h{${TARGETS}${matchers}})`;
  return `${rate('sum')} / (${rate('count')} > 0)`;
};

export default dashboard({
  uid: UIDS.traffic,
  title: 'Traffic',
  description:
    'Bytes, retransmissions, round-trip times and ended connections by network operator, workload and endpoint. It needs netlink sockets: see docs/traffic.md.',
  sections: [
    {
      heading: 'Last hour',
      panels: [
        stat(
          {
            title: 'Sent',
            description: 'Bytes a second that all processes sent over the network, on average over the last hour.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 4,
          },
          [`sum(peerscope:workload_sent_bytes:rate1h{${TARGETS}})`, 'sent'],
        ),
        stat(
          {
            title: 'Received',
            description: 'Bytes a second that all processes received over the network, on average over the last hour.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 4,
          },
          [`sum(peerscope:workload_received_bytes:rate1h{${TARGETS}})`, 'received'],
        ),
        stat(
          {
            title: 'Retransmitted',
            description: 'Retransmitted bytes as a share of all bytes that were sent to public networks.',
            unit: 'percentunit',
            noData: NO_TRAFFIC,
            width: 4,
          },
          [retransmitted(', network="public"', '', 0), 'retransmitted'],
        ),
        stat(
          {
            title: 'Round trip',
            description: 'Mean of the smallest round-trip time of each connection to public networks.',
            unit: 's',
            noData: NO_TRAFFIC,
            width: 4,
          },
          [roundTrip(', network="public"', ''), 'round trip'],
        ),
        stat(
          {
            title: 'Hosts with netlink sockets',
            description:
              'Exporters that read netlink sockets, by scope. own: the sockets of one network namespace. all: also the ended connections of all pods on veth. docs/traffic.md describes how to turn it on.',
            unit: 'short',
            noData: 'No exporter reads netlink sockets.',
            width: 4,
          },
          [`sum by (scope) (peerscope_netlink_up{${TARGETS}})`, '{{scope}}'],
        ),
        stat(
          {
            title: 'Coverage',
            description:
              'The lowest share of new TCP connections that an exporter saw. With netlink sockets, it is 100%.',
            unit: 'percentunit',
            noData: 'No TCP connections were opened.',
            width: 4,
          },
          [`min(peerscope_connection_coverage_ratio{${TARGETS}})`, 'seen'],
        ),
      ],
    },
    {
      heading: 'Network operators',
      panels: [
        bars(
          {
            title: 'Sent to operators',
            description:
              'Bytes a second sent to the top 20 network operators in the last hour. Bytes of pods count when a connection ends. Click an ASN for its dashboard.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
            links: TO_OPERATOR,
          },
          operators(20, 'sent'),
        ),
        bars(
          {
            title: 'Received from operators',
            description:
              'Bytes a second received from the top 20 network operators in the last hour. Bytes of pods count when a connection ends.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
            links: TO_OPERATOR,
          },
          operators(20, 'received'),
        ),
        bars(
          {
            title: 'Retransmitted by operator',
            description:
              'Retransmitted bytes as a share of the bytes sent to a network operator in the last hour, without operators that got less than 100 bytes a second.',
            unit: 'percentunit',
            noData: NO_TRAFFIC,
            width: 8,
            height: 12,
            links: TO_OPERATOR,
          },
          [
            `topk(20, ${named(retransmitted(', asn!=""', ' by (cluster, asn)', 100))})`,
            'AS{{asn}} {{as_name}} {{cluster}}',
          ],
        ),
        bars(
          {
            title: 'Round trip by operator',
            description:
              'Mean of the smallest round-trip time of each connection in the last hour, for the 20 slowest network operators.',
            unit: 's',
            noData: NO_TRAFFIC,
            width: 8,
            height: 12,
            links: TO_OPERATOR,
          },
          [`topk(20, ${named(roundTrip(', asn!=""', ' by (cluster, asn)'))})`, 'AS{{asn}} {{as_name}} {{cluster}}'],
        ),
        bars(
          {
            title: 'Ended connections by operator',
            description:
              'Connections a second that ended, however short, for the top 20 network operators. It needs netlink sockets.',
            unit: 'cps',
            noData: NO_TRAFFIC,
            width: 8,
            height: 12,
            links: TO_OPERATOR,
          },
          [
            `topk(20, sum by (asn, as_name, direction) (${named(`sum by (cluster, asn, direction) (rate(peerscope_asn_closed_connections_total${OPERATOR}[$__rate_interval]))`)}))`,
            '{{direction}} AS{{asn}} {{as_name}}',
          ],
        ),
      ],
    },
    {
      heading: 'Workloads and endpoints',
      panels: [
        bars(
          {
            title: 'Sent by workload',
            description:
              'Bytes a second that the top 20 processes sent over the network in the last hour, without loopback. Bytes of pods count when a connection ends. Click a process for its dashboard.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
            links: TO_OWNER,
          },
          workloads(20, 'sent'),
        ),
        bars(
          {
            title: 'Received by workload',
            description:
              'Bytes a second that the top 20 processes received over the network in the last hour, without loopback. Bytes of pods count when a connection ends.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
            links: TO_OWNER,
          },
          workloads(20, 'received'),
        ),
        bars(
          {
            title: 'Sent by endpoint',
            description:
              'Bytes a second sent on connections of the top 20 services in the last hour: the local service for inbound, the remote service for outbound connections.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
          },
          endpoints('sent'),
        ),
        bars(
          {
            title: 'Received by endpoint',
            description: 'Bytes a second received on connections of the top 20 services in the last hour.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
          },
          endpoints('received'),
        ),
      ],
    },
    {
      heading: 'Over time',
      isCollapsed: true,
      panels: [
        lines(
          {
            title: 'Hosts',
            description:
              'Bytes a second of processes outside Kubernetes pods, over the network, without loopback. Sent is above zero, received below.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
          },
          [
            `sum by (direction) (rate(peerscope_asn_sent_bytes_total{${TARGETS}, namespace="", direction!="loopback"}[$__rate_interval]))`,
            'sent {{direction}}',
          ],
          [
            `-sum by (direction) (rate(peerscope_asn_received_bytes_total{${TARGETS}, namespace="", direction!="loopback"}[$__rate_interval]))`,
            'received {{direction}}',
          ],
        ),
        lines(
          {
            title: 'Pods by namespace',
            interval: HOURLY_INTERVAL,
            description:
              'Bytes a second that pods sent over the network, on average over one hour, because bytes of pods count when a connection ends.',
            unit: 'binBps',
            noData: 'No bytes of pods. They need the component traffic: see docs/traffic.md.',
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (namespace) (peerscope:workload_sent_bytes:rate1h{${TARGETS}, namespace!=""}))`,
            'sent {{namespace}}',
          ],
        ),
        lines(
          {
            title: 'Ended connections',
            description:
              'TCP connections a second that ended, by direction. With netlink sockets, all of them, however short; otherwise those that scans saw.',
            unit: 'cps',
            noData: 'Needs two scrapes.',
            width: 12,
          },
          [
            `sum by (direction) (rate(peerscope_connections_closed_total{${TARGETS}, transport="tcp"}[$__rate_interval]))`,
            '{{direction}}',
          ],
        ),
        lines(
          {
            title: 'Retransmitted by network',
            interval: HOURLY_INTERVAL,
            description: 'Retransmitted bytes as a share of the bytes that were sent, on average over one hour.',
            unit: 'percentunit',
            noData: NO_TRAFFIC,
            width: 12,
          },
          [retransmitted('', ' by (network)', 0), '{{network}}'],
        ),
        lines(
          {
            title: 'Round trip by network',
            interval: HOURLY_INTERVAL,
            description: 'Mean of the smallest round-trip time of each connection, over one hour.',
            unit: 's',
            noData: NO_TRAFFIC,
            width: 12,
          },
          [roundTrip('', ' by (network)'), '{{network}}'],
        ),
        lines(
          {
            title: 'Netlink',
            description:
              'Ended connections that the kernel reported, how often a full buffer lost some of them, and connections that ended without totals.',
            unit: 'cps',
            noData: NO_TRAFFIC,
            width: 12,
          },
          [`sum by (scope) (rate(peerscope_socket_events_total{${TARGETS}}[$__rate_interval]))`, 'reported {{scope}}'],
          [
            `sum by (scope) (rate(peerscope_socket_event_overruns_total{${TARGETS}}[$__rate_interval]))`,
            'buffer full {{scope}}',
          ],
          [
            `sum(rate(peerscope_connections_closed_without_totals_total{${TARGETS}}[$__rate_interval]))`,
            'without totals',
          ],
        ),
      ],
    },
  ],
});
