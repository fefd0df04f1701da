import { dashboard, UIDS } from './dashboard.ts';
import { drillDown, lines, named, stat, table, TARGETS, type Link } from './panels.ts';

const NOTHING = 'Nothing is unusual.';
const TO_OWNER = drillDown('This workload', UIDS.owner, '__data.fields', ['namespace', 'workload', 'process']);
const TO_WORKLOAD = drillDown('This workload', UIDS.owner, '__data.fields', ['namespace', 'workload']);

/**
 * The command that declares a row normal. A link to the page of the exporter is not possible: `instance` is the name of a node in most
 * clusters, and no browser reaches the pods there.
 */
const ACCEPT: Link = {
  title:
    'If this is normal: peerscope accept "${__data.fields.namespace}/${__data.fields.workload}" "${__data.fields.what}"',
  url: 'https://github.com/peerscope/peerscope/blob/main/docs/accept.md',
};

const BY = 'cluster, kind, what, points, reach, process, workload, namespace, instance';
const OPERATORS = `max by (${BY}, asn) (label_replace(peerscope_novelty_timestamp_seconds{${TARGETS}, kind="operator"}, "asn", "$1", "what", "AS(.+)"))`;
const OTHERS = `max by (${BY}) (peerscope_novelty_timestamp_seconds{${TARGETS}, kind!="operator"})`;
/** What is new. An operator of several networks may have no name under its first number. */
const EVIDENCE = `(${named(OPERATORS, 'as_name, as_country')} or ${OPERATORS} unless on (cluster, asn) peerscope_asn_info{${TARGETS}} or ${OTHERS})`;

const workloadsFrom = (points: string): string =>
  `count(max by (namespace, workload) (peerscope_unusual_points{${TARGETS}}) ${points}) or vector(0)`;

export default dashboard({
  uid: UIDS.unusual,
  title: 'Unusual',
  description:
    'What workloads do that they have not done before: the evidence with its points, and how long each workload is watched.',
  sections: [
    {
      heading: 'Now',
      panels: [
        stat(
          {
            title: 'Critical workloads',
            description: 'Workloads with three or more points in the past hour.',
            unit: 'short',
            noData: 'None.',
            width: 6,
          },
          [workloadsFrom('>= 3'), 'workloads'],
        ),
        stat(
          {
            title: 'Workloads with a warning',
            description: 'Workloads with two points in the past hour.',
            unit: 'short',
            noData: 'None.',
            width: 6,
          },
          [workloadsFrom('== 2'), 'workloads'],
        ),
        stat(
          {
            title: 'Workloads with information',
            description: 'Workloads with one point in the past hour.',
            unit: 'short',
            noData: 'None.',
            width: 6,
          },
          [workloadsFrom('== 1'), 'workloads'],
        ),
        stat(
          {
            title: 'Watched workloads',
            description: 'Workloads that the exporters watch.',
            unit: 'short',
            noData: 'No workload is watched.',
            width: 6,
          },
          [
            `count(group by (namespace, workload) (peerscope_workload_watched_since_timestamp_seconds{${TARGETS}}))`,
            'workloads',
          ],
        ),
        table(
          {
            title: 'Evidence',
            description:
              'What is new in the past hour, newest first. Reach says how many other calm workloads know it. docs/runbooks/PeerscopeUnusual.md says what to do, and docs/alerts.md how to declare it normal. The table is empty if nothing is unusual. Click a row for the dashboard of its workload.',
            width: 24,
            height: 12,
          },
          {
            values: [
              {
                name: 'First seen',
                unit: 'dateTimeFromNow',
                expr: `1000 * ${EVIDENCE}`,
              },
            ],
            links: { workload: TO_OWNER, what: ACCEPT },
            labels: [
              'points',
              'workload',
              'namespace',
              'kind',
              'what',
              'as_name',
              'as_country',
              'process',
              'reach',
              'instance',
              'asn',
              'cluster',
            ],
          },
        ),
      ],
    },
    {
      heading: 'Over time',
      panels: [
        lines(
          {
            title: 'Points',
            description: 'The points of each workload in the past hour, for the 20 workloads with the most.',
            unit: 'short',
            noData: NOTHING,
            width: 12,
          },
          [
            `topk(20, max by (namespace, workload) (peerscope_unusual_points{${TARGETS}}) > 0)`,
            '{{namespace}} {{workload}}',
          ],
        ),
        lines(
          {
            title: 'Novelties',
            description: 'New things of calm workloads per hour, by kind.',
            unit: 'short',
            noData: NOTHING,
            width: 12,
          },
          [`3600 * sum by (kind) (rate(peerscope_novelties_total{${TARGETS}}[$__rate_interval]))`, '{{kind}}'],
        ),
      ],
    },
    {
      heading: 'Memory',
      panels: [
        table(
          {
            title: 'Watched since',
            description:
              'Since when each workload is watched, newest first. A workload is silent until it is learned, for about a day. Scope is "node" if the exporters share no store.',
            width: 12,
          },
          {
            values: [
              {
                name: 'Watched',
                unit: 'dateTimeFromNow',
                expr: `1000 * min by (workload, namespace, scope) (peerscope_workload_watched_since_timestamp_seconds{${TARGETS}})`,
              },
            ],
            links: { workload: TO_WORKLOAD },
            labels: ['workload', 'namespace', 'scope'],
          },
        ),
        lines(
          {
            title: 'Ignored expectations',
            description: 'Values of the annotation peerscope.dev/expects that are not valid. The log has each one.',
            unit: 'cps',
            noData: 'No values are ignored.',
            width: 12,
          },
          [
            `topk(20, sum by (instance) (rate(peerscope_kubernetes_ignored_expectations_total{${TARGETS}}[$__rate_interval])))`,
            '{{instance}}',
          ],
        ),
      ],
    },
  ],
});
