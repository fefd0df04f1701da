import type { Contribution } from './aggregate.ts';
import { perValue, type CollectorRun, type FamilySpec } from './catalogue.ts';
import type { AsnStatus } from '../model.ts';

/** The state of the exporter itself at the time of a scrape. */
export interface Status {
  readonly version: string;
  readonly snapshotAtSeconds: number;
  readonly collectors: readonly CollectorRun[];
  /** Failures of the worker thread since the start. */
  readonly workerFailures: number;
  readonly asn: AsnStatus | null;
  /** Null without a store. */
  readonly store: { readonly name: string; readonly up: boolean; readonly failures: number } | null;
  /** By socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
  /** Whether the configuration in use matches the file of --config.file; null without one. */
  readonly configIsCurrent: boolean | null;
  /** Whether the configuration in use matches the file of --web.config.file; null without one. */
  readonly webConfigIsCurrent: boolean | null;
  /** The watched Kubernetes resources; empty if Kubernetes is off. */
  readonly kubernetes: readonly { readonly resource: string; readonly up: boolean }[];
  /** Values of the annotation `peerscope.dev/expects` that were ignored; null if it is not read. */
  readonly ignoredExpectations: number | null;
  /** Null if OTLP export is off. */
  readonly otlp: { readonly exports: number; readonly failures: number } | null;
}

/** The series of one family, their limit, and how many were folded in the last scan. */
export interface Budget {
  readonly family: string;
  readonly series: number;
  readonly limit: number;
  readonly folded: number;
}

/** The families about the exporter itself. They never fold. */
export const STATUS_FAMILIES: readonly FamilySpec<Status>[] = [
  perCollector(
    'peerscope_scrape_collector_duration_seconds',
    's',
    'Duration of a collector in the last scan, in seconds.',
    (run) => run.seconds,
  ),
  perCollector(
    'peerscope_scrape_collector_success',
    '',
    'Whether a collector succeeded in the last scan: 1 if it read everything within the scrape timeout, 0 otherwise.',
    (run) => Number(run.success),
  ),
  status(
    'peerscope_snapshot_timestamp_seconds',
    'gauge',
    's',
    'Unix time of the scan behind these metrics.',
    [],
    ({ snapshotAtSeconds: value }) => (value > 0 ? [{ labels: {}, value }] : []),
  ),
  status(
    'peerscope_worker_failures_total',
    'counter',
    '{failure}',
    'Failures of the worker thread that scans and renders: requests and notifications that failed, and unexpected exits.',
    [],
    ({ workerFailures: value }) => [{ labels: {}, value }],
  ),
  status(
    'peerscope_malformed_rows_total',
    'counter',
    '{row}',
    'Total number of malformed lines in socket tables and of malformed or unrequested lines in replies of the ASN provider.',
    ['source'],
    ({ malformedRows, asn }) =>
      perValue('source', asn ? [...malformedRows, [asn.provider, asn.malformedRows]] : malformedRows),
  ),
  perProvider(
    'peerscope_asn_pending',
    'gauge',
    '{network}',
    'Number of networks with a pending ASN lookup.',
    [],
    (asn) => asn.pending,
  ),
  perProvider(
    'peerscope_asn_queries_total',
    'counter',
    '{query}',
    'Total number of queries to the ASN provider. One query can look up many networks.',
    ['provider'],
    (asn) => asn.queries,
  ),
  perProvider(
    'peerscope_asn_query_failures_total',
    'counter',
    '{query}',
    'Total number of failed queries to the ASN provider.',
    ['provider'],
    (asn) => asn.queryFailures,
  ),
  perProvider(
    'peerscope_asn_addresses_sent_total',
    'counter',
    '{address}',
    'Total number of network addresses (of a /24 or /48) sent to the ASN provider.',
    ['provider'],
    (asn) => asn.addressesSent,
  ),
  perProvider(
    'peerscope_asn_breaker_open',
    'gauge',
    '',
    'Whether the circuit breaker is open: 1 while queries to the ASN provider are paused after failures, 0 otherwise.',
    [],
    (asn) => Number(asn.breakerOpen),
  ),
  status(
    'peerscope_store_up',
    'gauge',
    '',
    'Whether the store of ASN lookups and first-seen times is usable: 1 if yes, 0 otherwise.',
    ['store'],
    ({ store }) => (store ? [{ labels: { store: store.name }, value: Number(store.up) }] : []),
  ),
  status(
    'peerscope_store_failures_total',
    'counter',
    '{failure}',
    'Total number of store failures: failed commands and connections of Redis, or failed operations on SQLite.',
    ['store'],
    ({ store }) => (store ? [{ labels: { store: store.name }, value: store.failures }] : []),
  ),
  status(
    'peerscope_config_current',
    'gauge',
    '',
    'Whether the configuration in use matches the file: 1 if yes, 0 if the last version of the file was invalid.',
    [],
    ({ configIsCurrent: value }) => (value === null ? [] : [{ labels: {}, value: Number(value) }]),
  ),
  status(
    'peerscope_web_config_current',
    'gauge',
    '',
    'Whether the web configuration in use matches the file: 1 if yes, 0 if the last version of the file was invalid.',
    [],
    ({ webConfigIsCurrent: value }) => (value === null ? [] : [{ labels: {}, value: Number(value) }]),
  ),
  status(
    'peerscope_kubernetes_watch_up',
    'gauge',
    '',
    'Whether the watch of a Kubernetes resource is established: 1 if yes, 0 otherwise.',
    ['resource'],
    ({ kubernetes }) => kubernetes.map(({ resource, up }) => ({ labels: { resource }, value: Number(up) })),
  ),
  status(
    'peerscope_kubernetes_ignored_expectations_total',
    'counter',
    '{value}',
    'Total number of values of the annotation peerscope.dev/expects that were ignored because they are invalid.',
    [],
    ({ ignoredExpectations: value }) => (value === null ? [] : [{ labels: {}, value }]),
  ),
  perExport('peerscope_otlp_exports_total', 'Total number of successful OTLP exports.', 'exports'),
  perExport(
    'peerscope_otlp_export_failures_total',
    'Total number of OTLP exports that failed or were only partially accepted.',
    'failures',
  ),
  status(
    'peerscope_build_info',
    'gauge',
    '',
    'Versions of peerscope and Node.js, always 1.',
    ['version', 'node_version'],
    (status) => [{ labels: { version: status.version, node_version: process.versions.node }, value: 1 }],
  ),
];

