/** A text for a flag, and where it stands. */
export interface StandardText {
  readonly source: string;
  readonly text: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The variables of OpenTelemetry that stand for a flag, the more specific first. */
const EXPORTER: readonly (readonly [flag: string, variables: readonly string[]])[] = [
  ['otlp.protocol', ['OTEL_EXPORTER_OTLP_METRICS_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL']],
  ['otlp.headers', ['OTEL_EXPORTER_OTLP_METRICS_HEADERS', 'OTEL_EXPORTER_OTLP_HEADERS']],
  ['otlp.compression', ['OTEL_EXPORTER_OTLP_METRICS_COMPRESSION', 'OTEL_EXPORTER_OTLP_COMPRESSION']],
  ['otlp.timeout', ['OTEL_EXPORTER_OTLP_METRICS_TIMEOUT', 'OTEL_EXPORTER_OTLP_TIMEOUT', 'OTEL_METRIC_EXPORT_TIMEOUT']],
  ['otlp.interval', ['OTEL_METRIC_EXPORT_INTERVAL']],
  ['otlp.certificate', ['OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE', 'OTEL_EXPORTER_OTLP_CERTIFICATE']],
  [
    'otlp.client-certificate',
    ['OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE', 'OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE'],
  ],
  ['otlp.client-key', ['OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY', 'OTEL_EXPORTER_OTLP_CLIENT_KEY']],
];

/** Says whether OTEL_SDK_DISABLED switches OpenTelemetry off, whatever the flags are. */
export function isSdkDisabled(environment: Environment): boolean {
  return environment['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true';
}

/**
 * The endpoint of the standard variables: that for metrics is whole, to the general one the path of the signal is to be added;
 * undefined without either, or where OTEL_METRICS_EXPORTER names another exporter.
 * https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
export function standardEndpoint(environment: Environment): (StandardText & { readonly isWhole: boolean }) | undefined {
  const exporters = environment['OTEL_METRICS_EXPORTER'] || 'otlp';
  if (!exporters.split(',').some((name) => name.trim() === 'otlp')) return undefined;
  const whole = first(environment, ['OTEL_EXPORTER_OTLP_METRICS_ENDPOINT']);
  if (whole) return { ...whole, isWhole: true };
  const general = first(environment, ['OTEL_EXPORTER_OTLP_ENDPOINT']);
  return general && { ...general, isWhole: false };
}

/** What the standard variables say for the other flags of OTLP, by flag; an empty variable says nothing, times are in milliseconds. */
export function standardTexts(environment: Environment): ReadonlyMap<string, StandardText> {
  const texts = new Map<string, StandardText>();
  for (const [flag, variables] of EXPORTER) {
    const found = first(environment, variables);
    if (found) texts.set(flag, { ...found, text: found.text.replace(/^\d+$/, '$&ms') });
  }
  return texts;
}

/**
 * Attributes of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, and the node and cluster of the variables that Kubernetes
 * manifests set (K8S_NODE_NAME or NODE_NAME, K8S_CLUSTER_NAME). Undefined where OTEL_RESOURCE_ATTRIBUTES is not "key=value,..."
 * with its "," and "=" percent-encoded.
 * https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable
 */
export function standardResource(environment: Environment): Record<string, string> | undefined {
  const given = parsePairs(environment['OTEL_RESOURCE_ATTRIBUTES'] ?? '');
  if (!given) return undefined;
  const known: [string, string | undefined][] = [
    ['k8s.node.name', environment['K8S_NODE_NAME'] || environment['NODE_NAME']],
    ['k8s.cluster.name', environment['K8S_CLUSTER_NAME']],
    ...given,
    ['service.name', environment['OTEL_SERVICE_NAME']],
  ];
  return Object.fromEntries(known.filter((pair): pair is [string, string] => Boolean(pair[1])));
}

/** Reads "key=value,key=value", keys and values percent-encoded; undefined where it is not that. */
export function parsePairs(text: string): [key: string, value: string][] | undefined {
  const pairs: [string, string][] = [];
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const [, key = '', value = ''] = /^([^=]+)=(.*)$/s.exec(part) ?? [];
    try {
      const pair: [string, string] = [decodeURIComponent(key.trim()), decodeURIComponent(value.trim())];
      if (pair[0] === '') return undefined;
      pairs.push(pair);
    } catch {
      return undefined;
    }
  }
  return pairs;
}

function first(environment: Environment, variables: readonly string[]): StandardText | undefined {
  for (const source of variables) {
    const text = environment[source]?.trim();
    if (text) return { source, text };
  }
  return undefined;
}
