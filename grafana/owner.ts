import { dashboard, UIDS } from './dashboard.ts';
import { ASN_LINK, TO_OPERATOR } from './links.ts';
import { bars, lines, MOST_LINES, named, OWNERS, stat, table, TARGETS } from './panels.ts';

const NONE = 'The selected processes hold no sockets.';
const NO_PROCESSES = 'No data on these processes.';
const OFF = 'Off by default: see --metrics.families.';

export default dashboard({
  uid: UIDS.owner,
  title: 'Process or workload',
  description: 'One workload and its processes: peers, connection states, queues and resource usage.',
  variables: [
    { name: 'namespace', of: `peerscope_connections{${TARGETS}}` },
    {
      name: 'workload',
      of: `peerscope_connections{${TARGETS}, namespace=~"$namespace"}`,
      single: true,
      rankedBy: `sum by (workload) (peerscope_connections{${TARGETS}, namespace=~"$namespace", workload!~"|other"})`,
    },
    {
      name: 'process',
      of: `peerscope_connections{${TARGETS}, namespace=~"$namespace", workload="$workload"}`,
    },
  ],
  choosesDirection: true,
  annotations: [
    {
      name: 'New operators',
      expr: `group by (process, direction, asn) (time() - peerscope_asn_first_seen_timestamp_seconds{${OWNERS}, direction=~"$direction"} < 300)`,
      title: 'First connection with AS{{asn}}',
      text: '{{process}} {{direction}}',
      color: 'blue',
    },
  ],
  sections: [
    {
      heading: 'Now',
      panels: [
        stat(
          {
            title: 'Socket rows',
            description: 'All socket rows of the process, including listeners and TIME_WAIT.',
            unit: 'short',
            noData: NONE,
            width: 8,
          },
          [`sum(peerscope_connections{${OWNERS}})`, 'rows'],
        ),
        stat(
          {
            title: 'Processes',
            description: 'Processes that hold sockets.',
            unit: 'short',
            noData: NO_PROCESSES,
            width: 8,
          },
          [`sum(peerscope_processes{${OWNERS}})`, 'processes'],
        ),
        stat(
          {
            title: 'Network operators',
            description: 'Number of distinct ASNs with connections.',
            unit: 'short',
            noData: 'No ASN is known.',
            width: 8,
          },
          [`count(count by (asn) (peerscope_asn_connections{${OWNERS}, asn!~"|0|other"}))`, 'ASNs'],
        ),
      ],
    },
    {
      heading: 'Peers',
      panels: [
        bars(
          {
            title: 'Connections by network operator',
            description: 'Connections by ASN and direction. Click an ASN for its dashboard.',
            unit: 'short',
            noData: 'No connections to public addresses.',
            width: 12,
            height: 12,
            links: TO_OPERATOR,
          },
          [
            `topk(15, sum by (asn, as_name, direction) (${named(`sum by (cluster, asn, direction) (peerscope_asn_connections{${OWNERS}, asn!=""})`)}))`,
            '{{direction}} AS{{asn}} {{as_name}}',
          ],
        ),
        bars(
          {
            title: 'Connections by endpoint',
            description:
              'Connections by service: the local service for inbound, the remote service for outbound connections.',
            unit: 'short',
            noData: 'No connections with a remote address.',
            width: 12,
            height: 12,
          },
          [
            `topk(15, sum by (endpoint_group, direction) (peerscope_endpoint_connections{${OWNERS}}))`,
            '{{direction}} {{endpoint_group}}',
          ],
        ),
        table(
          {
            title: 'First seen',
            description:
              'When the process first met each network operator. It shows operators that are connected now, and those that it first met within the past hour. The table is empty if the first-seen collector is off.',
            width: 24,
            height: 10,
          },
          {
            values: [
              {
                name: 'First seen',
                unit: 'dateTimeFromNow',
                expr: `1000 * ${named(`min by (cluster, process, namespace, workload, direction, asn) (peerscope_asn_first_seen_timestamp_seconds{${OWNERS}, direction=~"$direction"})`)}`,
              },
            ],
            labels: ['as_name', 'asn', 'direction', 'process', 'workload', 'namespace', 'cluster'],
            links: { asn: ASN_LINK, as_name: ASN_LINK },
          },
        ),
        table(
          {
            title: 'Watched since',
            description:
              'Since when peerscope has remembered what the workload does. What is new counts after one day. The table is empty if the first-seen collector is off.',
            width: 12,
            height: 6,
          },
          {
            values: [
              {
                name: 'Watched since',
                unit: 'dateTimeFromNow',
                expr: `1000 * min by (instance, namespace, scope, cluster) (peerscope_workload_watched_since_timestamp_seconds{${TARGETS}, namespace=~"$namespace", workload="$workload"})`,
              },
            ],
            labels: ['namespace', 'scope', 'instance', 'cluster'],
          },
        ),
        table(
          {
            title: 'Pods and containers',
            description: 'Socket rows by pod and container. Processes of a plain host have neither.',
            width: 12,
            height: 6,
          },
          {
            values: [
              {
                name: 'Socket rows',
                unit: 'short',
                expr: `sum by (instance, process, namespace, pod, container) (peerscope_connections{${OWNERS}})`,
              },
            ],
            labels: ['pod', 'container', 'process', 'namespace', 'instance'],
          },
        ),
      ],
    },
    {
      heading: 'Connections over time',
      panels: [
        lines(
          {
            title: 'By state',
            description: 'Socket rows by TCP state.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [`sum by (state) (peerscope_connections{${OWNERS}})`, '{{state}}'],
        ),
        lines(
          {
            title: 'By direction',
            description: 'Socket rows by transport and direction.',
            unit: 'short',
            noData: NONE,
            width: 12,
          },
          [`sum by (transport, direction) (peerscope_connections{${OWNERS}})`, '{{transport}} {{direction}}'],
        ),
        lines(
          {
            title: 'Network operators',
            description: 'Number of distinct ASNs, outbound and inbound.',
            unit: 'short',
            noData: 'No ASN is known.',
            width: 12,
          },
          [
            `count by (direction) (count by (direction, asn) (peerscope_asn_connections{${OWNERS}, asn!~"|0|other"}))`,
            '{{direction}}',
          ],
        ),
        lines(
          {
            title: 'Bytes in queues',
            description:
              'Bytes in socket queues. The process has not read the receive queue. The peer has not acknowledged the send queue.',
            unit: 'bytes',
            noData: 'All queues are empty.',
            width: 12,
          },
          [`sum by (queue, transport) (peerscope_socket_queue_bytes{${OWNERS}})`, '{{transport}} {{queue}}'],
        ),
        lines(
          {
            title: 'Accept queues',
            description: 'Connections that wait to be accepted, by listening TCP socket.',
            unit: 'short',
            noData: 'No connection waits to be accepted.',
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (local_address, local_port) (peerscope_listener_accept_queue{${OWNERS}}))`,
            '{{local_address}} port {{local_port}}',
          ],
        ),
        lines(
          {
            title: 'Local ports',
            description:
              'Share of the local ports that is used for one remote address and port, the fullest one. At 100 %, new connections to it fail. Up to 100 ports are not shown.',
            unit: 'percentunit',
            noData: 'No remote address and port has more than 100 connections.',
            width: 12,
          },
          [
            `topk(${MOST_LINES}, max by (process, namespace, instance) (peerscope_ephemeral_ports_used_ratio{${OWNERS}}))`,
            '{{process}} {{namespace}} {{instance}}',
          ],
        ),
      ],
    },
    {
      heading: 'Processes over time',
      isCollapsed: true,
      panels: [
        lines(
          {
            title: 'Memory',
            description: 'Resident memory of the processes that hold sockets.',
            unit: 'bytes',
            noData: OFF,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (process, namespace) (peerscope_process_resident_memory_bytes{${OWNERS}}))`,
            '{{process}} {{namespace}}',
          ],
        ),
        lines(
          {
            title: 'Threads',
            description: 'Threads of those processes.',
            unit: 'short',
            noData: OFF,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (process, namespace) (peerscope_process_threads{${OWNERS}}))`,
            '{{process}} {{namespace}}',
          ],
        ),
        lines(
          {
            title: 'Open files',
            description: 'Open file descriptors of those processes.',
            unit: 'short',
            noData: OFF,
            width: 12,
          },
          [
            `topk(${MOST_LINES}, sum by (process, namespace) (peerscope_process_open_fds{${OWNERS}}))`,
            '{{process}} {{namespace}}',
          ],
        ),
        table(
          {
            title: 'State and umask',
            description: 'Processes by state (R running, S sleeping, D waiting for a disk, Z zombie) and by umask.',
            width: 12,
          },
          {
            values: [
              {
                name: 'Processes',
                unit: 'short',
                expr: `sum by (process, namespace, process_state, umask) (peerscope_processes{${OWNERS}})`,
              },
            ],
            labels: ['process_state', 'umask', 'process', 'namespace'],
          },
        ),
      ],
    },
  ],
});
