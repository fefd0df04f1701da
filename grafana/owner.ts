import { dashboard, UIDS } from './dashboard.ts';
import { bars, drillDown, lines, OWNERS, stat, table, TARGETS } from './panels.ts';

const NONE = 'The processes that were chosen hold no sockets.';
const NO_PROCESSES = 'Nothing is known of these processes.';

export default dashboard({
  uid: UIDS.owner,
  title: 'Process or workload',
  description: 'One process or workload: whom it talks to, in which states, and how it is doing.',
  variables: [
    { name: 'namespace', of: `peerscope_connections{${TARGETS}}`, all: '.*' },
    { name: 'workload', of: `peerscope_connections{${TARGETS}, namespace=~"$namespace"}`, all: '.*' },
    {
      name: 'process',
      of: `peerscope_connections{${TARGETS}, namespace=~"$namespace", workload=~"$workload"}`,
      all: '.*',
    },
  ],
  sections: [
    {
      heading: 'Now',
      panels: [
        stat(
          {
            title: 'Socket rows',
            description: 'All rows that it owns, listeners and TIME_WAIT too.',
            unit: 'short',
            noData: NONE,
            width: 4,
          },
          [`sum(peerscope_connections{${OWNERS}})`, 'rows'],
        ),
        stat(
          {
            title: 'Processes',
            description: 'Processes that hold sockets.',
            unit: 'short',
            noData: NO_PROCESSES,
            width: 4,
          },
          [`sum(peerscope_processes{${OWNERS}})`, 'processes'],
        ),
        stat(
          {
            title: 'Threads',
            description: 'Threads of those processes.',
            unit: 'short',
            noData: NO_PROCESSES,
            width: 4,
          },
          [`sum(peerscope_process_threads{${OWNERS}})`, 'threads'],
        ),
        stat(
          {
            title: 'Memory',
            description: 'Resident memory of those processes; shared pages count in each.',
            unit: 'bytes',
            noData: NO_PROCESSES,
            width: 4,
          },
          [`sum(peerscope_process_resident_memory_bytes{${OWNERS}})`, 'resident'],
        ),
        stat(
          {
            title: 'Open files',
            description: 'Open file descriptors of those processes.',
            unit: 'short',
            noData: NO_PROCESSES,
            width: 4,
          },
          [`sum(peerscope_process_open_fds{${OWNERS}})`, 'descriptors'],
        ),
        stat(
          {
            title: 'Network operators',
            description: 'How many different ASNs it is connected with.',
            unit: 'short',
            noData: 'None is known.',
            width: 4,
          },
          [`count(count by (asn) (peerscope_asn_connections{${OWNERS}, asn!~"|0|other"}))`, 'ASNs'],
        ),
      ],
    },
    {
      heading: 'With whom',
      panels: [
        bars(
          {
            title: 'Its network operators',
            description: 'Connections by ASN and direction. A click leads to all who talk to that operator.',
            unit: 'short',
            noData: 'No connection to a public address.',
            width: 12,
            height: 10,
            links: [drillDown('Who talks to AS${__field.labels.asn}', UIDS.asn, '__field.labels', ['asn'])],
          },
          [
            `topk(15, sum by (asn, direction) (peerscope_asn_connections{${OWNERS}, asn!=""})) * on (asn) group_left (as_name) peerscope:asn_info`,
            '{{direction}} AS{{asn}} {{as_name}}',
          ],
        ),
        bars(
          {
            title: 'Its endpoints',
            description: 'Connections by service: of an inbound one the own address, of an outbound one the remote.',
            unit: 'short',
            noData: 'No connection with a remote.',
            width: 12,
            height: 10,
          },
          [
            `topk(15, sum by (endpoint_group, direction) (peerscope_endpoint_connections{${OWNERS}}))`,
            '{{direction}} {{endpoint_group}}',
          ],
        ),
        table(
          {
            title: 'Since when',
            description:
              'When it first met each network operator that is present, or that is new since an hour. The table is empty if the collector first-seen is off.',
            width: 24,
            height: 10,
          },
          {
            value: { name: 'First seen', unit: 'dateTimeFromNow' },
            labels: ['as_name', 'asn', 'direction', 'process', 'workload', 'namespace'],
          },
          `1000 * min by (process, namespace, workload, direction, asn) (peerscope_asn_first_seen_timestamp_seconds{${OWNERS}}) * on (asn) group_left (as_name) peerscope:asn_info`,
        ),
        table(
          {
            title: 'Watched since',
            description:
              'Since when its network operators have been remembered. Alerts about new ones need a day of it. The table is empty if the collector first-seen is off.',
            width: 12,
            height: 6,
          },
          {
            value: { name: 'Watched since', unit: 'dateTimeFromNow' },
            labels: ['process', 'workload', 'namespace', 'scope', 'instance'],
          },
          `1000 * min by (instance, process, namespace, workload, scope) (peerscope_baseline_start_timestamp_seconds{${OWNERS}})`,
        ),
        table(
          {
            title: 'Pods and containers',
            description: 'Socket rows by pod and container; a plain host has neither.',
            width: 12,
            height: 6,
          },
          {
            value: { name: 'Socket rows', unit: 'short' },
            labels: ['pod', 'container', 'process', 'workload', 'namespace', 'instance'],
          },
          `sum by (instance, process, namespace, workload, pod, container) (peerscope_connections{${OWNERS}})`,
        ),
      ],
    },
    {
      heading: 'Connections over time',
      panels: [
        lines(
          {
            title: 'By state',
            description: 'Socket rows by the state of TCP.',
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
            description: 'How many different ASNs it calls and is called by.',
            unit: 'short',
            noData: 'None is known.',
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
            description: 'What waits in its sockets: receive is not read by it, send is not acknowledged by the peer.',
            unit: 'bytes',
            noData: NONE,
            width: 12,
          },
          [`sum by (queue, transport) (peerscope_socket_queue_bytes{${OWNERS}})`, '{{transport}} {{queue}}'],
        ),
        lines(
          {
            title: 'Connections that wait to be accepted',
            description: 'The accept queues of its listening TCP sockets.',
            unit: 'short',
            noData: 'It does not listen.',
            width: 12,
          },
          [
            `sum by (local_address, local_port) (peerscope_listener_accept_queue{${OWNERS}})`,
            '{{local_address}} port {{local_port}}',
          ],
        ),
      ],
    },
    {
      heading: 'Processes over time',
      panels: [
        lines(
          {
            title: 'Memory',
            description: 'Resident memory of the processes that hold sockets.',
            unit: 'bytes',
            noData: NO_PROCESSES,
            width: 12,
          },
          [
            `sum by (process, workload) (peerscope_process_resident_memory_bytes{${OWNERS}})`,
            '{{process}} {{workload}}',
          ],
        ),
        lines(
          {
            title: 'Threads',
            description: 'Threads of those processes.',
            unit: 'short',
            noData: NO_PROCESSES,
            width: 12,
          },
          [`sum by (process, workload) (peerscope_process_threads{${OWNERS}})`, '{{process}} {{workload}}'],
        ),
        lines(
          {
            title: 'Open files',
            description: 'Open file descriptors of those processes.',
            unit: 'short',
            noData: NO_PROCESSES,
            width: 12,
          },
          [`sum by (process, workload) (peerscope_process_open_fds{${OWNERS}})`, '{{process}} {{workload}}'],
        ),
        table(
          {
            title: 'State and umask',
            description: 'Processes by state (R runs, S sleeps, D waits for a disk, Z is dead) and by umask.',
            width: 12,
          },
          {
            value: { name: 'Processes', unit: 'short' },
            labels: ['process_state', 'umask', 'process', 'workload', 'namespace'],
          },
          `sum by (process, namespace, workload, process_state, umask) (peerscope_processes{${OWNERS}})`,
        ),
      ],
    },
  ],
});
