import { subscribe } from 'node:diagnostics_channel';
import type { Agent as HttpAgent, ClientRequest, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { MessageChannel, parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { diag, DiagLogLevel, ValueType } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  PeriodicExportingMetricReader,
  type CollectionResult,
  type DataPoint,
  type Histogram,
  type MetricData,
  type MetricProducer,
  type PushMetricExporter,
  type ResourceMetrics,
} from '@opentelemetry/sdk-metrics';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import type { Family } from '../model.ts';
import { isAmount, Points, type Metric, type Origins, type Point } from './otlp-points.ts';

// Not imported, for the reason in web/server.ts.
const http = process.getBuiltinModule('node:http');

/** What the thread is started with; times in milliseconds. */
export interface OtlpSettings {
  readonly version: string;
  readonly url: string;
  readonly protocol: 'http/json' | 'http/protobuf';
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: 'gzip' | 'none';
  /** PEM; null for the certificates that Node.js trusts, and for no certificate of its own. */
  readonly tls: Readonly<Record<'ca' | 'cert' | 'key', string | null>>;
  /** The URL of an HTTP proxy, or null. */
  readonly proxy: string | null;
  readonly firstMs: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly resource: Readonly<Record<string, string>>;
  readonly origins: Origins;
}

/** What the thread sends: a request for families, the result of an export, or that it has finished after `stop`. */
export type OtlpMessage =
  | { readonly kind: 'collect'; readonly port: MessagePort }
  | { readonly kind: 'exported' }
  | { readonly kind: 'failed'; readonly failure: ExportFailure }
  | { readonly kind: 'stopped' };

/** The answer on the port of a `collect`: every family of one scan, or the reason why there are none. */
export type Collected = { readonly families: readonly Family[] } | { readonly reason: string };

/** Why an export failed; `status` is the HTTP status of the answer, null without one. */
export interface ExportFailure {
  readonly reason: string;
  readonly status: number | null;
}

const SCOPE = 'peerscope';
/** A receiver may say at length why it refuses. */
const LONGEST_REASON = 300;
/** Real answers have a few hundred bytes. The SDK keeps every chunk of an answer, and a chunk of one byte takes a hundred. */
const LONGEST_ANSWER = 256 << 10;
const MOST_CHUNKS = 1_000;
/** ExportResultCode.SUCCESS, of a package that is the SDK's own affair. */
const TAKEN = 0;
type Done = Parameters<PushMetricExporter['export']>[1];

/**
 * Exports through the OpenTelemetry SDK, in a thread of its own: to serialize 20,000 points takes a quarter of a second.
 * The families go in as a MetricProducer: instruments would keep every series forever and drop those beyond the 2,000th.
 */
async function work(port: MessagePort, settings: OtlpSettings): Promise<void> {
  const points = new Points(settings.origins);
  const post = (message: OtlpMessage, transfer: MessagePort[] = []): void => port.postMessage(message, transfer);
  const delivery = await Delivery.open(settings, (failure) => {
    if (!failure) points.confirm();
    post(failure ? { kind: 'failed', failure } : { kind: 'exported' });
  });
  const producer: MetricProducer = {
    collect: async () => {
      // The SDK keeps what is thrown here to itself.
      try {
        const collected = await ask((port) => post({ kind: 'collect', port }, [port]));
        if ('reason' in collected) throw new Error(collected.reason);
        const at = SYSTEM_CLOCK.now();
        return collection(points.of(collected.families, at), at, settings.version);
      } catch (error) {
        post({ kind: 'failed', failure: { reason: reasonOf(error), status: null } });
        return collection([], 0, settings.version);
      }
    },
  };
  let provider: MeterProvider | undefined;
  const start = (): MeterProvider => {
    const reader = new PeriodicExportingMetricReader({
      exporter: delivery,
      metricProducers: [producer],
      exportIntervalMillis: settings.intervalMs,
      exportTimeoutMillis: settings.timeoutMs,
    });
    return new MeterProvider({ resource: resourceFromAttributes({ ...settings.resource }), readers: [reader] });
  };
  const first = setTimeout(() => {
    provider = start();
    void provider.forceFlush();
  }, settings.firstMs);
  port.once('message', () => {
    clearTimeout(first);
    // Exports once more.
    const stopped = (): void => post({ kind: 'stopped' });
    void (provider ?? start()).shutdown().then(stopped, stopped);
  });
}

/** Hands one end of a new channel over, and waits at the other. */
async function ask(send: (port: MessagePort) => void): Promise<Collected> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.once('message', resolve);
    port1.once('close', () => resolve({ reason: 'the worker thread gave no answer' }));
    send(port2);
  });
}

