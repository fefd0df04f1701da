import { Ajv } from 'ajv';
import { describe, expect, it, test } from 'vitest';
import { filesOf, parseDocuments, readDocument, readText } from '../support/manifests.ts';

const CHART = 'deploy/helm/peerscope';
// The anchors of values.yaml are YAML 1.2, so it is read as Helm reads it.
const VALUES = readDocument(`${CHART}/values.yaml`) as Tree;
const validate = new Ajv({ strict: false, allErrors: true }).compile(
  JSON.parse(readText(`${CHART}/values.schema.json`)) as object,
);

interface Tree {
  readonly [key: string]: unknown;
}

/** Whether values have a path such as "podMonitor.labels". */
function has(values: Tree, path: string): boolean {
  const [key = '', ...rest] = path.split('.');
  if (!(key in values)) return false;
  return rest.length === 0 || has(values[key] as Tree, rest.join('.'));
}

const problems = (values: unknown): readonly string[] => {
  validate(values);
  return (validate.errors ?? []).map(({ instancePath, message = '' }) => `${instancePath} ${message}`);
};

describe('values.schema.json', () => {
  it('accepts the default values and those of each platform', () => {
    expect(problems(VALUES)).toEqual([]);
    const files = filesOf(`${CHART}/ci/*-values.yaml`);
    expect(files.flatMap((file) => problems(readDocument(file)))).toEqual([]);
    const platforms = ['bottlerocket', 'default', 'eks', 'gke-autopilot', 'openshift', 'talos'];
    const named = platforms.map((platform) => `${CHART}/ci/${platform}-values.yaml`);
    expect(named.filter((file) => !files.includes(file))).toEqual([]);
  });

  it('describes the default values, and no others', () => {
    const { properties } = JSON.parse(readText(`${CHART}/values.schema.json`)) as { properties: Tree };
    // Helm gives `global` to charts within other charts.
    expect(
      Object.keys(properties)
        .filter((key) => key !== 'global')
        .sort(),
    ).toEqual(Object.keys(VALUES).sort());
  });

  it.each<object>([
    { trafic: true },
    { traffic: 'yes' },
    { platform: 'gke' },
    { image: { variant: 'root' } },
    { image: { digest: '0'.repeat(64) } },
    { image: { repository: 'Peerscope' } },
    { namespaceOverride: 'Peer_scope' },
    { valkey: { password: 'x' } },
    { podMonitor: { interval: '30' } },
    { podMonitor: { interval: '' } },
    { networkPolicy: { prometheusNamespaces: 'monitoring' } },
    { networkPolicy: { apiServerPorts: [0] } },
    { podSecurityContext: { runAsUser: 0 } },
    { state: { hostPath: 'var/lib/peerscope' } },
    { otlp: { endpoint: 'otel-collector:4318' } },
    { extraArgs: ['serve'] },
    { asnProvider: 'maxmind' },
  ])('refuses %j', (values) => {
    expect(problems(values)).not.toEqual([]);
  });
});

describe('the templates', () => {
  const texts = filesOf(`${CHART}/templates/**/*`)
    .filter((path) => /\.(yaml|tpl|txt)$/.test(path))
    .map(readText);
  const used = texts.flatMap((text) =>
    [...text.matchAll(/\.Values((?:\.\w+)+)/g)].map(([, path = '']) => path.slice(1)),
  );

  it('use only values that exist, and each of them', () => {
    expect(used.filter((path) => !has(VALUES, path))).toEqual([]);
    // By variables, and by name.
    const indirect = new Set(['livenessProbe', 'readinessProbe', 'networkPolicy', 'valkey']);
    const first = new Set(used.map((path) => path.replace(/\..*/, '')));
    expect(Object.keys(VALUES).filter((key) => !first.has(key) && !indirect.has(key))).toEqual([]);
  });
});

test('the chart has the version of the program', () => {
  const { version } = JSON.parse(readText('package.json')) as { version: string };
  expect(readDocument(`${CHART}/Chart.yaml`)).toMatchObject({ version, appVersion: version });
});

describe('docs/helm.md', () => {
  const text = readText('docs/helm.md');
  const rows = [...text.matchAll(/^\| (.*?) +\| (.*?) +\|$/gm)].filter(
    ([, there = '']) => !/^-|^there|^`?platform/.test(there),
  );

  it('names only values that exist where it compares with other charts', () => {
    const here = rows.flatMap(([, , cell = '']) =>
      [...cell.matchAll(/`([a-z]\w*(?:\.\w+)*)`/g)].map(([, path = '']) => path),
    );
    expect(here.length).toBeGreaterThan(40);
    const words = new Set(['peerscope', 'control_t', 'spc_t', 'omitted']);
    expect(here.filter((path) => !words.has(path) && !has(VALUES, path))).toEqual([]);
    const [, same = ''] = /with the same name and meaning:\n([^]*?)\. The others/.exec(text) ?? [];
    const names = [...same.matchAll(/`(\w+)`/g)].map(([, name = '']) => name);
    expect(names.filter((name) => !has(VALUES, name))).toEqual([]);
  });

  it('has the value of each component', () => {
    const components = filesOf('deploy/k8s/components/*/kustomization.yaml').map((path) => path.split('/')[3] ?? '');
    const [, table = ''] = /## Components of kustomize\n([^]*?)\n## /.exec(text) ?? [];
    expect(components.filter((component) => !table.includes(`\`${component}\``))).toEqual([]);
  });
});

describe('the OpenTelemetry operator in docs/deploy.md', () => {
  it('runs a Collector at the address of the component otlp', () => {
    const [, text = ''] = /```yaml\n(apiVersion: opentelemetry[^]*?)```/.exec(readText('docs/deploy.md')) ?? [];
    const [collector] = parseDocuments<{
      readonly metadata: { readonly name: string; readonly namespace: string };
      readonly spec: { readonly config: { readonly receivers: { readonly otlp: { readonly protocols: Tree } } } };
    }>(text);
    const { http } = collector?.spec.config.receivers.otlp.protocols as { http: { endpoint: string } };
    const port = http.endpoint.replace(/^.*:/, '');
    // The operator names the Service after the Collector.
    const address = `http://${collector?.metadata.name ?? ''}-collector.${collector?.metadata.namespace ?? ''}.svc:${port}`;
    expect(readText('deploy/k8s/components/otlp/kustomization.yaml')).toContain(`--otlp.endpoint=${address}\n`);
  });
});
