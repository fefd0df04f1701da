import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Worker, type MessagePort } from 'node:worker_threads';
import type { Status } from '../metrics/catalogue.ts';
import type { Timer } from '../common/clock.ts';
import type { OtlpConfig } from '../config/config.ts';
import type { Failure, News, OtlpSettings } from '../expose/otlp.ts';
import type { Origins } from '../expose/otlp-points.ts';

/** What is known of this run and its host. */
export interface Facts {
  readonly version: string;
  readonly hostname: string;
  /** The text of /etc/machine-id; null where there is none. */
  readonly machineId: string | null;
  /** As Node.js names it. */
  readonly platform: string;
  readonly origins: Origins;
  /** From 0 to 1, by chance: when in its interval the first export is due. */
  readonly phase: number;
}

/** Who hears of what the thread has to say. */
export interface Listeners {
  /** Has every family of a scan sent to the port, as `Collected`. */
  readonly collect: (reply: MessagePort) => Promise<void>;
  readonly failed: (failure: Failure) => void;
  /** Hears of a thread that ended by itself: nothing will be sent any more. */
  readonly died: (reason: string) => void;
}

/** What the thread needs to know. Throws an Error with one clear line when a certificate or key cannot be read. */
export function settingsOf(otlp: OtlpConfig, facts: Facts): OtlpSettings {
  const { certificate, clientCertificate, clientKey, ...rest } = otlp;
  return {
    ...rest,
    version: facts.version,
    tls: {
      ca: readPem('certificate', certificate),
      cert: readPem('client certificate', clientCertificate),
      key: readPem('client key', clientKey),
    },
    firstMs: Math.round(facts.phase * otlp.intervalMs),
    resource: resourceOf(facts, otlp.resource),
    origins: facts.origins,
  };
}

function readPem(what: string, file: string | null): string | null {
  if (file === null) return null;
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot read ${what} "${file}": ${reason}`, { cause: error });
  }
}

/**
 * Says whether a resource attribute would pass for one of a connection. Receivers copy resource attributes to every series, so the
 * exporter's own pod, container or process would become that of each row that has none. Nodes and clusters are those of the rows.
 */
export function describesExporterOnly(attribute: string): boolean {
  return /^(k8s_(?!node_|cluster_)|container_|process_|network_|peerscope_)/.test(attribute.replace(/\W/g, '_'));
}

/**
 * The attributes of the resource; those that are given win, except those of the exporter alone. In a pod the host is the node, as
 * far as its name is known.
 */
export function resourceOf(facts: Facts, given: Readonly<Record<string, string>>): Record<string, string> {
  const node = given['k8s.node.name'];
  return {
    'service.name': 'peerscope',
    'service.version': facts.version,
    'service.instance.id': node ?? instanceId(facts),
    'host.name': node ?? facts.hostname,
    'os.type': facts.platform === 'win32' ? 'windows' : facts.platform,
    ...Object.fromEntries(Object.entries(given).filter(([attribute]) => !describesExporterOnly(attribute))),
  };
}

/** The namespace of ids made from a machine's id: https://opentelemetry.io/docs/specs/semconv/registry/attributes/service/ */
const MACHINES = Buffer.from('4d63009a8d0f11eeaad74c796ed8e320', 'hex');

/** An id that stays the same for a host: a UUID of version 5. The host's name is in it because images are copied with their machine-id. */
function instanceId({ machineId, hostname }: Facts): string {
  const name = `${machineId?.trim() ?? ''} ${hostname}`;
  const hash = createHash('sha1').update(MACHINES).update(name).digest().subarray(0, 16);
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x50, 6);
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8);
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** What a person may do about a failure: a receiver that does not read JSON answers 400 or 415. */
export function adviceOn({ status }: Failure, protocol: OtlpConfig['protocol']): string | null {
  const refusesJson = protocol === 'http/json' && (status === 400 || status === 415);
  return refusesJson ? 'a receiver that does not read JSON needs --otlp.protocol=http/protobuf' : null;
}

/** The main thread's side of OTLP: it counts what the thread of expose/otlp.ts sent, and ends it in time. */
export class Push {
  readonly #worker: Worker;
  readonly #timeoutMs: number;
  readonly #clock: Timer;
  readonly #stopped: Promise<null>;
  #counts = { exports: 0, failures: 0 };
  #closing = false;

  constructor(settings: OtlpSettings, clock: Timer, { collect, failed, died }: Listeners) {
    this.#timeoutMs = settings.timeoutMs;
    this.#clock = clock;
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    // Without an environment the SDK cannot read what config.ts has read already.
    const options = { workerData: settings, env: {} };
    this.#worker = new Worker(new URL(`../expose/otlp.${extension}`, import.meta.url), options);
    const { promise, resolve } = Promise.withResolvers<null>();
    this.#stopped = promise;
    const ended = (): void => resolve(null);
    let reason = 'it ended';
    this.#worker.on('message', (news: News) => {
      if (news.kind === 'collect') collect(news.reply).catch(() => undefined);
      else if (news.kind === 'taken') this.#counts.exports++;
      else if (news.kind === 'stopped') ended();
      else {
        this.#counts.failures++;
        failed(news.failure);
      }
    });
    this.#worker.on('error', (error: Error) => (reason = error.message));
    this.#worker.on('exit', () => {
      ended();
      if (!this.#closing) died(reason);
    });
  }

  /** Exports that the receiver took, and those that failed. */
  get counts(): NonNullable<Status['otlp']> {
    return { ...this.#counts };
  }

  /** Lets the export under way end, exports once more, and gives up on both when the time of one export has passed. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#worker.postMessage('stop');
    let cancel = (): void => undefined;
    const late = new Promise((resolve) => {
      cancel = this.#clock.after(this.#timeoutMs, () => resolve(null));
    });
    await Promise.race([this.#stopped, late]);
    cancel();
    await this.#worker.terminate();
  }
}
