import { reasonOf } from '../../common/errors.ts';
import { formatCidr } from '../../common/address.ts';
import type { Timer } from '../../common/clock.ts';
import type { Answer } from './cache.ts';
import { FileDatabase } from './file-database.ts';
import { mayQuery, networkOf } from '../../common/network-class.ts';
import { QueryScheduler } from './query-scheduler.ts';
import type { Provider } from './query-batch.ts';
import type { Store } from '../../store/contract.ts';
import type { Address, AsnStatus, Cidr, Rules } from '../../model.ts';

/** Resolves the ASN queries of scans. */
export interface AsnResolver {
  query(buckets: readonly Cidr[]): void;
  /** Writes the known answers to the store again. */
  restore(answers: readonly Answer[]): Promise<void>;
  status(): AsnStatus;
  close(): Promise<void>;
}

/** Addresses of the cluster, which are never sent to a provider. */
export interface ClusterAddresses {
  beginScan(now: number): void;
  isInCluster(address: Address, bucket: string): boolean;
}

export interface AsnResolverContext {
  /** True if each node of a cluster would query the whois server independently. */
  readonly isUncoordinated: boolean;
  readonly report: (reason: string) => void;
  /** Receives answers, and the buckets without a record. */
  readonly onAnswers: (answers: readonly Answer[], unknown?: readonly Cidr[]) => void;
  /** The watched cluster, or null. */
  readonly cluster: ClusterAddresses | null;
  /** Returns the active rules. */
  readonly rules: () => Rules;
  readonly clock: Timer;
  /** Returns a number from 0 to 1. */
  readonly random: () => number;
}

/**
 * Opens the resolver. A file database answers at once. Queries to a network provider go through the store, and only
 * for networks that may be queried.
 */
export function openAsnResolver(
  provider: Provider | FileDatabase,
  store: Store | null,
  { isUncoordinated, report, onAnswers, cluster, rules, clock, random }: AsnResolverContext,
): AsnResolver {
  const failed = (error: unknown): void => report(reasonOf(error));
  if (provider instanceof FileDatabase) {
    return {
      query: (buckets) =>
        void provider
          .query(buckets)
          .then((answers) => {
            const known = new Set(answers.map(({ bucket }) => formatCidr(bucket)));
            onAnswers(
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
  // Checks networks queued by other exporters too.
  const mayAsk = (bucket: Cidr): boolean => {
    cluster?.beginScan(clock.monotonic());
    const { networks, asnNeverSend } = rules();
    const { address } = bucket;
    const remote = networkOf(address, () => false, networks);
    return mayQuery(remote, asnNeverSend, networks) && !cluster?.isInCluster(address, formatCidr(bucket));
  };
  const questions = new QueryScheduler({
    provider,
    store,
    onAnswers,
    report,
    clock,
    random,
    mayQuery: mayAsk,
    isUncoordinated,
  });
  return {
    query: (buckets) => void questions.query(buckets).catch(failed),
    restore: (answers) => questions.restore(answers),
    status: () => questions.status(),
    close: () => questions.close(),
  };
}