/** The exporter of the SDK, with a correct result and a time limit on the whole export. */
class Delivery implements PushMetricExporter {
  readonly #exporter: PushMetricExporter;
  readonly #agent: HttpAgent;
  readonly #timeoutMs: number;
  readonly #ended: (failure: ExportFailure | null) => void;
  #partial: string | null = null;
  #tooLong: string | null = null;

  /** `ended` is called after every export: with null if the receiver accepted all of it, else with the failure. */
  static async open(settings: OtlpSettings, ended: (failure: ExportFailure | null) => void): Promise<Delivery> {
    const { url, protocol, headers, compression, timeoutMs, tls, proxy, version } = settings;
    // Older releases of Node.js ignore the option.
    const proxied = proxy === null ? {} : { proxyEnv: { HTTP_PROXY: proxy, HTTPS_PROXY: proxy } };
    const files = Object.fromEntries(Object.entries(tls).filter(([, pem]) => pem !== null)) as Record<string, string>;
    const agent = url.startsWith('https:')
      ? new HttpsAgent({ keepAlive: true, ...proxied, ...files })
      : new http.Agent({ keepAlive: true, ...proxied });
    const { OTLPMetricExporter } =
      protocol === 'http/json'
        ? await import('@opentelemetry/exporter-metrics-otlp-http')
        : await import('@opentelemetry/exporter-metrics-otlp-proto');
    type Options = NonNullable<ConstructorParameters<typeof OTLPMetricExporter>[0]>;
    const exporter = new OTLPMetricExporter({
      url,
      headers: { ...headers },
      compression: compression as unknown as NonNullable<Options['compression']>,
      timeoutMillis: timeoutMs,
      httpAgentOptions: () => agent,
      temporalityPreference: AggregationTemporality.CUMULATIVE,
      userAgent: `peerscope/${version}`,
    });
    return new Delivery(exporter, agent, timeoutMs, ended);
  }

