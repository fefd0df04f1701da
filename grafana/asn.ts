import { dashboard, UIDS } from './dashboard.ts';
import { OWNER_LINK, TO_OPERATOR } from './links.ts';
import { bars, lines, map, MOST_LINES, named, stat, table, TARGETS } from './panels.ts';

const ONE = `${TARGETS}, asn="$asn"`;
const NONE = 'No connections to this network operator.';

export default dashboard({
  uid: UIDS.asn,
  title: 'Network operators (ASN)',
  description:
    'One network operator: who connects to it, since when, and in which direction. Also all network operators.',
  variables: [
    {
      name: 'asn',
      of: `peerscope_asn_connections{${TARGETS}, asn!=""}`,
      single: true,
      rankedBy: `sum by (asn) (peerscope_asn_connections{${TARGETS}, asn!~"|0|other"})`,
    },
  ],
  sections: [
    {
      heading: 'AS$asn',
      panels: [
        table(
          {
            title: 'Names',
            description:
              'The name of the operator, the country where it is registered, and the number of hosts that report the name. Its machines can be elsewhere.',
            width: 12,
            height: 4,
          },
          {
            values: [
              {
                name: 'Hosts',
                unit: 'short',
                expr: `count by (as_name, as_country, cluster) (peerscope_asn_info{${ONE}})`,
              },
            ],
            labels: ['as_name', 'as_country', 'cluster'],
          },
        ),
        stat(
          {
            title: 'Connections',
            description: 'Connections to addresses that the operator announces.',
            unit: 'short',
            noData: NONE,
            width: 3,
          },
          [`sum(peerscope_asn_connections{${ONE}})`, 'rows'],
        ),
        stat(
          {
            title: 'Workloads',
            description: 'Number of workloads with connections to the operator.',
            unit: 'short',
            noData: NONE,
            width: 3,
          },
          [`count(count by (namespace, workload, process) (peerscope_asn_connections{${ONE}}))`, 'workloads'],
        ),
        stat(
          {
            title: 'Hosts',
            description: 'Number of hosts with connections to the operator.',
            unit: 'short',
            noData: NONE,
            width: 3,
          },
          [`count(count by (instance) (peerscope_asn_connections{${ONE}}))`, 'hosts'],
        ),
        stat(
          {
            title: 'Known since',
            description: 'The earliest first-seen time of the workloads that are connected now.',
            unit: 'dateTimeFromNow',
            noData: 'No first-seen time is known.',
            width: 3,
          },
          [`1000 * min(peerscope_asn_first_seen_timestamp_seconds{${ONE}})`, 'first seen'],
        ),
      ],
    },
    {
      heading: 'Connections to AS$asn',
      panels: [
        table(
          {
            title: 'Workloads by first-seen time',
            description:
              'When each workload first met the operator. It shows workloads that are connected now, and those that first met it within the past hour. The table is empty if there are none. Click a workload for its dashboard.',
            width: 12,
          },
          {
            values: [
              {
                name: 'First seen',
                unit: 'dateTimeFromNow',
                expr: `1000 * min by (process, namespace, workload, direction, instance, cluster) (peerscope_asn_first_seen_timestamp_seconds{${ONE}})`,
              },
            ],
            labels: ['process', 'workload', 'namespace', 'direction', 'instance', 'cluster'],
            links: { process: OWNER_LINK, workload: OWNER_LINK },
          },
        ),
        lines(
          {
            title: 'By workload',
            description: 'Connections of the 20 workloads with the most, by direction.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (process, workload, direction) (peerscope_asn_connections{${ONE}}))`,
            '{{direction}} {{process}} {{workload}}',
          ],
        ),
        lines(
          {
            title: 'By state',
            description: 'Connections by TCP state. Many in syn_sent means that the operator does not answer.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [`sum by (state) (peerscope_asn_connections{${ONE}})`, '{{state}}'],
        ),
        lines(
          {
            title: 'By host',
            description: 'Connections of the 20 hosts with the most.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (instance, cluster) (peerscope_asn_connections{${ONE}}))`,
            '{{instance}} {{cluster}}',
          ],
        ),
      ],
    },
    {
      heading: 'All network operators',
      isCollapsed: true,
      panels: [
        bars(
          {
            title: 'Top 20',
            description: 'The network operators with the most connections, by direction.',
            unit: 'short',
            noData: 'No connections to public addresses.',
            width: 12,
            height: 12,
            links: TO_OPERATOR,
          },
          [
            `topk(20, sum by (asn, as_name, direction) (${named(`sum by (cluster, asn, direction) (peerscope_asn_connections{${TARGETS}, asn!=""})`)}))`,
            '{{direction}} AS{{asn}} {{as_name}}',
          ],
        ),
        map(
          {
            title: 'Map of network operators',
            description:
              'Connections by the country where the operator is registered. Its machines can be elsewhere. The background map comes from the map server of this Grafana.',
            unit: 'short',
            noData: 'No operator with a known country.',
            width: 12,
            height: 12,
          },
          'as_country',
          `sum by (as_country) (${named(`sum by (cluster, asn) (peerscope_asn_connections{${TARGETS}, asn!=""})`, 'as_country', ', as_country!=""')})`,
        ),
        lines(
          {
            title: 'Number of operators',
            interval: '5m',
            description: 'Number of distinct ASNs with connections, by direction.',
            unit: 'short',
            noData: 'No connections to public addresses.',
            width: 24,
          },
          [
            `count by (direction) (count by (direction, asn) (peerscope_asn_connections{${TARGETS}, asn!~"|0|other"}))`,
            '{{direction}}',
          ],
        ),
      ],
    },
  ],
});
