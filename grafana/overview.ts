import { dashboard, UIDS } from './dashboard.ts';
import { bars, drillDown, lines, stat, table, TARGETS } from './panels.ts';

const NO_CONNECTIONS = 'No connections: is peerscope scraped?';
const NO_RULES = 'No data: are the recording rules loaded?';
const TO_ASN = [drillDown('Who talks to AS${__field.labels.asn}', UIDS.asn, '__field.labels', ['asn'])];
const TO_OWNER = [
  drillDown('${__field.labels.process}', UIDS.owner, '__field.labels', ['process', 'workload', 'namespace']),
];

/** What an alert is about, in the order of reading: no alert has all of them. */
const ALERT_LABELS = [
  'alertname',
  'severity',
  'instance',
  'process',
  'workload',
  'namespace',
  'pod',
  'as_name',
  'asn',
  'as_country',
  'direction',
  'network',
  'endpoint_group',
  'local_port',
  'collector',
  'family',
  'provider',
  'reason',
  'resource',
  'source',
  'store',
  'cluster',
  'job',
] as const;

export default dashboard({
  uid: UIDS.overview,
  title: 'Overview',
  description:
    'Who the hosts of a fleet talk to: totals, top processes and network operators, what is new, and what alerts.',
  sections: [
    {
      heading: 'Now',
      panels: [
        stat(
          {
            title: 'Hosts',
            description: 'Exporters that were scraped.',
            unit: 'short',
            noData: 'No exporter is scraped.',
            width: 4,
          },
          [`count(peerscope_build_info{${TARGETS}})`, 'hosts'],
        ),
        stat(
          {
            title: 'Socket rows',
            description: 'All rows of all socket tables, listeners and TIME_WAIT too.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 4,
          },
          [`sum(peerscope_connections{${TARGETS}})`, 'rows'],
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
          [`sum by (direction) (peerscope_connections{${TARGETS}})`, '{{direction}}'],
        ),
        stat(
          {
            title: 'Network operators',
            description: 'How many different ASNs are at the other end of a connection.',
            unit: 'short',
            noData: 'None is known.',
            width: 4,
          },
          [`count(count by (asn) (peerscope_asn_connections{${TARGETS}, asn!~"|0|other"}))`, 'ASNs'],
        ),
        stat(
          {
            title: 'Coverage',
            description:
              'New TCP connections that scans saw, by those that the kernel counted, on average over the hosts: what is missing was too short for the scrape interval.',
            unit: 'percentunit',
            noData: 'No TCP connection was opened.',
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
            title: 'Alerts that fire',
            description:
              'Alerts of deploy/prometheus that fire now, and what they are about. The table is empty if none fires, or if the alerts are not loaded. docs/runbooks says what to do.',
            width: 24,
          },
          { labels: ALERT_LABELS },
          `group by (${ALERT_LABELS.join(', ')}) (ALERTS{alertname=~"Peerscope.+", alertstate="firing", cluster=~"$cluster", job=~"$job|", instance=~"$instance|"})`,
        ),
        lines(
          {
            title: 'Alerts over time',
            description: 'How many alerts of each name fire.',
            unit: 'short',
            noData: 'No alert has fired.',
            width: 24,
            height: 6,
          },
          [
            'count by (alertname) (ALERTS{alertname=~"Peerscope.+", alertstate="firing", cluster=~"$cluster", job=~"$job|", instance=~"$instance|"})',
            '{{alertname}}',
          ],
        ),
      ],
    },
    {
      heading: 'Who',
      panels: [
        bars(
          {
            title: 'Top 10 processes',
            description: 'The processes with the most socket rows. A click leads to one of them.',
            unit: 'short',
            noData: NO_CONNECTIONS,
            width: 12,
            height: 10,
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
              'The ASNs with the most connections; "other" is what peerscope folded. A click leads to those who talk to one of them.',
            unit: 'short',
            noData: NO_RULES,
            width: 12,
            height: 10,
            links: TO_ASN,
          },
          [
            `topk(10, sum by (asn) (peerscope_asn_connections{${TARGETS}, asn!=""})) * on (asn) group_left (as_name) peerscope:asn_info`,
            'AS{{asn}} {{as_name}}',
          ],
        ),
        table(
          {
            title: 'New peers in the last day',
            description:
              'Network operators that a workload met for the first time within 24 hours, and that are present or were learned within the hour. On the first day all are new. The table is empty if no workload met a new one. A click leads to those who talk to it.',
            width: 24,
            height: 10,
            links: [drillDown('Who talks to it', UIDS.asn, '__data.fields', ['asn'])],
          },
          {
            value: { name: 'First seen', unit: 'dateTimeFromNow' },
            labels: ['as_name', 'asn', 'direction', 'process', 'workload', 'namespace'],
          },
          `1000 * min by (process, namespace, workload, direction, asn) (peerscope_asn_first_seen_timestamp_seconds{${TARGETS}} > time() - 86400) * on (asn) group_left (as_name) peerscope:asn_info`,
        ),
      ],
    },
    {
      heading: 'Over time',
      panels: [
        lines(
          {
            title: 'Rows by direction',
            description: 'Socket rows, by who opened the connection.',
            unit: 'short',
            noData: NO_RULES,
            width: 12,
          },
          [`sum by (direction) (peerscope:connections:sum{${TARGETS}})`, '{{direction}}'],
        ),
        lines(
          {
            title: 'Rows by state',
            description: 'Socket rows, by the state of TCP; UDP without a peer is unconnected.',
            unit: 'short',
            noData: NO_RULES,
            width: 12,
          },
          [`sum by (state) (peerscope:connections:sum{${TARGETS}})`, '{{state}}'],
        ),
        lines(
          {
            title: 'Opened and closed',
            description:
              'Connections that scans saw come and go. Those that live shorter than the scrape interval are missed: see coverage.',
            unit: 'cps',
            noData: 'Two scrapes are needed.',
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
            description: 'Rows with a remote address, by the kind of network that it is in.',
            unit: 'short',
            noData: NO_RULES,
            width: 12,
          },
          [`sum by (network) (peerscope:network_connections:sum{${TARGETS}})`, '{{network}}'],
        ),
        lines(
          {
            title: 'Opened according to the kernel',
            description: 'TCP connections that the kernel counted, of all network namespaces: none is missed.',
            unit: 'cps',
            noData: 'Two scrapes are needed.',
            width: 12,
          },
          [`sum(rate(peerscope_tcp_active_opens_total{${TARGETS}}[$__rate_interval]))`, 'opened from here'],
          [`sum(rate(peerscope_tcp_passive_opens_total{${TARGETS}}[$__rate_interval]))`, 'accepted here'],
          [`sum(rate(peerscope_tcp_attempt_fails_total{${TARGETS}}[$__rate_interval]))`, 'failed to open'],
        ),
        lines(
          {
            title: 'Trouble according to the kernel',
            description:
              'Segments sent again, connections dropped because an accept queue was full, datagrams dropped because a receive buffer was full.',
            unit: 'cps',
            noData: 'Two scrapes are needed.',
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
            description: 'The lowest of all hosts: where it is low, connections are shorter than the scrape interval.',
            unit: 'percentunit',
            noData: 'No TCP connection was opened.',
            width: 24,
            height: 6,
          },
          [`min by (instance) (peerscope_connection_coverage_ratio{${TARGETS}})`, '{{instance}}'],
        ),
      ],
    },
  ],
});
