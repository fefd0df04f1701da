import type { MessagePort } from 'node:worker_threads';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import type { Config } from '../../src/config/config.ts';
import type { Collected, Failure, OtlpSettings } from '../../src/expose/otlp.ts';
import type { Family } from '../../src/model.ts';
import { Push, settingsOf, type Facts } from '../../src/serve/otlp-thread.ts';
import { CATALOGUE } from './otlp-labels.ts';

export const FACTS: Facts = {
  version: '1.2.3',
  hostname: 'node-1.example',
  machineId: '0123456789abcdef0123456789abcdef\n',
  platform: 'linux',
  origins: { exporter: 1_000_000, boot: 5_000 },
  phase: 0,
};

/** Established connections of so many processes, the first has 1, the next 2 and so on. */
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

interface PushOptions {
  readonly settings?: Partial<OtlpSettings>;
  readonly collect?: (reply: MessagePort) => Promise<void>;
  readonly failed?: (failure: Failure) => void;
}

/** Sends as the configuration says, as the real program does but for the scan. */
export function startPush(otlp: Config['otlp'], { settings, collect, failed }: PushOptions = {}): Push {
  if (!otlp) throw new Error('OTLP is off');
  return new Push({ ...settingsOf(otlp, FACTS), ...settings }, SYSTEM_CLOCK, {
    collect: collect ?? reply([connections(1)]),
    failed: failed ?? (() => undefined),
    died: (reason) => {
      throw new Error(reason);
    },
  });
}

/** Answers that these are the families. */
export function reply(families: readonly Family[]): (port: MessagePort) => Promise<void> {
  return (port) => {
    port.postMessage({ families } satisfies Collected);
    port.close();
    return Promise.resolve();
  };
}
