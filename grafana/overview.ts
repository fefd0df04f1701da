import { dashboard, UIDS } from './dashboard.ts';
import { ASN_LINK, OWNER_LINK, RUNBOOK, TO_OPERATOR, TO_OWNER } from './links.ts';
import { ALERTS, bars, drillDown, lines, MOST_LINES, named, stat, table, TARGETS } from './panels.ts';
import { NO_TRAFFIC, operators, workloads } from './traffic.ts';

const NO_CONNECTIONS = 'No data. Check that Prometheus scrapes peerscope.';

/** The labels of alerts, in reading order. No alert has all of them. */
const ALERT_LABELS = [
  'alertname',
  'severity',
  'namespace',
  'workload',
  'process',
  'instance',
  'owner',
  'kind',
  'what',
  'asn',
  'direction',
  'family',
  'collector',
  'network',
  'local_port',
  'pod',
  'provider',
  'reason',
  'resource',
  'source',
  'store',
  'cluster',
  'job',
] as const;

const ALERT_LABEL_LIST = ALERT_LABELS.join(', ');
/** The counters have a series for each pod: a point for each five minutes would cost the fleet seconds. */
const KERNEL_INTERVAL = '15m';
const BY_NAMESPACE = 'sum by (cluster, namespace)';

export default dashboard({
  uid: UIDS.overview,
  title: 'Overview',
  description:
    'Connections of the fleet: totals, alerts, namespaces, top processes and network operators, and new peers.',
  choosesDirection: true,
  sections: [
    {
      heading: 'Now',
      panels: [
        stat(
          {
            title: 'Hosts',
            description: 'Number of exporters that Prometheus scrapes.',
            unit: 'short',
            noData: 'No exporter is scraped.',
            width: 4,
          },
          [`count(peerscope_build_info{${TARGETS}})`, 'hosts'],
        ),
        stat(
          {
            title: 'Socket rows',
            description: 'All rows of all socket tables, including listeners and TIME_WAIT.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 4,
          },
          [`sum(peerscope_sockets{${TARGETS}})`, 'rows'],
        ),
        stat(
          {
            title: 'By direction',
            description:
              'inbound: accepted here; outbound: opened here; loopback: both ends in the same network namespace.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 8,
          },
          [`sum by (direction) (peerscope_sockets{${TARGETS}})`, '{{direction}}'],
        ),
        stat(
          {
            title: 'Network operators',
            description: 'Number of distinct ASNs that the exporters report.',
            unit: 'short',
            noData: 'No ASN is known.',
            width: 4,
          },
          [`count(group by (asn) (peerscope_asn_info{${TARGETS}, asn!~"|0|other"}))`, 'ASNs'],
        ),
        stat(
          {
            title: 'Coverage',
            description:
              'Share of the new TCP connections counted by the kernel that scans saw, averaged over the hosts. The rest was shorter than the scrape interval.',
            unit: 'percentunit',
            noData: 'No TCP connections were opened.',
            width: 4,
          },
          [`avg(peerscope_connection_coverage_ratio{${TARGETS}})`, 'seen'],
        ),
      ],
    },
    {
      heading: 'Alerts',
      panels: [
        table(
          {
            title: 'Firing alerts',
            description:
              'Firing alerts of deploy/prometheus with their labels. The table is empty if no alert fires or if the alerts are not loaded. docs/runbooks describes each alert.',
            width: 24,
          },
          {
            values: [
              {
                name: 'Since',
                unit: 'dateTimeFromNow',
                expr: `1000 * max by (${ALERT_LABEL_LIST}) (ALERTS_FOR_STATE{alertname=~"Peerscope.+", cluster=~"$cluster|", job=~"$job|", instance=~"$instance|"}) and on (${ALERT_LABEL_LIST}) ${ALERTS}`,
              },
            ],
            labels: ALERT_LABELS,
            links: { alertname: RUNBOOK, process: OWNER_LINK, workload: OWNER_LINK, asn: ASN_LINK },
          },
        ),
        lines(
          {
            title: 'Alerts over time',
            description: 'Number of firing alerts by name.',
            unit: 'short',
            noData: 'No alerts have fired.',
            width: 24,
            height: 6,
          },
          [`topk(${MOST_LINES}, count by (alertname) (${ALERTS}))`, '{{alertname}}'],
        ),
      ],
    },
    {
      heading: 'Namespaces',
      panels: [
        table(
          {
            title: 'Namespaces',
            description:
              'Connections, connections to public addresses and bytes sent of each namespace. Processes on hosts have none. Click a namespace for its service map.',
            width: 24,
          },
          {
            values: [
              { name: 'Connections', unit: 'short', expr: `${BY_NAMESPACE} (peerscope_asn_connections{${TARGETS}})` },
              {
                name: 'To public addresses',
                unit: 'short',
                expr: `${BY_NAMESPACE} (peerscope_asn_connections{${TARGETS}, network="public", direction="outbound"})`,
              },
              {
                name: 'Sent',
                unit: 'binBps',
                expr: `${BY_NAMESPACE} (peerscope:workload_sent_bytes:rate1h{${TARGETS}})`,
              },
            ],
            labels: ['namespace', 'cluster'],
            links: { namespace: drillDown('Service map of this namespace', UIDS.map, '__data.fields', ['namespace']) },
            empty: { namespace: '(hosts)' },
          },
        ),
      ],
    },
    {
      heading: 'New peers',
      panels: [
        table(
          {
            title: 'New peers in the last day',
            description:
              'Network operators that a workload first met within the past 24 hours and that are connected now, or that it first met within the past hour. On the first day, all are new. The table is empty if there are none. Click an ASN for its dashboard.',
            width: 24,
            height: 10,
          },
          {
            values: [
              {
                name: 'First seen',
                unit: 'dateTimeFromNow',
                expr: `1000 * ${named(`(min by (cluster, process, namespace, workload, direction, asn) (peerscope_asn_first_seen_timestamp_seconds{${TARGETS}, direction=~"$direction"}) > time() - 86400)`)}`,
              },
            ],
            labels: ['as_name', 'asn', 'direction', 'process', 'workload', 'namespace', 'cluster'],
            links: { asn: ASN_LINK, as_name: ASN_LINK, process: OWNER_LINK, workload: OWNER_LINK },
          },
        ),
      ],
    },
    {
      heading: 'Top processes and network operators',
      isCollapsed: true,
      panels: [
        bars(
          {
            title: 'Top 10 processes',
            description: 'The processes with the most socket rows. Click a process for its dashboard.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 12,
            height: 12,
            links: TO_OWNER,
          },
          [
            `topk(10, sum by (process, namespace, workload) (peerscope_connections{${TARGETS}}))`,
            '{{process}} {{namespace}} {{workload}}',
          ],
        ),
        bars(
          {
            title: 'Top 10 network operators',
            description:
              'The ASNs with the most connections. "other" contains folded series. Click an ASN for its dashboard.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 12,
            height: 12,
            links: TO_OPERATOR,
          },
          [
            `topk(10, sum by (asn, as_name) (${named(`sum by (cluster, asn) (peerscope_asn_connections{${TARGETS}, asn!=""})`)}))`,
            'AS{{asn}} {{as_name}}',
          ],
        ),
      ],
    },
    {
      heading: 'Traffic',
      isCollapsed: true,
      panels: [
        bars(
          {
            title: 'Top 10 operators by bytes sent',
            description:
              'Bytes a second sent to each network operator in the last hour. It needs netlink sockets: see docs/traffic.md. The dashboard Traffic has more.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
            links: TO_OPERATOR,
          },
          operators(10, 'sent'),
        ),
        bars(
          {
            title: 'Top 10 processes by bytes sent',
            description:
              'Bytes a second that each process sent over the network in the last hour, without loopback. It needs netlink sockets: see docs/traffic.md.',
            unit: 'binBps',
            noData: NO_TRAFFIC,
            width: 12,
            height: 12,
            links: TO_OWNER,
          },
          workloads(10, 'sent'),
        ),
      ],
    },
    {
      heading: 'Over time',
      isCollapsed: true,
      panels: [
        lines(
          {
            title: 'Rows by direction',
            description: 'Socket rows by direction.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 12,
          },
          [`sum by (direction) (peerscope_sockets{${TARGETS}})`, '{{direction}}'],
        ),
        lines(
          {
            title: 'Rows by state',
            description: 'Socket rows by TCP state. UDP sockets without a peer are unconnected.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 12,
          },
          [`sum by (state) (peerscope_sockets{${TARGETS}})`, '{{state}}'],
        ),
        lines(
          {
            title: 'Opened and closed',
            description:
              'Connections that scans saw open and close. Scans miss connections that are shorter than the scrape interval: see Coverage.',
            unit: 'cps',
            noData: 'Needs two scrapes.',
            width: 12,
          },
          [
            `sum by (direction) (rate(peerscope_connections_opened_total{${TARGETS}}[$__rate_interval]))`,
            'opened {{direction}}',
          ],
          [
            `-sum by (direction) (rate(peerscope_connections_closed_total{${TARGETS}}[$__rate_interval]))`,
            'closed {{direction}}',
          ],
        ),
        lines(
          {
            title: 'By network',
            description: 'Connections by the network of the remote address.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 12,
          },
          [`sum by (network) (peerscope_sockets{${TARGETS}, direction!="listen"})`, '{{network}}'],
        ),
      ],
    },
    {
      heading: 'Kernel counters and coverage',
      isCollapsed: true,
      panels: [
        lines(
          {
            title: 'Opened (kernel counters)',
            interval: KERNEL_INTERVAL,
            description: 'TCP connections in all network namespaces, as counted by the kernel.',
            unit: 'cps',
            noData: 'Needs two scrapes.',
            width: 12,
          },
          [`sum(rate(peerscope_tcp_active_opens_total{${TARGETS}}[$__rate_interval]))`, 'opened from here'],
          [`sum(rate(peerscope_tcp_passive_opens_total{${TARGETS}}[$__rate_interval]))`, 'accepted here'],
          [`sum(rate(peerscope_tcp_attempt_fails_total{${TARGETS}}[$__rate_interval]))`, 'failed to open'],
        ),
        lines(
          {
            title: 'Errors (kernel counters)',
            interval: KERNEL_INTERVAL,
            description:
              'Retransmitted segments, connections dropped because an accept queue was full, and datagrams dropped because a receive buffer was full.',
            unit: 'cps',
            noData: 'Needs two scrapes.',
            width: 12,
          },
          [
            `sum(rate(peerscope_tcp_retransmitted_segments_total{${TARGETS}}[$__rate_interval]))`,
            'segments sent again',
          ],
          [`sum(rate(peerscope_tcp_listen_overflows_total{${TARGETS}}[$__rate_interval]))`, 'accept queue full'],
          [`sum(rate(peerscope_udp_receive_buffer_errors_total{${TARGETS}}[$__rate_interval]))`, 'receive buffer full'],
        ),
        lines(
          {
            title: 'Coverage',
            description:
              'The 20 hosts with the lowest coverage. A low value means that connections are shorter than the scrape interval.',
            unit: 'percentunit',
            noData: 'No TCP connections were opened.',
            width: 24,
            height: 6,
          },
          [
            `bottomk(${MOST_LINES}, min by (cluster, instance) (peerscope_connection_coverage_ratio{${TARGETS}}))`,
            '{{instance}} {{cluster}}',
          ],
        ),
      ],
    },
  ],
});
