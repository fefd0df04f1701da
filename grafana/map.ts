import { dashboard, UIDS } from './dashboard.ts';
import { ASN_LINK, OWNER_LINK } from './links.ts';
import { drillDown, named, nodeGraph, table, TARGETS } from './panels.ts';

/** A viewer cannot distinguish more lines than these. */
const MOST_EDGES = 100;
/** Other remotes than workloads, which can be many. */
const MOST_REMOTES = 30;
const HOSTS = '(hosts)';
const INTERNET = 'Internet';

const BETWEEN = `${TARGETS}, direction="outbound", peer_namespace!=""`;
const OF_NAMESPACE = `${TARGETS}, namespace="$namespace"`;

const OWNER = ['namespace', 'workload'] as const;

const replace = (expr: string, to: string, text: string, from: string, pattern: string): string =>
  `label_replace(${expr}, "${to}", "${text}", "${from}", "${pattern}")`;

/** Joins the labels of an owner to one. */
const whole = (expr: string, to: string, [namespace, workload]: readonly [string, string]): string =>
  `label_join(${expr}, "${to}", "/", "${namespace}", "${workload}")`;

const edgesOf = (parts: readonly string[]): string =>
  `topk(${MOST_EDGES}, label_join(sum by (source, target) (${parts.join(' or ')}), "id", " > ", "source", "target"))`;

/** Both ends of the edges, with the sums of their edges. */
const nodesOf = (edges: string): string => {
  const end = (label: string): string => replace(edges, 'id', '$1', label, '(.+)');
  const nodes = `sum by (id) (${end('source')} or ${end('target')})`;
  return replace(replace(nodes, 'title', '$1', 'id', '(?:[^/]+/)?(.+)'), 'subtitle', '$1', 'id', '([^/]+)/.+');
};

/** Edges with the rate of their bytes as text beside the number of connections. */
const withBytes = (edges: string, rates: readonly string[]): string => {
  const text = replace(
    `count_values by (source, target) ("kilobytes", ceil(sum by (source, target) (${rates.join(' or ')}) / 1000))`,
    'secondarystat',
    '$1 kB/s',
    'kilobytes',
    '(.+)',
  );
  return `${edges} * on (source, target) group_left (secondarystat) ${text} or on (source, target) ${edges}`;
};

/** What an edge weighs: connections, or bytes a second in both directions. */
type Weight = (of: 'endpoint' | 'asn', by: string, matchers: string) => string;
const connections: Weight = (of, by, matchers) => `sum by (${by}) (peerscope_${of}_connections{${matchers}})`;
const bytes: Weight = (of, by, matchers) =>
  ['sent', 'received']
    .map((way) => `sum by (${by}) (rate(peerscope_${of}_${way}_bytes_total{${matchers}}[$__rate_interval]))`)
    .join(' + ');

const BETWEEN_NAMESPACES = `sum by (namespace, peer_namespace) (peerscope:namespace_peer_connections:sum{${TARGETS}})`;

/** From recording rules, and without bytes: the series of the whole fleet would cost seconds. */
const namespaceParts = (): readonly string[] => {
  const internet = (direction: string): string =>
    `sum by (namespace) (peerscope:namespace_public_connections:sum{${TARGETS}, direction="${direction}"})`;
  const end = (expr: string, to: string): string =>
    replace(replace(expr, to, '$1', 'namespace', '(.+)'), to, HOSTS, 'namespace', '');
  const other = (expr: string, to: string): string => replace(expr, to, INTERNET, '', '');
  return [
    replace(end(BETWEEN_NAMESPACES, 'source'), 'target', '$1', 'peer_namespace', '(.+)'),
    other(end(internet('outbound'), 'source'), 'target'),
    other(end(internet('inbound'), 'target'), 'source'),
  ];
};

/** The connections that leave the namespace, those that come to it, and those with other remotes. */
const workloadParts = (weight: Weight): readonly string[] => {
  const between = (matchers: string): string =>
    whole(
      whole(weight('endpoint', 'namespace, workload, peer_namespace, peer_workload', matchers), 'source', OWNER),
      'target',
      ['peer_namespace', 'peer_workload'],
    );
  const most = (expr: string): string => (weight === connections ? `topk(${MOST_REMOTES}, ${expr})` : `(${expr})`);
  const remotes = (expr: string, label: string, prefix = ''): string =>
    replace(whole(expr, 'source', OWNER), 'target', `${prefix}$1`, label, '(.+)');
  const operators = named(
    `(${weight('asn', 'cluster, namespace, workload, asn', `${OF_NAMESPACE}, direction="outbound", network="public", asn!~"|0|other"`)})`,
  );
  return [
    between(`${BETWEEN}, namespace="$namespace"`),
    between(`${BETWEEN}, namespace!="$namespace", peer_namespace="$namespace"`),
    remotes(
      `label_join(${most(`sum by (namespace, workload, asn, as_name) (${operators})`)}, "operator", " ", "asn", "as_name")`,
      'operator',
      'AS',
    ),
    remotes(
      most(
        weight(
          'endpoint',
          'namespace, workload, endpoint_group',
          `${OF_NAMESPACE}, direction="outbound", peer_namespace="", endpoint_group!~"AS.+|public.*|other"`,
        ),
      ),
      'endpoint_group',
    ),
  ];
};

