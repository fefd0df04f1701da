import { readFileSync } from 'node:fs';
import { parse, stringify } from 'yaml';

interface Alert {
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

const EXPRESSION = '__expr__';
const RANGE = { from: 600, to: 0 };

/**
 * The alerts of files of Prometheus rules as a file for Grafana's alert provisioning. Its recording rules stay with Prometheus.
 * The data source is what $PROMETHEUS_DATASOURCE_UID says where Grafana starts.
 */
export function provisioning(files: readonly URL[]): string {
  const groups = files.flatMap((file) => {
    const { groups } = parse(readFileSync(file, 'utf8')) as { groups: { name: string; rules: Alert[] }[] };
    return groups.map(({ name, rules }) => ({
      orgId: 1,
      name,
      folder: 'peerscope',
      interval: '1m',
      rules: rules.filter(({ alert }) => alert !== undefined).map(provisioned),
    }));
  });
  const text = stringify(
    { apiVersion: 1, groups: groups.filter(({ rules }) => rules.length > 0) },
    { lineWidth: 0, aliasDuplicateObjects: false },
  );
  return `# Written by npm run dashboards from deploy/prometheus: docs/alerts.md says how to use it.\n${text}`;
}

/** Prometheus fires for every series that there is, whatever its value; the two expressions after the query say the same. */
function provisioned({ alert = '', expr, for: pending = '0s', labels = {}, annotations = {} }: Alert): object {
  const values = Object.entries(annotations).map(([name, text]) => [
    name,
    text.replaceAll('$value', '$values.query.Value'),
  ]);
  return {
    uid: alert
      .replace(/(?!^)[A-Z]/g, (letter) => `-${letter}`)
      .toLowerCase()
      .slice(0, 40),
    title: alert,
    condition: 'fires',
    data: [
      {
        refId: 'query',
        relativeTimeRange: RANGE,
        datasourceUid: '$PROMETHEUS_DATASOURCE_UID',
        model: { refId: 'query', expr: expr.replaceAll(/\s+/g, ' ').trim(), instant: true, range: false },
      },
      expression('exists', { type: 'math', expression: 'is_number($$query) || is_nan($$query) || is_inf($$query)' }),
      expression('fires', {
        type: 'threshold',
        expression: 'exists',
        conditions: [{ evaluator: { type: 'gt', params: [0] } }],
      }),
    ],
    for: pending,
    noDataState: 'OK',
    execErrState: 'Error',
    labels,
    annotations: Object.fromEntries(values) as Record<string, string>,
  };
}

function expression(refId: string, model: object): object {
  return { refId, relativeTimeRange: RANGE, datasourceUid: EXPRESSION, model: { refId, ...model } };
}
