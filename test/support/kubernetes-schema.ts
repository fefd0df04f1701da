import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv, type AnySchemaObject, type ValidateFunction } from 'ajv';
import { z } from 'zod';
import { TOOLS } from './kustomize.ts';
import type { Manifest } from './manifests.ts';

const SCHEMA = join(TOOLS, 'share/gocode/src/k8s.io/kubectl/testdata/openapi/swagger.json');

/** The custom resources that are shipped, as far as their keys are used: https://prometheus-operator.dev/docs/api-reference/api/ */
const labels = z.record(z.string(), z.string());
const metadata = z.strictObject({
  name: z.string(),
  namespace: z.string().optional(),
  labels: labels.optional(),
  annotations: labels.optional(),
});
const relabeling = z.strictObject({
  action: z.enum(['replace', 'labeldrop', 'keep', 'drop']),
  regex: z.string().optional(),
  sourceLabels: z.array(z.string()).optional(),
  targetLabel: z.string().optional(),
});
const secretKey = z.strictObject({ name: z.string(), key: z.string() });
const endpoint = z.strictObject({
  port: z.string(),
  path: z.string(),
  interval: z.string().regex(/^\d+[sm]$/),
  scrapeTimeout: z.string().regex(/^\d+s$/),
  honorLabels: z.boolean(),
  relabelings: z.array(relabeling),
  metricRelabelings: z.array(relabeling).optional(),
  scheme: z.enum(['http', 'https']).optional(),
  tlsConfig: z.strictObject({ insecureSkipVerify: z.boolean() }).optional(),
  basicAuth: z.strictObject({ username: secretKey, password: secretKey }).optional(),
  followRedirects: z.boolean().optional(),
});
const monitor = {
  jobLabel: z.string(),
  selector: z.strictObject({ matchLabels: labels }),
  namespaceSelector: z.strictObject({ matchNames: z.array(z.string()) }).optional(),
  podTargetLabels: z.array(z.string()).optional(),
  sampleLimit: z.int().optional(),
  labelLimit: z.int().optional(),
  targetLimit: z.int().optional(),
  labelValueLengthLimit: z.int().optional(),
};
const rule = {
  expr: z.string(),
  labels: labels.optional(),
};
const annotations = z.strictObject({
  summary: z.string(),
  description: z.string(),
  runbook_url: z.string(),
});
const rules = z.array(
  z.union([
    z.strictObject({ ...rule, record: z.string() }),
    z.strictObject({
      ...rule,
      alert: z.string(),
      for: z.string().optional(),
      keep_firing_for: z.string().optional(),
      annotations,
    }),
  ]),
);
const group = z.strictObject({ name: z.string(), interval: z.string().optional(), rules });
const operator = <T extends z.ZodType>(kind: string, spec: T) =>
  z.strictObject({ apiVersion: z.literal('monitoring.coreos.com/v1'), kind: z.literal(kind), metadata, spec });
