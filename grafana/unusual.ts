import { dashboard, UIDS } from './dashboard.ts';
import { drillDown, lines, stat, table, TARGETS } from './panels.ts';

const NOTHING = 'Nothing is unusual.';
const TO_OWNER = [drillDown('This workload', UIDS.owner, '__data.fields', ['namespace', 'workload', 'process'])];

/** What is new, with the number of an operator as its ASN. */
const EVIDENCE = `max by (kind, what, asn, points, reach, process, workload, namespace, instance) (label_replace(peerscope_novelty_timestamp_seconds{${TARGETS}}, "asn", "$1", "what", "AS(.+)"))`;

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
            links: TO_OWNER,
          },
          {
            value: { name: 'First seen', unit: 'dateTimeFromNow' },
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
            ],
          },
          `1000 * (${EVIDENCE} * on (asn) group_left (as_name, as_country) peerscope:asn_info or ignoring (as_name, as_country) ${EVIDENCE})`,
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
            description: 'New things of calm workloads, by kind.',
            unit: 'cps',
            noData: NOTHING,
            width: 12,
          },
          [`sum by (kind) (rate(peerscope_novelties_total{${TARGETS}}[$__rate_interval]))`, '{{kind}}'],
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
            links: TO_OWNER.map(({ title }) =>
              drillDown(title, UIDS.owner, '__data.fields', ['namespace', 'workload']),
            ),
          },
          { value: { name: 'Watched', unit: 'dateTimeFromNow' }, labels: ['workload', 'namespace', 'scope'] },
          `topk(200, 1000 * min by (workload, namespace, scope) (peerscope_workload_watched_since_timestamp_seconds{${TARGETS}}))`,
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
            `sum by (instance) (rate(peerscope_kubernetes_ignored_expectations_total{${TARGETS}}[$__rate_interval]))`,
            '{{instance}}',
          ],
        ),
      ],
    },
  ],
});