const NAMESPACE_EDGES = edgesOf(namespaceParts());
const WORKLOAD_EDGES = edgesOf(workloadParts(connections));

export default dashboard({
  uid: UIDS.map,
  title: 'Service map',
  description:
    'Which namespaces connect to each other, then the workloads of one namespace, their peers and their network operators.',
  variables: [
    {
      name: 'namespace',
      of: `peerscope:namespace_peer_connections:sum{${TARGETS}, namespace!=""}`,
      single: true,
      rankedBy: `sum by (namespace) (peerscope:namespace_peer_connections:sum{${TARGETS}, namespace!=""})`,
    },
  ],
  sections: [
    {
      heading: 'Namespaces',
      panels: [
        nodeGraph(
          {
            title: 'Namespaces',
            description:
              'Connections between namespaces, seen from the side that opened them, and with the Internet. The panel needs the recording rules, and is empty without connections of pods that peerscope knows from --collector.kubernetes. Click a namespace for its workloads.',
            width: 24,
            height: 16,
          },
          nodesOf(NAMESPACE_EDGES),
          NAMESPACE_EDGES,
          [drillDown('Workloads of ${__data.fields.id}', UIDS.map, '__data.fields', [['namespace', 'id']])],
        ),
      ],
    },
    {
      heading: 'Workloads of $namespace',
      panels: [
        nodeGraph(
          {
            title: 'Workloads',
            description:
              'Connections of the workloads of the namespace with each other, with workloads of other namespaces, with the top network operators and with endpoints that belong to no workload. Beside the number of connections stand their bytes where peerscope counts bytes (docs/traffic.md). Click a workload for its dashboard.',
            width: 24,
            height: 18,
          },
          nodesOf(WORKLOAD_EDGES),
          withBytes(WORKLOAD_EDGES, workloadParts(bytes)),
          [
            drillDown('${__data.fields.title}', UIDS.owner, '__data.fields', [
              ['workload', 'title'],
              ['namespace', 'subtitle'],
            ]),
          ],
        ),
        table(
          {
            title: 'Connections between workloads',
            description:
              'Connections that workloads of the namespace opened, and the bytes that they sent on them. The peer is empty where several workloads answer behind an endpoint.',
            width: 24,
            height: 10,
          },
          {
            values: [
              {
                name: 'Connections',
                unit: 'short',
                expr: `sum by (workload, process, namespace, endpoint_group, peer_workload, peer_namespace) (peerscope_endpoint_connections{${OF_NAMESPACE}, direction="outbound"})`,
              },
              {
                name: 'Sent',
                unit: 'binBps',
                expr: `sum by (workload, process, namespace, endpoint_group, peer_workload, peer_namespace) (rate(peerscope_endpoint_sent_bytes_total{${OF_NAMESPACE}, direction="outbound"}[$__rate_interval]))`,
              },
            ],
            labels: ['workload', 'process', 'namespace', 'endpoint_group', 'peer_workload', 'peer_namespace'],
            links: { process: OWNER_LINK, workload: OWNER_LINK },
          },
        ),
        table(
          {
            title: 'Network operators',
            description: 'Connections of the workloads of the namespace with public addresses, by network operator.',
            width: 24,
            height: 8,
          },
          {
            values: [
              {
                name: 'Connections',
                unit: 'short',
                expr: `sum by (workload, process, namespace, direction, asn, as_name) (${named(`sum by (cluster, workload, process, namespace, direction, asn) (peerscope_asn_connections{${OF_NAMESPACE}, asn!=""})`)})`,
              },
            ],
            labels: ['workload', 'process', 'namespace', 'direction', 'as_name', 'asn'],
            links: { process: OWNER_LINK, workload: OWNER_LINK, asn: ASN_LINK, as_name: ASN_LINK },
          },
        ),
      ],
    },
  ],
});
