import { hostname, userInfo } from 'node:os';
import type { Timer } from '../common/clock.ts';
import { UsageError } from '../common/errors.ts';
import { parseOwner, parseWhat } from '../unusual/grammar/what.ts';
import { encodeDecision, workloadKey } from '../unusual/records.ts';
import { readAllRecords, withStore, type ExporterStorage } from './stored-records.ts';

/** Options of `accept` and `distrust`. */
export interface DecideOptions extends ExporterStorage {
  readonly isAccepted: boolean;
  readonly why?: string;
  /** Who decides. */
  readonly by: string;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly clock: Timer;
}

/**
 * Stores the decision that a value of `what` is normal for a workload, or that it is not. Throws UsageError for a workload or value that
 * cannot be decided about. Returns the exit code.
 */
export async function decide(
  [workload = '', value = '']: readonly string[],
  { isAccepted, why = '', by, stdout, stderr, clock, ...storage }: DecideOptions,
): Promise<number> {
  const owner = parseOwner(workload);
  if ('problem' in owner) throw new UsageError(owner.problem);
  const what = parseWhat(value);
  if (typeof what !== 'string') throw new UsageError(what.problem);
  const name = owner.namespace === '' ? owner.workload : `${owner.namespace}/${owner.workload}`;
  const task = `${isAccepted ? 'accept' : 'distrust'} ${what} of "${name}"`;
  return withStore(storage, { task, stderr, clock }, async (store) => {
    const record = encodeDecision(owner, what, { isAccepted, at: clock.now(), by, why });
    await store.writeRecords([record]);
    const stored = await readAllRecords(store, [record.key, workloadKey(owner)]);
    if (!stored?.some(({ key, text }) => key === record.key && text === record.text)) {
      stderr.write(`Cannot ${task}: the store did not keep it\n`);
      return 1;
    }
    stdout.write(
      `${what} is now ${isAccepted ? '' : 'not '}normal for "${name}", by ${by}. Exporters apply it within a minute.\n`,
    );
    if (!stored.some(({ key }) => key === workloadKey(owner)))
      stderr.write(`No exporter with this store has seen the workload "${name}" yet\n`);
    return 0;
  });
}

/** The user of this process as user@host: the one who ran sudo, if any. A user who can write to the store can claim any name. */
export function currentUser(sudoUser: string | undefined): string {
  return `${sudoUser || userName()}@${hostname()}`;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // The user of a container may have no name.
    return `uid:${process.getuid?.() ?? ''}`;
  }
}
