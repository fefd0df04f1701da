import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { once } from 'node:events';
import { gunzipSync } from 'node:zlib';

interface KeyValue {
  readonly key: string;
  readonly value: {
    readonly stringValue?: string;
    readonly intValue?: number;
  };
}

interface DataPoint {
  readonly attributes: readonly KeyValue[];
  readonly startTimeUnixNano: string;
  readonly timeUnixNano: string;
  readonly asInt?: number;
  readonly asDouble?: number;
}

interface HistogramPoint extends Omit<DataPoint, 'asInt' | 'asDouble'> {
  readonly sum: number;
  readonly count: number;
  readonly bucketCounts: readonly number[];
  readonly explicitBounds: readonly number[];
}

interface OtlpMetric {
  readonly name: string;
  readonly description: string;
  readonly unit: string;
  readonly gauge?: { readonly dataPoints: readonly DataPoint[] };
  readonly sum?: {
    readonly dataPoints: readonly DataPoint[];
    readonly isMonotonic: boolean;
    readonly aggregationTemporality: number;
  };
  readonly histogram?: { readonly dataPoints: readonly HistogramPoint[]; readonly aggregationTemporality: number };
}

/** An ExportMetricsServiceRequest in JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). */
export interface OtlpRequest {
  readonly resourceMetrics: readonly [
    {
      readonly resource: { readonly attributes: readonly KeyValue[] };
      readonly scopeMetrics: readonly [{ readonly scope: { readonly name: string }; readonly metrics: OtlpMetric[] }];
    },
  ];
}

/** One series as it arrived. */
export interface ReceivedPoint {
  readonly name: string;
  readonly unit: string;
  readonly type: 'gauge' | 'counter' | 'summary';
  readonly isCounter: boolean;
  readonly attributes: Readonly<Record<string, string | number>>;
  readonly startMs: number;
  readonly endMs: number;
  readonly value: number;
  /** Only in a summary. */
  readonly count?: number;
}

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Milliseconds of a steady clock. */
  readonly at: number;
  /** Decompressed. */
  readonly body: Buffer;
}

/** How the receiver treats a request that it has read. */
export type Answer = (response: ServerResponse) => void;

export const takes: Answer = (response) => response.writeHead(200).end('{}');
export const answers =
  (status: number, headers: Record<string, string> = {}, body = ''): Answer =>
  (response) =>
    response.writeHead(status, headers).end(body);
/** Accepts requests and never responds. */
export const isSilent: Answer = () => undefined;
export const cutsTheConnection: Answer = (response) => response.socket?.destroy();
/** Answers byte by byte, without an end. */
export const dribbles: Answer = (response) => {
  response.writeHead(200);
  const timer = setInterval(() => response.write(' '), 20);
  response.on('close', () => clearInterval(timer));
};

/** An OTLP receiver on the loopback interface with configurable responses. */
export class OtlpReceiver {
  readonly received: Received[] = [];
  answer: Answer = takes;
  readonly #server: Server;
  readonly #scheme: 'http' | 'https';

  /** With `tls` it wants a certificate of its clients too. */
  static async start(tls?: { readonly cert: Buffer; readonly key: Buffer }): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver(tls);
    receiver.#server.listen(0, '127.0.0.1');
    await once(receiver.#server, 'listening');
    return receiver;
  }

  private constructor(tls?: { readonly cert: Buffer; readonly key: Buffer }) {
    this.#scheme = tls ? 'https' : 'http';
    this.#server = tls ? createSecureServer({ ...tls, ca: tls.cert, requestCert: true }) : createServer();
    this.#server.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const sent = Buffer.concat(chunks);
        const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent;
        this.received.push({ path: request.url ?? '', headers: request.headers, at: performance.now(), body });
        this.answer(response);
      });
    });
  }

  get url(): string {
    const address = this.#server.address();
    return `${this.#scheme}://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  }

  /** The JSON requests so far. */
  get requests(): OtlpRequest[] {
    return this.received.map(({ body }) => JSON.parse(body.toString()) as OtlpRequest);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Every point of a request. */
export function pointsOf({ resourceMetrics: [{ scopeMetrics }] }: OtlpRequest): ReceivedPoint[] {
  return scopeMetrics[0].metrics.flatMap(({ name, unit, gauge, sum, histogram }) => {
    const isCounter = sum?.isMonotonic === true && sum.aggregationTemporality === 2;
    const head = (point: DataPoint | HistogramPoint) => ({
      name,
      unit,
      isCounter,
      type: histogram ? ('summary' as const) : isCounter ? ('counter' as const) : ('gauge' as const),
      attributes: attributesOf(point.attributes),
      startMs: Number(BigInt(point.startTimeUnixNano) / 1_000_000n),
      endMs: Number(BigInt(point.timeUnixNano) / 1_000_000n),
    });
    return [
      ...((gauge ?? sum)?.dataPoints ?? []).map((point) => ({
        ...head(point),
        value: point.asInt ?? point.asDouble ?? Number.NaN,
      })),
      ...(histogram?.dataPoints ?? []).map((point) => ({ ...head(point), value: point.sum, count: point.count })),
    ];
  });
}

/** The attributes of the resource of a request. */
export function resourceOf({ resourceMetrics: [{ resource }] }: OtlpRequest): ReceivedPoint['attributes'] {
  return attributesOf(resource.attributes);
}

function attributesOf(attributes: readonly KeyValue[]): ReceivedPoint['attributes'] {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, intValue } }) => [key, stringValue ?? intValue ?? '']),
  );
}
