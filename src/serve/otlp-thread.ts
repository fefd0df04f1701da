import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { Worker, type MessagePort } from 'node:worker_threads';
import { Procfs } from '../collect/procfs.ts';
import type { Commands } from '../collect/ss-netstat.ts';
import { SYSTEM_CLOCK, type Timer } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import type { Log, RepeatLimiter } from '../common/log.ts';
import type { OtlpConfig } from '../config/config.ts';
import type { Origins } from '../expose/otlp-points.ts';
import type { ExportFailure, OtlpMessage, OtlpSettings } from '../expose/otlp.ts';
import type { Status } from '../metrics/status-families.ts';
import { shownUrl } from './start-line.ts';

/** The facts about this run and its host that go into the resource and the start times. */
export interface RunFacts {
  readonly version: string;
  readonly hostname: string;
  /** The text of /etc/machine-id; null without one. */
  readonly machineId: string | null;
  /** `process.platform`. */
  readonly platform: string;
  readonly origins: Origins;
  /** A random number from 0 to 1: the share of the interval before the first export. */
  readonly phase: number;
}

export interface OtlpContext {
  readonly source: Procfs | Commands;
  readonly version: string;
  readonly failures: RepeatLimiter;
  readonly log: Log;
  /** Ends the run with this exit code. */
  readonly stop: (code: number) => void;
}

/** Receives what the thread sends. */
export interface OtlpCallbacks {
  /** Makes the worker send every family of a scan to the port, as `Collected`. */
  readonly collect: (port: MessagePort) => Promise<void>;
  readonly failed: (failure: ExportFailure) => void;
  /** The thread ended unexpectedly: there will be no more exports. */
  readonly died: (reason: string) => void;
}

/** Reads the settings and PEM files of OTLP; returns what starts the thread. Throws when a file cannot be read. */
export function prepareOtlp(
  otlp: OtlpConfig,
  { source, version, failures, log, stop }: OtlpContext,
): (collect: OtlpCallbacks['collect']) => OtlpThread {
  const startedAt = SYSTEM_CLOCK.now();
  const settings = otlpSettings(withoutUnreadable(otlp, log), {
    version,
    hostname: hostname(),
    machineId: readMachineId(),
    platform: process.platform,
    origins: { exporter: startedAt, boot: (source instanceof Procfs ? source.bootedAt() : null) ?? startedAt },
    phase: Math.random(),
  });
  if (otlp.proxy !== null && !process.allowedNodeEnvironmentFlags.has('--use-env-proxy'))
    log.warn(
      { reason: `Node.js ${process.version} has no support for proxies; Node.js 22.21 and 24.5 have` },
      'otlp exports do not use the proxy',
    );
  const dropped = Object.keys(otlp.resource).filter(describesExporterOnly);
  if (dropped.length > 0)
    log.info(
      { attributes: dropped.join(',') },
      'resource attributes that describe only the exporter are not sent: receivers would copy them to the rows of the host',
    );
  const failed = (failure: ExportFailure): void => {
    const advice = adviceOn(failure, otlp.protocol);
    const fields = { endpoint: shownUrl(otlp.url), reason: failure.reason, ...(advice === null ? {} : { advice }) };
    failures.warn('otlp', fields, 'an otlp export failed');
  };
  const died = (reason: string): void => {
    log.fatal({ reason }, 'the otlp thread ended');
    stop(1);
  };
  return (collect) => new OtlpThread(settings, SYSTEM_CLOCK, { collect, failed, died });
}

/** Null on a host without one. */
function readMachineId(): string | null {
  try {
    return readFileSync('/etc/machine-id', 'utf8');
  } catch {
    return null;
  }
}

/** The settings of the thread. Throws an Error of one line when a certificate or key cannot be read. */
export function otlpSettings(otlp: OtlpConfig, facts: RunFacts): OtlpSettings {
  const { certificate, clientCertificate, clientKey } = otlp;
  const { url, protocol, headers, compression, intervalMs, timeoutMs, proxy } = otlp;
  return {
    ...{ url, protocol, headers, compression, intervalMs, timeoutMs, proxy },
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

/** Removes the files of OpenTelemetry variables that cannot be read: they may be meant for other programs of the pod. */
function withoutUnreadable(otlp: OtlpConfig, log: Log): OtlpConfig {
  const isUnreadable = (what: string, file: string | null): boolean => {
    if (file === null || !otlp.optionalFiles.includes(file)) return false;
    try {
      readPem(what, file);
      return false;
    } catch (error) {
      log.warn({ reason: reasonOf(error) }, 'an environment variable is ignored');
      return true;
    }
  };
  const certificate = isUnreadable('certificate', otlp.certificate) ? null : otlp.certificate;
  const { clientCertificate, clientKey } = otlp;
  return isUnreadable('client certificate', clientCertificate) || isUnreadable('client key', clientKey)
    ? { ...otlp, certificate, clientCertificate: null, clientKey: null }
    : { ...otlp, certificate };
}

function readPem(what: string, file: string | null): string | null {
  if (file === null) return null;
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`Cannot read ${what} "${file}": ${reasonOf(error)}`, { cause: error });
  }
}

