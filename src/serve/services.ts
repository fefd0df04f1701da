import { isDeepStrictEqual } from 'node:util';
import { cidrContains } from '../common/address.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import type { Log, RepeatLimiter } from '../common/log.ts';
import { isUncoordinated, type Config } from '../config/config.ts';
import { FileDatabase } from '../enrich/asn/file-database.ts';
import { encodePolicy, QUERY_POLICY_KEY } from '../enrich/asn/query-policy.ts';
import { openProvider } from '../enrich/asn/open.ts';
import type { Provider } from '../enrich/asn/query-batch.ts';
import { openAsnResolver } from '../enrich/asn/resolver.ts';
import type { ApiClient } from '../enrich/kubernetes/api-client.ts';
import { ClusterCache, type ClusterChange, type Resource } from '../enrich/kubernetes/cluster-cache.ts';
import { ExpectsLog } from '../enrich/kubernetes/expects-log.ts';
import { podKeysOf } from '../enrich/kubernetes/pods.ts';
import { encodePods } from '../enrich/kubernetes/stored-pods.ts';
import { prepareClusterWatch } from '../enrich/kubernetes/start.ts';
import type { Status } from '../metrics/status-families.ts';
import type { Rules } from '../model.ts';
import type { RemoteName } from '../rows/remote-names.ts';
import type { FirstSeenTime, Store } from '../store/contract.ts';
import { openStore } from '../store/open.ts';
import { encodeDecision, encodeDeclaration } from '../unusual/records.ts';
import type { UserDecision } from '../web/accept.ts';
import type { Closable } from './closers.ts';
import type { NotificationHandlers, WorkerNotifications } from './messages.ts';
import { DecisionLog } from './decision-log.ts';
import { RecordSync } from './record-sync.ts';
import { StoredState } from './stored-state.ts';
import { RdnsQueue } from './rdns-queue.ts';
import type { WorkerClient } from './worker-client.ts';

/** How long commands use what an exporter stored that has ended. */
const PODS_KEEP_MS = 3_600_000;
const POLICY_KEEP_MS = 90 * 86_400_000;

/** What completes the rows of a scan: ASNs, reverse DNS, the names of Kubernetes, and the store of first-seen times. */
export interface RunningServices extends Closable {
  readonly provider: Provider | FileDatabase | null;
  readonly asksForNames: boolean;
  /** The watched resources of Kubernetes; null where it is off. */
  readonly watched: readonly Resource[] | null;
  /** Whether first-seen times are those of this node or of the whole cluster. */
  readonly baselineScope: 'node' | 'cluster';
  /** Whether a store remembers what workloads do. */
  readonly hasStore: boolean;
  /** What the worker asks the services for. */
  readonly callbacks: Omit<NotificationHandlers<WorkerNotifications>, 'costs' | 'sockets'>;
  /** Sends all results to this worker from now on, and starts the Kubernetes watch. */
  connect(worker: WorkerClient): Promise<void>;
  /** Lists the pods again if the rules in effect match other labels than before. */
  adoptRules(): Promise<void>;
  /** Passes the decision of a user on to the worker and the log. */
  decide(decision: UserDecision): void;
  /** Waits up to `ms` for the first list of every watched resource. */
  firstNames(ms: number): Promise<void>;
  status(): Pick<Status, 'asn' | 'store' | 'kubernetes' | 'ignoredExpectations'>;
}

export interface ServicesContext {
  readonly version: string;
  /** The rules in effect. */
  readonly rules: () => Rules;
  readonly failures: RepeatLimiter;
  readonly log: Log;
}

