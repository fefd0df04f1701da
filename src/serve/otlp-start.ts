import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import type { Commands } from '../collect/ss-netstat.ts';
import { Procfs } from '../collect/procfs.ts';
import type { OtlpConfig } from '../config/config.ts';
import type { Failure } from '../expose/otlp.ts';
import type { Log, Repeating } from '../common/log.ts';
import type { Listeners, Push } from './otlp-thread.ts';
import { shownUrl } from './start-line.ts';

/** Reads what sending by OTLP needs; the function returned starts it. */
export async function preparePush(
  otlp: OtlpConfig,
  { source, version, share, failures, log, stop }: PushNeeds,
): Promise<() => Push> {
  // Nothing of OpenTelemetry is loaded in a run that sends nothing.
  const { adviceOn, describesExporterOnly, Push, settingsOf } = await import('./otlp-thread.ts');
  const startedAt = SYSTEM_CLOCK.now();
  const settings = settingsOf(otlp, {
    version,
    hostname: hostname(),
    machineId: readMachineId(),
    platform: process.platform,
    origins: { exporter: startedAt, boot: (source instanceof Procfs ? source.bootedAt() : null) ?? startedAt },
    phase: Math.random(),
  });
  const dropped = Object.keys(otlp.resource).filter(describesExporterOnly);
  if (dropped.length > 0)
    log.info(
      { attributes: dropped.join(',') },
      'resource attributes that describe only the exporter are not sent: receivers would copy them to the rows of the host',
    );
  const failed = (failure: Failure): void => {
    const advice = adviceOn(failure, otlp.protocol);
    const fields = { endpoint: shownUrl(otlp.url), reason: failure.reason, ...(advice === null ? {} : { advice }) };
    failures.warn('otlp', fields, 'an otlp export failed');
  };
  const died = (reason: string): void => {
    log.fatal({ reason }, 'the thread that sends by otlp ended');
    stop(1);
  };
  return () => new Push(settings, SYSTEM_CLOCK, { collect: share, failed, died });
}

export interface PushNeeds {
  readonly source: Procfs | Commands;
  readonly version: string;
  readonly share: Listeners['collect'];
  readonly failures: Repeating;
  readonly log: Log;
  /** Ends the run. */
  readonly stop: (code: number) => void;
}

/** Null where the host has none. */
function readMachineId(): string | null {
  try {
    return readFileSync('/etc/machine-id', 'utf8');
  } catch {
    return null;
  }
}