/**
 * Returns whether a resource attribute could be taken for one of a connection. Receivers copy resource attributes to every series, so
 * the exporter's own pod, container or process would become that of every row without one. Node and cluster apply to the rows too.
 */
export function describesExporterOnly(attribute: string): boolean {
  return /^(k8s_(?!node_|cluster_)|container_|process_|network_|peerscope_)/.test(attribute.replace(/\W/g, '_'));
}

/**
 * The resource attributes; configured ones take precedence, without those that describe only the exporter. In a pod, host.name is
 * the name of the node where that is known.
 */
export function resourceOf(facts: RunFacts, configured: Readonly<Record<string, string>>): Record<string, string> {
  const node = configured['k8s.node.name'];
  return {
    'service.name': 'peerscope',
    'service.version': facts.version,
    'service.instance.id': node ?? instanceId(facts),
    'host.name': node ?? facts.hostname,
    'os.type': facts.platform === 'win32' ? 'windows' : facts.platform,
    ...Object.fromEntries(Object.entries(configured).filter(([attribute]) => !describesExporterOnly(attribute))),
  };
}

/** The UUID namespace of machine ids: https://opentelemetry.io/docs/specs/semconv/registry/attributes/service/ */
const MACHINES = Buffer.from('4d63009a8d0f11eeaad74c796ed8e320', 'hex');

/** A stable id of the host, as UUID version 5. It includes the host name because machine ids are copied with disk images. */
function instanceId({ machineId, hostname }: RunFacts): string {
  const name = `${machineId?.trim() ?? ''} ${hostname}`;
  const hash = createHash('sha1').update(MACHINES).update(name).digest().subarray(0, 16);
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x50, 6);
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8);
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** Advice on a failure; null where there is none. A receiver that does not accept JSON answers 400 or 415. */
export function adviceOn({ status }: ExportFailure, protocol: OtlpConfig['protocol']): string | null {
  const rejectsJson = protocol === 'http/json' && (status === 400 || status === 415);
  return rejectsJson ? 'a receiver that does not accept JSON needs --otlp.protocol=http/protobuf' : null;
}

/** The main thread's side of OTLP: starts the thread of expose/otlp.ts, counts its exports, and ends it in time. */
export class OtlpThread {
  readonly #worker: Worker;
  readonly #timeoutMs: number;
  readonly #clock: Timer;
  readonly #stopped: Promise<null>;
  #counts = { exports: 0, failures: 0 };
  #isClosing = false;

  constructor(settings: OtlpSettings, clock: Timer, { collect, failed, died }: OtlpCallbacks) {
    this.#timeoutMs = settings.timeoutMs;
    this.#clock = clock;
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    // An empty environment keeps the SDK from reading variables that config.ts has read already.
    const options = { workerData: settings, env: {} };
    this.#worker = new Worker(new URL(`../expose/otlp.${extension}`, import.meta.url), options);
    const { promise, resolve } = Promise.withResolvers<null>();
    this.#stopped = promise;
    const stopped = (): void => resolve(null);
    let reason = 'no error was reported';
    this.#worker.on('message', (message: OtlpMessage) => {
      switch (message.kind) {
        case 'collect':
          // The thread receives the reason through its port.
          collect(message.port).catch(() => undefined);
          break;
        case 'exported':
          this.#counts.exports++;
          break;
        case 'failed':
          this.#counts.failures++;
          failed(message.failure);
          break;
        case 'stopped':
          stopped();
      }
    });
    this.#worker.on('error', (error: Error) => (reason = error.message));
    this.#worker.on('exit', () => {
      stopped();
      if (!this.#isClosing) died(reason);
    });
  }

  /** Successful and failed exports. */
  get counts(): NonNullable<Status['otlp']> {
    return { ...this.#counts };
  }

  /** Finishes the export in progress and exports once more, within the timeout of one export. */
  async close(): Promise<void> {
    this.#isClosing = true;
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
