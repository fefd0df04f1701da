/** The value of an OpenTelemetry variable, and the name of the variable. */
export interface OtelSetting {
  readonly source: string;
  readonly text: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The OpenTelemetry variables of each flag, most specific first. */
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

/** Returns true if OTEL_SDK_DISABLED disables OpenTelemetry, regardless of flags. */
export function isSdkDisabled(environment: Environment): boolean {
  return environment['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true';
}

/**
 * Returns the endpoints from the standard variables, most specific first. The metrics endpoint is complete; the signal
 * path must be appended to the general one. Empty if OTEL_METRICS_EXPORTER selects another exporter.
 * https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
export function otelEndpoints(environment: Environment): (OtelSetting & { readonly isWhole: boolean })[] {
  const exporters = environment['OTEL_METRICS_EXPORTER'] || 'otlp';
  if (!exporters.split(',').some((name) => name.trim() === 'otlp')) return [];
  const whole = settings(environment, ['OTEL_EXPORTER_OTLP_METRICS_ENDPOINT']);
  const general = settings(environment, ['OTEL_EXPORTER_OTLP_ENDPOINT']);
  return [
    ...whole.map((setting) => ({ ...setting, isWhole: true })),
    ...general.map((setting) => ({ ...setting, isWhole: false })),
  ];
}

/**
 * Returns the values of the other OTLP flags from the standard variables, by flag, most specific first. Empty variables
 * are ignored; times are in milliseconds.
 */
export function otelSettings(environment: Environment): ReadonlyMap<string, readonly OtelSetting[]> {
  return new Map(
    EXPORTER.map(([flag, variables]) => [
      flag,
      settings(environment, variables).map(({ source, text }) => ({ source, text: text.replace(/^\d+$/, '$&ms') })),
    ]),
  );
}

/** Returns the variables whose value is known to be unsupported, and what they must be. */
export function unsupportedOtelVariables(environment: Environment): (OtelSetting & { readonly allowed: string })[] {
  const allowed: readonly (readonly [variable: string, RegExp, allowed: string])[] = [
    ['OTEL_SDK_DISABLED', /^(true|false)$/i, 'true or false'],
    ['OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE', /^cumulative$/i, 'cumulative'],
  ];
  return allowed.flatMap(([variable, pattern, allowed]) =>
    settings(environment, [variable]).flatMap((setting) =>
      pattern.test(setting.text) ? [] : [{ ...setting, allowed }],
    ),
  );
}

/**
 * Returns the attributes from OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, plus node and cluster from the
 * variables that Kubernetes manifests set (K8S_NODE_NAME or NODE_NAME, K8S_CLUSTER_NAME). Undefined if
 * OTEL_RESOURCE_ATTRIBUTES is not "key=value,..." with "," and "=" percent-encoded.
 * https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable
 */
export function otelResource(environment: Environment): Record<string, string> | undefined {
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

/** Parses "key=value,key=value" with percent-encoded keys and values; undefined if invalid. */
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

function settings(environment: Environment, variables: readonly string[]): OtelSetting[] {
  return variables.flatMap((source) => {
    const text = environment[source]?.trim();
    return text ? [{ source, text }] : [];
  });
}