const runAs = z.union([
  z.strictObject({ type: z.literal('RunAsAny') }),
  z.strictObject({ type: z.literal('MustRunAs'), uid: z.int() }),
]);
/** https://docs.redhat.com/en/documentation/openshift_container_platform (Security and compliance) */
const constraints = z.strictObject({
  apiVersion: z.literal('security.openshift.io/v1'),
  kind: z.literal('SecurityContextConstraints'),
  metadata,
  allowPrivilegedContainer: z.boolean(),
  allowPrivilegeEscalation: z.boolean(),
  allowHostDirVolumePlugin: z.boolean(),
  allowHostNetwork: z.boolean(),
  allowHostPID: z.boolean(),
  allowHostIPC: z.boolean(),
  allowHostPorts: z.boolean(),
  allowedCapabilities: z.array(z.string()),
  requiredDropCapabilities: z.array(z.string()),
  readOnlyRootFilesystem: z.boolean(),
  runAsUser: runAs,
  seLinuxContext: runAs,
  fsGroup: runAs,
  supplementalGroups: runAs,
  seccompProfiles: z.array(z.string()),
  volumes: z.array(z.string()),
});
/** https://cloud.google.com/kubernetes-engine/docs/reference/crds/allowlistsynchronizer */
const synchronizer = z.strictObject({
  apiVersion: z.literal('auto.gke.io/v1'),
  kind: z.literal('AllowlistSynchronizer'),
  metadata,
  spec: z.strictObject({ allowlistPaths: z.array(z.string()).min(1) }),
});
/** https://github.com/GoogleCloudPlatform/prometheus-engine/blob/main/doc/api.md */
const clusterPodMonitoring = z.strictObject({
  apiVersion: z.literal('monitoring.googleapis.com/v1'),
  kind: z.literal('ClusterPodMonitoring'),
  metadata,
  spec: z.strictObject({
    selector: z.strictObject({ matchLabels: labels }),
    endpoints: z.array(
      z.strictObject({
        port: z.string(),
        path: z.string(),
        interval: z.string(),
        scheme: z.literal('https').optional(),
        tls: z.strictObject({ insecureSkipVerify: z.boolean() }).optional(),
      }),
    ),
    targetLabels: z.strictObject({ metadata: z.array(z.enum(['pod', 'container', 'node', 'namespace'])) }),
    limits: z.strictObject({ samples: z.int() }).optional(),
  }),
});
const CUSTOM: Readonly<Record<string, z.ZodType>> = {
  PodMonitor: operator('PodMonitor', z.strictObject({ ...monitor, podMetricsEndpoints: z.array(endpoint) })),
  ServiceMonitor: operator('ServiceMonitor', z.strictObject({ ...monitor, endpoints: z.array(endpoint) })),
  PrometheusRule: operator('PrometheusRule', z.strictObject({ groups: z.array(group) })),
  SecurityContextConstraints: constraints,
  AllowlistSynchronizer: synchronizer,
  ClusterPodMonitoring: clusterPodMonitoring,
};

interface Definition {
  readonly properties?: object;
  readonly additionalProperties?: unknown;
  readonly 'x-kubernetes-group-version-kind'?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
}

/** What Kubernetes 1.30 added, and the description that Debian ships does not know. */
const NEWER: Readonly<Record<string, AnySchemaObject>> = {
  'io.k8s.api.core.v1.SecurityContext': {
    appArmorProfile: {
      type: 'object',
      properties: {
        type: { enum: ['Unconfined', 'RuntimeDefault', 'Localhost'] },
        localhostProfile: { type: 'string' },
      },
      additionalProperties: false,
    },
  },
};

/** The API server's own description of its objects, made strict: a key that it does not know is an error. */
export class Schema {
  readonly #ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  readonly #names = new Map<string, string>();

  constructor() {
    const { definitions } = JSON.parse(readFileSync(SCHEMA, 'utf8')) as { definitions: Record<string, Definition> };
    const strict = Object.entries(definitions).map(([name, definition]): [string, AnySchemaObject] => {
      if (/\.(IntOrString|Quantity)$/.test(name)) return [name, { type: ['integer', 'number', 'string'] }];
      if (!definition.properties || 'additionalProperties' in definition) return [name, definition];
      const properties = { ...definition.properties, ...NEWER[name] };
      return [name, { ...definition, properties, additionalProperties: false }];
    });
    this.#ajv.addSchema({ $id: 'kubernetes', definitions: Object.fromEntries<AnySchemaObject>(strict) });
    for (const [name, definition] of Object.entries(definitions))
      for (const { group, version, kind } of definition['x-kubernetes-group-version-kind'] ?? [])
        this.#names.set(`${group === '' ? '' : `${group}/`}${version} ${kind}`, name);
  }

  /** What is wrong with an object, one line each. */
  problems(manifest: Manifest): string[] {
    const { apiVersion, kind } = manifest;
    const custom = CUSTOM[kind];
    if (custom)
      return (
        custom.safeParse(manifest).error?.issues.map(({ path, message }) => `${kind} ${path.join('.')}: ${message}`) ??
        []
      );
    const name = this.#names.get(`${apiVersion} ${kind}`);
    const validate = name && (this.#ajv.getSchema(`kubernetes#/definitions/${name}`) as ValidateFunction | undefined);
    if (!validate) return [`${apiVersion} ${kind}: no schema`];
    validate(manifest);
    return (validate.errors ?? []).map(
      ({ instancePath, message = '', params }) => `${kind} ${instancePath}: ${message} ${JSON.stringify(params)}`,
    );
  }
}

/** The description that .ci/run fetches; where it is not, says so. */
export function openSchema(): Schema | null {
  if (existsSync(SCHEMA)) return new Schema();
  process.stderr.write(`SKIPPED: strict check of manifests: missing ${SCHEMA}; .ci/run fetches it\n`);
  return null;
}