  private constructor(
    exporter: PushMetricExporter,
    agent: HttpAgent,
    timeoutMs: number,
    ended: (failure: ExportFailure | null) => void,
  ) {
    this.#exporter = exporter;
    this.#agent = agent;
    this.#timeoutMs = timeoutMs;
    this.#ended = ended;
    this.#watchPartialSuccess();
    subscribe('http.client.request.created', (message) => {
      const { request } = message as { readonly request: ClientRequest };
      request.once('response', (response: IncomingMessage) => this.#limit(response));
    });
  }

  selectAggregationTemporality(): AggregationTemporality {
    return AggregationTemporality.CUMULATIVE;
  }

  export(metrics: ResourceMetrics, done: Done): void {
    this.#partial = null;
    this.#tooLong = null;
    // The SDK limits silence only: a receiver that answers byte by byte would keep an export open.
    let late: string | null = null;
    const overdue = setTimeout(() => {
      late = `no complete response within ${this.#timeoutMs} ms`;
      this.#agent.destroy();
    }, this.#timeoutMs);
    const end: Done = (result) => {
      clearTimeout(overdue);
      const code: number = result.code;
      const refusal = late ?? this.#tooLong ?? this.#partial;
      if (refusal !== null) this.#ended({ reason: refusal, status: null });
      else this.#ended(code === TAKEN ? null : failureOf(result.error));
      done(result);
    };
    try {
      this.#exporter.export(metrics, end);
    } catch (error) {
      clearTimeout(overdue);
      this.#ended({ reason: reasonOf(error), status: null });
      throw error;
    }
  }

  async forceFlush(): Promise<void> {
    await this.#exporter.forceFlush();
  }

  async shutdown(): Promise<void> {
    await this.#exporter.shutdown();
    this.#agent.destroy();
  }

  #limit(response: IncomingMessage): void {
    let bytes = 0;
    let chunks = 0;
    response.on('data', ({ length }: Buffer) => {
      bytes += length;
      if (bytes <= LONGEST_ANSWER && ++chunks <= MOST_CHUNKS) return;
      this.#tooLong = `the response has more than ${LONGEST_ANSWER} bytes or ${MOST_CHUNKS} parts`;
      response.destroy(new Error(this.#tooLong));
    });
  }

  /** The SDK reports an export with rejected points as a success; only its diagnostics have the number. */
  #watchPartialSuccess(): void {
    const ignore = (): void => undefined;
    const warn = (message: string, detail?: unknown): void => {
      if (!message.startsWith('Received Partial Success')) return;
      const { rejectedDataPoints = 0, errorMessage = '' } = JSON.parse(String(detail)) as Record<string, string>;
      if (Number(rejectedDataPoints) > 0)
        this.#partial = `the receiver rejected ${rejectedDataPoints} points: ${errorMessage}`.slice(0, LONGEST_REASON);
    };
    diag.setLogger({ error: ignore, warn, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN);
  }
}

/** Returns the reason of a failure. After retries, the SDK does not say which status the last response had. */
function failureOf(error: (Error & { code?: unknown; data?: unknown }) | undefined): ExportFailure {
  const message = error?.message ?? '';
  if (message === 'Export failed with retryable status')
    return { reason: 'the receiver answered 429, 502, 503 or 504 to every attempt', status: null };
  const status = typeof error?.code === 'number' ? error.code : null;
  const body = typeof error?.data === 'string' ? error.data.trim() : '';
  const reason =
    status === null
      ? reasonOf(error) || String(error?.code)
      : `the receiver answered ${status} ${message} ${body}`.trim();
  return { reason: reason.slice(0, LONGEST_REASON), status };
}

function collection(metrics: readonly Metric[], at: number, version: string): CollectionResult {
  const scopeMetrics = [{ scope: { name: SCOPE, version }, metrics: metrics.map((metric) => metricData(metric, at)) }];
  return {
    resourceMetrics: { resource: resourceFromAttributes({}), scopeMetrics: metrics.length > 0 ? scopeMetrics : [] },
    errors: [],
  };
}

function metricData({ name, description, unit, type, points }: Metric, at: number): MetricData {
  const endTime = hrTime(at);
  const pointsOf = <T>(valueOf: (point: Point) => T): DataPoint<T>[] =>
    points.map((point) => ({
      attributes: point.attributes,
      startTime: point.startMs === at ? endTime : hrTime(point.startMs),
      endTime,
      value: valueOf(point),
    }));
  const valueType = isAmount(unit) ? ValueType.INT : ValueType.DOUBLE;
  const common = {
    descriptor: { name, description, unit, valueType },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  } as const;
  switch (type) {
    case 'gauge':
      return { ...common, dataPointType: DataPointType.GAUGE, dataPoints: pointsOf(({ value }) => value) };
    case 'counter':
      return {
        ...common,
        dataPointType: DataPointType.SUM,
        isMonotonic: true,
        dataPoints: pointsOf(({ value }) => value),
      };
    case 'summary':
      return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints: pointsOf(histogramOf) };
  }
}

/** A histogram of one bucket, which holds every observation. */
function histogramOf({ value: sum, count = 0 }: Point): Histogram {
  return { buckets: { boundaries: [], counts: [count] }, sum, count };
}

function hrTime(ms: number): [seconds: number, nanoseconds: number] {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}

if (parentPort) await work(parentPort, workerData as OtlpSettings);
