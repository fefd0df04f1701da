import { statusFamilies } from '../../src/metrics/families.ts';
import { Published, type PublishedOptions } from '../../src/metrics/published.ts';
import { COLLECTORS } from '../../src/metrics/catalogue.ts';
import { flags } from '../../src/config/flags.ts';
import type { Family } from '../../src/model.ts';
import { scanNode } from './simulated-node.ts';

/** A choice of families that docs/fleet.md describes. */
interface Choice {
  readonly name: string;
  readonly families: readonly string[];
  readonly labels: boolean;
  readonly countsBytes?: true;
}

const DEFAULT = flags.families.default.split(',');
/** For network operators and what is unusual. */
const ASN_ALONE = [
  'peerscope_asn_connections',
  'peerscope_asn_info',
  'peerscope_sockets',
  'peerscope_novelt*',
  'peerscope_unusual_points',
  'peerscope_workload_watched_since_timestamp_seconds',
];
export const CHOICES: readonly Choice[] = [
  { name: 'default', families: DEFAULT, labels: true },
  { name: 'with traffic', families: DEFAULT, labels: true, countsBytes: true },
  { name: 'all families', families: ['*'], labels: true, countsBytes: true },
  { name: 'without pods', families: DEFAULT, labels: false },
  { name: 'ASN alone', families: ASN_ALONE, labels: false },
];

const PODS = [10, 30, 60, 110];

/** The families that a node with this many pods publishes. */
export function publishedBy({ families, labels, countsBytes }: Choice, pods: number): Family[] {
  const options: PublishedOptions = { families, podLabel: labels, containerLabel: labels };
  const published = new Published(options);
  const shape = {
    pods,
    seriesLimit: 1000,
    podsOfWorkload: 1,
    remembers: true,
    ...(countsBytes && { countsBytes }),
  } as const;
  const status = statusFamilies({
    version: '0.0.0',
    snapshotAtSeconds: 1,
    collectors: COLLECTORS.map((collector) => ({ collector, seconds: 0, success: true })),
    workerFailures: 0,
    asn: {
      provider: 'cymru',
      pending: 0,
      queries: 0,
      queryFailures: 0,
      addressesSent: 0,
      breakerOpen: false,
      malformedRows: 0,
    },
    store: { name: 'redis', up: true, failures: 0 },
    malformedRows: new Map(['tcp', 'tcp6', 'udp', 'udp6'].map((table) => [table, 0])),
    configIsCurrent: true,
    webConfigIsCurrent: null,
    kubernetes: [{ resource: 'pods', up: true }],
    ignoredExpectations: 0,
    otlp: null,
  });
  return published.of([...scanNode(shape, options), ...status]);
}

/** A summary has a sum and a count. */
const sizeOf = ({ type, samples }: Family): number => samples.length * (type === 'summary' ? 2 : 1);
const seriesOf = (families: readonly Family[]): number => families.reduce((total, family) => total + sizeOf(family), 0);

const row = (cells: readonly (string | number)[]): string =>
  `| ${cells.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)).join(' | ')} |`;

/** The tables of docs/fleet.md: series of a node by its pods, and by family. */
export function seriesTables(): string {
  const head = (first: string): string[] => [
    row([first, ...CHOICES.map(({ name }) => name)]),
    row(['---', ...CHOICES.map(() => '---:')]),
  ];
  const counts = PODS.map((pods) => CHOICES.map((choice) => publishedBy(choice, pods)));
  const largest = counts.at(-1) ?? [];
  const names = [...new Set(largest.flat().map(({ name }) => name))];
  const countOf = (families: readonly Family[], name: string): number =>
    seriesOf(families.filter((family) => family.name === name));
  const many = names.filter((name) => largest.some((families) => countOf(families, name) >= 100));
  const others = largest.map((families) => seriesOf(families.filter(({ name }) => !many.includes(name))));
  return [
    ...head('pods of a node'),
    ...PODS.map((pods, i) => row([String(pods), ...(counts[i] ?? []).map(seriesOf)])),
    '',
    ...head(`family, ${Math.max(...PODS)} pods`),
    ...many.map((name) => row([`\`${name}\``, ...largest.map((families) => countOf(families, name))])),
    row(['all others', ...others]),
    '',
  ].join('\n');
}