/** Opens the services of the configuration. Rejects when a database cannot be read; a server that is down is retried. */
export async function openServices(config: Config, context: ServicesContext): Promise<RunningServices> {
  const { version, rules, failures, log } = context;
  let worker: WorkerClient | null = null;
  let kubernetes: ApiClient | null = null;
  let records: RecordSync | null = null;
  let state: StoredState | null = null;
  const asnFailed = (reason: string): void => failures.warn('asn', { reason }, 'asn answers are missing');
  const storeFailed = (error: unknown): void => failures.warn('store', { reason: reasonOf(error) }, 'the store failed');

  const provider = config.collectors.asn
    ? await openProvider(config.asn, { clock: SYSTEM_CLOCK, report: asnFailed })
    : null;
  const keepsAnswers = provider !== null && !(provider instanceof FileDatabase);
  const refill = async (): Promise<void> => {
    // The worker may be stopping.
    const answers = await worker?.restore().catch(() => null);
    if (answers) await asn?.restore(answers);
  };
  const store =
    keepsAnswers || config.collectors['first-seen']
      ? await openStore(config, {
          clock: SYSTEM_CLOCK,
          report: (reason) => log.warn({ reason }, 'the state of the store changed'),
          onIncomplete: () => {
            records?.restart();
            state?.restart();
            void refill().catch(storeFailed);
          },
        })
      : null;
  const decisions = new DecisionLog(log, SYSTEM_CLOCK.now());
  records = new RecordSync(store, SYSTEM_CLOCK, (page) => {
    decisions.accept(page.records);
    worker?.notify('merge', page);
  });
  const { watch, rdns, expects, local, ...first } = await openOrClose(store, async () => {
    const watch = prepareClusterWatch(config.kubernetes, { version, random: Math.random, failures, log });
    const expects = watch && config.kubernetes?.expects ? new ExpectsLog(log) : null;
    const rdns = config.collectors.rdns ? await openRdns(rules, (names) => worker?.notify('names', names)) : null;
    const local = store?.shared ? await openLocalStore(config, log, () => state?.restart()) : null;
    return { watch, rdns, expects, local, podKeys: podKeysOf(rules().workloads, expects !== null) };
  });
  const cluster = watch && new ClusterCache(watch.resources);
  const stateStore = local ?? store;
  state =
    stateStore &&
    new StoredState(stateStore, SYSTEM_CLOCK, () => [
      { key: QUERY_POLICY_KEY, text: encodePolicy(config.asn.provider, rules()), keepMs: POLICY_KEEP_MS },
      ...(cluster ? encodePods(cluster.pods) : []).map((pods) => ({ ...pods, keepMs: PODS_KEEP_MS })),
    ]);
  const asn =
    provider &&
    openAsnResolver(provider, store, {
      isUncoordinated: isUncoordinated(config),
      report: asnFailed,
      onAnswers: (answers, unknown = []) => worker?.notify('learn', { answers, unknown }),
      cluster,
      rules,
      clock: SYSTEM_CLOCK,
      random: Math.random,
    });
  const clusterChanged = (change: ClusterChange): void => {
    worker?.notify('cluster', change);
    if (change.resource === 'pods' && 'change' in change) {
      const at = SYSTEM_CLOCK.now();
      const declared = expects?.accept(change.change) ?? [];
      records.write(declared.map(({ what, ...owner }) => encodeDeclaration(owner, what, at)));
    }
    // This thread needs pods and the addresses of Services only; endpoints are many.
    if (change.resource === 'endpointslices') return;
    const now = SYSTEM_CLOCK.monotonic();
    cluster?.beginScan(now);
    cluster?.accept(change, now);
    if (change.resource === 'pods') state?.change();
  };
  let { podKeys } = first;
  const startWatch = async (): Promise<void> => {
    kubernetes = (await watch?.start(clusterChanged, podKeys)) ?? null;
  };
  return {
    provider,
    asksForNames: rdns !== null,
    watched: watch?.resources ?? null,
    baselineScope: store?.shared ? 'cluster' : 'node',
    hasStore: store !== null,
    callbacks: {
      questions: (buckets) => asn?.query(buckets),
      remotes: (addresses) => rdns?.add(addresses),
      sightings: (sightings) =>
        void keepEarliest(store, sightings)
          .then((kept) => worker?.notify('confirm', kept))
          .catch(storeFailed),
      records: (changed) => records.write(changed),
    },
    connect: async (client) => {
      worker = client;
      records.start();
      state?.change();
      await startWatch();
    },
    adoptRules: async () => {
      state?.change();
      const keys = podKeysOf(rules().workloads, expects !== null);
      if (isDeepStrictEqual(keys, podKeys)) return;
      podKeys = keys;
      await kubernetes?.close();
      await startWatch();
    },
    decide: (decision) => {
      const decided = { ...decision, at: SYSTEM_CLOCK.now() };
      decisions.accept([encodeDecision(decided.owner, decided.what, { ...decided, why: '' })]);
      worker?.notify('decide', decided);
    },
    firstNames: async (ms) => kubernetes?.waitForFirstList(ms),
    status: () => ({
      asn: asn?.status() ?? null,
      store: store && { name: store.name, up: store.up, failures: store.failures },
      kubernetes: kubernetes?.status ?? [],
      ignoredExpectations: expects?.ignored ?? null,
    }),
    close: async () => {
      rdns?.close();
      await kubernetes?.close();
      await asn?.close();
      await records.close();
      state?.close();
      await local?.close();
      await store?.close();
    },
  };
}

/** The store of this host, beside one that all hosts share: for what only commands on this host need. Null without a folder. */
function openLocalStore({ storagePath }: Config, log: Log, onIncomplete: () => void): Promise<Store | null> {
  const report = (reason: string): void => log.info({ reason }, 'the state of the local store changed');
  return openStore({ storagePath, storageServer: null }, { clock: SYSTEM_CLOCK, report, onIncomplete });
}

/** What `open` returns. If it fails, the store does not stay open: its checks would keep the process alive. */
async function openOrClose<T>(store: Store | null, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    await store?.close();
    throw error;
  }
}

/** Stores first-seen times and returns the earliest known; without a store they are the earliest. */
async function keepEarliest(
  store: Store | null,
  sightings: readonly FirstSeenTime[],
): ReturnType<Store['writeFirstSeen']> {
  return store ? store.writeFirstSeen(sightings) : sightings.map(({ key }) => ({ key, previous: null }));
}

/** Resolves names through the resolver of the host, except for networks in `asn.never_send`. */
async function openRdns(rules: () => Rules, resolved: (names: readonly RemoteName[]) => void): Promise<RdnsQueue> {
  // Loaded only where it is on.
  const { ReverseDns } = await import('../enrich/rdns.ts');
  const resolver = new ReverseDns({
    clock: SYSTEM_CLOCK,
    mayQuery: (address) => !rules().asnNeverSend.some((cidr) => cidrContains(cidr, address)),
  });
  return new RdnsQueue(resolver, resolved);
}
