import { dashboard, UIDS } from './dashboard.ts';
import { bars, drillDown, lines, map, stat, table, TARGETS } from './panels.ts';

const ONE = `${TARGETS}, asn="$asn"`;
const NONE = 'Nobody talks to this network operator.';

export default dashboard({
  uid: UIDS.asn,
  title: 'Network operators (ASN)',
  description: 'One network operator: who talks to it, since when and in which direction; and all operators beside it.',
  variables: [{ name: 'asn', of: `peerscope_asn_connections{${TARGETS}, asn!=""}`, single: true }],
  sections: [
    {
      heading: 'AS$asn',
      panels: [
        table(
          {
            title: 'Name',
            description:
              'Its name and the country where it is registered, which need not be where its machines are. The table is empty if the recording rules are not loaded.',
            width: 8,
            height: 4,
          },
          { labels: ['as_name', 'as_country', 'asn'] },
          'group by (as_name, as_country, asn) (peerscope:asn_info{asn="$asn"})',
        ),
        stat(
          {
            title: 'Connections',
            description: 'Rows whose remote address it announces.',
            unit: 'short',
            noData: NONE,
            width: 4,
          },
          [`sum(peerscope_asn_connections{${ONE}})`, 'rows'],
        ),
        stat(
          { title: 'Workloads', description: 'How many workloads talk to it.', unit: 'short', noData: NONE, width: 4 },
          [`count(count by (namespace, workload, process) (peerscope_asn_connections{${ONE}}))`, 'workloads'],
        ),
        stat({ title: 'Hosts', description: 'How many hosts talk to it.', unit: 'short', noData: NONE, width: 4 }, [
          `count(count by (instance) (peerscope_asn_connections{${ONE}}))`,
          'hosts',
        ]),
        stat(
          {
            title: 'Known since',
            description: 'When the first of those who talk to it now met it.',
            unit: 'dateTimeFromNow',
            noData: 'No first time is known.',
            width: 4,
          },
          [`1000 * min(peerscope_asn_first_seen_timestamp_seconds{${ONE}})`, 'first seen'],
        ),
      ],
    },
    {
      heading: 'Who talks to AS$asn',
      panels: [
        table(
          {
            title: 'Who, since when, in which direction',
            description:
              'When each workload first met it: those that do now, and those that are new since an hour. The table is empty if nobody does. A click leads to one of them.',
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
            description: 'Rows by workload and direction.',
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
            description: 'Rows by the state of TCP: many in syn_sent do not reach it.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [`sum by (state) (peerscope_asn_connections{${ONE}})`, '{{state}}'],
        ),
        lines(
          {
            title: 'By host',
            description: 'Rows by the host that talks to it.',
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
            noData: 'No connection to a public address.',
            width: 12,
            height: 12,
            links: [drillDown('Who talks to AS${__field.labels.asn}', UIDS.asn, '__field.labels', ['asn'])],
          },
          [
            `topk(20, sum by (asn, direction) (peerscope_asn_connections{${TARGETS}, asn!=""})) * on (asn) group_left (as_name) peerscope:asn_info`,
            '{{direction}} AS{{asn}} {{as_name}}',
          ],
        ),
        map(
          {
            title: 'Map of networks',
            description:
              'Connections by the country where the operator is registered, which need not be where its machines are. The map behind is drawn by what this Grafana is set up to ask.',
            unit: 'short',
            noData: 'No operator whose country is known.',
            width: 12,
            height: 12,
          },
          'as_country',
          `sum by (as_country) (peerscope_asn_connections{${TARGETS}, asn!=""} * on (asn) group_left (as_country) peerscope:asn_info{as_country!=""})`,
        ),
        lines(
          {
            title: 'Different operators',
            description: 'How many different ASNs are connected, by direction.',
            unit: 'short',
            noData: 'No connection to a public address.',
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