/** The state of the series limit in the last scan; `foldedBy` has the owners with the most folded series. */
export interface Budgets {
  readonly budgets: readonly Budget[];
  readonly foldedBy: ReadonlyMap<string, number>;
}

/** The families about the series limit. */
export const BUDGET_FAMILIES: readonly FamilySpec<Budgets>[] = [
  perFamily('peerscope_series', 'Number of exported series of a metric family.', (budget) => budget.series),
  perFamily('peerscope_series_limit', 'Maximum number of series of a metric family.', (budget) => budget.limit),
  perFamily(
    'peerscope_series_folded',
    'Number of series of a metric family that are folded into "other" or, for info and timestamp families, left out.',
    (budget) => budget.folded,
  ),
  {
    name: 'peerscope_owner_series_folded',
    help: 'Number of folded or left out series of one pod, user (uid) or system unit, for the five with the most of them.',
    type: 'gauge',
    unit: '{series}',
    collector: null,
    labels: ['owner'],
    fold: [],
    contributions: ({ foldedBy }) => perValue('owner', foldedBy),
  },
];

function status(
  name: string,
  type: 'gauge' | 'counter',
  unit: string,
  help: string,
  labels: readonly string[],
  contributions: (status: Status) => Contribution[],
): FamilySpec<Status> {
  return { name, help, type, unit, collector: null, labels, fold: [], contributions };
}

function perCollector(
  name: string,
  unit: string,
  help: string,
  value: (run: CollectorRun) => number,
): FamilySpec<Status> {
  return status(name, 'gauge', unit, help, ['collector'], ({ collectors }) =>
    collectors.map((run) => ({ labels: { collector: run.collector }, value: value(run) })),
  );
}

function perProvider(
  name: string,
  type: 'gauge' | 'counter',
  unit: string,
  help: string,
  labels: readonly string[],
  value: (asn: AsnStatus) => number,
): FamilySpec<Status> {
  return status(name, type, unit, help, labels, ({ asn }) =>
    asn ? [{ labels: { provider: asn.provider }, value: value(asn) }] : [],
  );
}

function perExport(name: string, help: string, field: 'exports' | 'failures'): FamilySpec<Status> {
  return status(name, 'counter', '{export}', help, [], ({ otlp }) =>
    otlp ? [{ labels: {}, value: otlp[field] }] : [],
  );
}

function perFamily(name: string, help: string, value: (budget: Budget) => number): FamilySpec<Budgets> {
  return {
    name,
    help,
    type: 'gauge',
    unit: '{series}',
    collector: null,
    labels: ['family'],
    fold: [],
    contributions: ({ budgets }) =>
      budgets.map((budget) => ({ labels: { family: budget.family }, value: value(budget) })),
  };
}
