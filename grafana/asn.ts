import { dashboard, UIDS } from './dashboard.ts';
import { bars, drillDown, lines, map, stat, table, TARGETS } from './panels.ts';

const ONE = `${TARGETS}, asn="$asn"`;
const NONE = 'No connections to this network operator.';

export default dashboard({
  uid: UIDS.asn,
  title: 'Network operators (ASN)',
  description:
    'One network operator: who connects to it, since when, and in which direction. Also all network operators.',
  variables: [{ name: 'asn', of: `peerscope_asn_connections{${TARGETS}, asn!=""}`, single: true }],
  sections: [
    {
      heading: 'AS$asn',
      panels: [
        table(
          {
            title: 'Name',
            description:
              'The name of the operator and the country where it is registered. Its machines can be elsewhere. The table is empty if the recording rules are not loaded.',
            width: 8,
            height: 4,
          },
          { labels: ['as_name', 'as_country', 'asn'] },
          'group by (as_name, as_country, asn) (peerscope:asn_info{asn="$asn"})',
        ),
        stat(
          {
            title: 'Connections',
            description: 'Connections to addresses that the operator announces.',
            unit: 'short',
            noData: NONE,
            width: 4,
          },
          [`sum(peerscope_asn_connections{${ONE}})`, 'rows'],
        ),
        stat(
          {
            title: 'Workloads',
            description: 'Number of workloads with connections to the operator.',
            unit: 'short',
            noData: NONE,
            width: 4,
          },
          [`count(count by (namespace, workload, process) (peerscope_asn_connections{${ONE}}))`, 'workloads'],
        ),
        stat(
          {
            title: 'Hosts',
            description: 'Number of hosts with connections to the operator.',
            unit: 'short',
            noData: NONE,
            width: 4,
          },
          [`count(count by (instance) (peerscope_asn_connections{${ONE}}))`, 'hosts'],
        ),
        stat(
          {
            title: 'Known since',
            description: 'The earliest first-seen time of the workloads that are connected now.',
            unit: 'dateTimeFromNow',
            noData: 'No first-seen time is known.',
            width: 4,
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
            links: [drillDown('This workload', UIDS.owner, '__data.fields', ['process', 'workload', 'namespace'])],
          },
          {
            value: { name: 'First seen', unit: 'dateTimeFromNow' },
            labels: ['process', 'workload', 'namespace', 'direction', 'instance'],
          },
          `1000 * min by (process, namespace, workload, direction, instance) (peerscope_asn_first_seen_timestamp_seconds{${ONE}})`,
        ),
        lines(
          {
            title: 'By workload',
            description: 'Connections by workload and direction.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [
            `sum by (process, workload, direction) (peerscope_asn_connections{${ONE}})`,
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
            description: 'Connections by host.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [`sum by (instance) (peerscope_asn_connections{${ONE}})`, '{{instance}}'],
        ),
      ],
    },
    {
      heading: 'All network operators',
      panels: [
        bars(
          {
            title: 'Top 20',
            description: 'The network operators with the most connections, by direction.',
            unit: 'short',
            noData: 'No connections to public addresses.',
            width: 12,
            height: 12,
            links: [drillDown('Connections to AS${__field.labels.asn}', UIDS.asn, '__field.labels', ['asn'])],
          },
          [
            `topk(20, sum by (asn, direction) (peerscope_asn_connections{${TARGETS}, asn!=""})) * on (asn) group_left (as_name) peerscope:asn_info`,
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
          `sum by (as_country) (peerscope_asn_connections{${TARGETS}, asn!=""} * on (asn) group_left (as_country) peerscope:asn_info{as_country!=""})`,
        ),
        lines(
          {
            title: 'Number of operators',
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
