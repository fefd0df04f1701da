import type { MessagePort } from 'node:worker_threads';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import type { Config } from '../../src/config/config.ts';
import type { Collected, ExportFailure, OtlpSettings } from '../../src/expose/otlp.ts';
import type { Family } from '../../src/model.ts';
import { OtlpThread, otlpSettings, type RunFacts } from '../../src/serve/otlp-thread.ts';
import { CATALOGUE } from './otlp-labels.ts';

export const FACTS: RunFacts = {
  version: '1.2.3',
  hostname: 'node-1.example',
  machineId: '0123456789abcdef0123456789abcdef\n',
  platform: 'linux',
  origins: { exporter: 1_000_000, boot: 5_000 },
  phase: 0,
};

/** Established connections of a number of processes: 1 of the first, 2 of the second and so on. */
export function connections(processes: number): Family {
  const spec = CATALOGUE.find(({ name }) => name === 'peerscope_connections');
  if (!spec) throw new Error('peerscope_connections is not in the catalogue');
  const { name, help, type, labels } = spec;
  const samples = Array.from({ length: processes }, (_, i) => ({
    labels: labels.map((label) => (label === 'process' ? `process-${i}` : label === 'state' ? 'established' : '')),
    value: i + 1,
  }));
  return { name, help, type, labels, samples };
}

interface OtlpOptions {
  readonly settings?: Partial<OtlpSettings>;
  readonly collect?: (port: MessagePort) => Promise<void>;
  readonly failed?: (failure: ExportFailure) => void;
}

/** Starts the real thread with this configuration; the families do not come from a scan. */
export function startPush(otlp: Config['otlp'], { settings, collect, failed }: OtlpOptions = {}): OtlpThread {
  if (!otlp) throw new Error('OTLP is off');
  return new OtlpThread({ ...otlpSettings(otlp, FACTS), ...settings }, SYSTEM_CLOCK, {
    collect: collect ?? reply([connections(1)]),
    failed: failed ?? (() => undefined),
    died: (reason) => {
      throw new Error(reason);
    },
  });
}

/** Answers with these families. */
export function reply(families: readonly Family[]): (port: MessagePort) => Promise<void> {
  return (port) => {
    port.postMessage({ families } satisfies Collected);
    port.close();
    return Promise.resolve();
  };
}
