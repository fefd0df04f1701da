import { formatCidr } from '../../common/address.ts';
import type { Timer } from '../../common/clock.ts';
import type { Answer } from './cache.ts';
import { Database } from './file-database.ts';
import { mayBeAsked, networkOf } from '../../common/network-class.ts';
import { Questions } from './query-scheduler.ts';
import type { Provider } from './query-batch.ts';
import type { Store } from '../../store/contract.ts';
import type { Address, AsnStatus, Cidr, Rules } from '../../model.ts';

/** How the questions of the scans are answered. */
export interface Asking {
  ask(buckets: readonly Cidr[]): void;
  /** Gives the store back what is known here. */
  restore(answers: readonly Answer[]): Promise<void>;
  status(): AsnStatus;
  close(): Promise<void>;
}

/** The addresses of a cluster that are never sent to a provider. */
export interface ClusterAddresses {
  begin(now: number): void;
  keepsBack(address: Address, bucket: string): boolean;
}

export interface AskingContext {
  /** True where every node of a cluster would hold sessions of its own with the whois server. */
  readonly isUnshared: boolean;
  readonly report: (reason: string) => void;
  /** Takes answers, and the buckets of which nothing is known any more. */
  readonly deliver: (answers: readonly Answer[], unknown?: readonly Cidr[]) => void;
  /** Whose addresses are not asked for; null where none is watched. */
  readonly cluster: ClusterAddresses | null;
  /** The rules in use. */
  readonly rules: () => Rules;
  readonly clock: Timer;
  /** A number from 0 to 1. */
  readonly random: () => number;
}

/** Answers from a database at once; what is asked of a provider goes through the store, and only what may be asked of strangers. */
export function startAsking(
  provider: Provider | Database,
  store: Store | null,
  { isUnshared, report, deliver, cluster, rules, clock, random }: AskingContext,
): Asking {
  const failed = (error: unknown): void => report(String(error));
  if (provider instanceof Database) {
    return {
      ask: (buckets) =>
        void provider
          .ask(buckets)
          .then((answers) => {
            const known = new Set(answers.map(({ bucket }) => formatCidr(bucket)));
            deliver(
              answers,
              buckets.filter((bucket) => !known.has(formatCidr(bucket))),
            );
          })
          .catch(failed),
      restore: () => Promise.resolve(),
      status: () => provider.status(),
      close: () => Promise.resolve(),
    };
  }
  // Others of the cluster may want to know what is here.
  const mayAsk = (bucket: Cidr): boolean => {
    cluster?.begin(clock.monotonic());
    const { networks, asnNeverSend } = rules();
    const { address } = bucket;
    const remote = networkOf(address, () => false, networks);
    return mayBeAsked(remote, asnNeverSend, networks) && !cluster?.keepsBack(address, formatCidr(bucket));
  };
  const questions = new Questions({ provider, store, deliver, report, clock, random, mayAsk, isUnshared });
  return {
    ask: (buckets) => void questions.ask(buckets).catch(failed),
    restore: (answers) => questions.restore(answers),
    status: () => questions.status(),
    close: () => questions.close(),
  };
}
