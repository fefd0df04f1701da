import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ASN_INFO, FAMILIES } from '../../src/metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../src/metrics/status-families.ts';
import { TCP_STATES } from '../../src/common/tcp-states.ts';
import type { Family } from '../../src/model.ts';
import { EXAMPLES } from '../support/example-queries.ts';
import { CHOICES, publishedBy, seriesTables } from '../support/series-table.ts';
import { scanNode, type NodeShape } from '../support/simulated-node.ts';

const TYPICAL: NodeShape = { pods: 110, seriesLimit: 1000 };
const NODES = 500;

interface Described {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly collector?: string | null;
  readonly needs?: string;
  readonly isAbsent?: unknown;
  readonly fold?: readonly { readonly labels: readonly string[] }[];
  readonly derived?: { readonly labels: readonly string[] };
}

const seriesOf = (families: readonly Family[]): number =>
  families.reduce((total, { samples }) => total + samples.length, 0);

const inTicks = (words: readonly string[]): string => words.map((word) => `\`${word}\``).join(', ');

function describeFamily({
  name,
  type,
  help,
  labels,
  collector,
  needs,
  isAbsent,
  fold = [],
  derived,
}: Described): string {
  const switches = [collector, needs].filter(Boolean).map((name) => `\`--no-collector.${name}\``);
  const absent = [
    ...(isAbsent ? ['without a source of socket totals'] : []),
    ...switches.map((flag) => `with ${flag}`),
  ];
  const folds = fold.map((step) => inTicks(step.labels));
  return [
    `### ${name}`,
    '',
    help,
    '',
    `- ${type}${absent.length > 0 ? `; absent ${absent.join(' or ')}` : ''}`,
    labels.length > 0 ? `- labels: ${inTicks(labels)}` : '- no labels',
    ...(derived ? [`- follow from the others: ${inTicks(derived.labels)}`] : []),
    ...(folds.length > 0 ? [`- folds: ${folds.join(', then ')}`] : []),
    ...(EXAMPLES[name] === undefined ? [] : [`- for example: \`${EXAMPLES[name]}\``]),
    '',
  ].join('\n');
}

function describeSeries(): string {
  const node = scanNode(TYPICAL);
  const bounded = FAMILIES.filter(({ fold, folded }) => fold.length > 0 || folded).length + 1;
  const thousands = (count: number): string => count.toLocaleString('en-US');
  const largest = node
    .filter(({ samples }) => samples.length >= 50)
    .sort((a, b) => b.samples.length - a.samples.length)
    .map(({ name, samples }) => `| \`${name}\` | ${samples.length} | ${thousands(samples.length * NODES)} |`);
  const worst = bounded * TYPICAL.seriesLimit + seriesOf(node.filter(({ samples }) => samples.length < 50));
  return [
    `| ${TYPICAL.pods} pods of 2 containers, 10 connections each | one node | ${NODES} nodes |`,
    '| --- | ---: | ---: |',
    ...largest,
    `| **all families, typical** | **${thousands(seriesOf(node))}** | **${thousands(seriesOf(node) * NODES)}** |`,
    `| **all families, worst case** (\`--series.limit=${TYPICAL.seriesLimit}\` reached by each of ${bounded}) | **${thousands(worst)}** | **${thousands(worst * NODES)}** |`,
    '',
  ].join('\n');
}

test(`a node with ${TYPICAL.pods} pods folds no series and has at most 3,000`, () => {
  const families = scanNode(TYPICAL);
  const folded = families.find(({ name }) => name === 'peerscope_series_folded');
  expect(folded?.samples.filter(({ value }) => value > 0)).toEqual([]);
  expect(seriesOf(families)).toBeLessThanOrEqual(3000);
  const rows = families.find(({ name }) => name === 'peerscope_connections')?.samples ?? [];
  expect(rows.reduce((sum, { value }) => sum + value, 0)).toBe(110 * (2 * 10 + 1));
});

test('docs/fleet.md has the tables of npm run bench:series, and 110 pods have at most 3,000 series by default', () => {
  const plain = (text: string): string => text.replaceAll(/ +/g, ' ').replaceAll(/-+/g, '-');
  const text = plain(readFileSync(join(import.meta.dirname, '../../docs/fleet.md'), 'utf8'));
  for (const table of seriesTables().trim().split('\n\n')) expect(text).toContain(plain(table));
  const [standard] = CHOICES;
  expect(standard && seriesOf(publishedBy(standard, 110))).toBeLessThanOrEqual(3000);
  const flags = CHOICES.filter(({ families }) => families.length > 1).map(({ families }) => `='${families.join()}'`);
  for (const flag of flags) expect(text).toContain(flag);
});

test('docs/metrics.md matches the catalogue', async () => {
  const text = [
    '# Metrics',
    '',
    '<!-- Written by test/project/metrics-doc.test.ts: npx vitest run -u test/project/metrics-doc.test.ts -->',
    '',
    'All metric families of `/metrics`. Owner labels are `process`, `namespace` and `workload`. A label that does not apply is empty.',
    '',
    '## Number of series',
    '',
    'A family has at most `--series.limit` series. Series beyond the limit are folded into `other`, label by label in the order listed',
    'below, so sums stay exact. `peerscope_series_folded` counts them. The table is from a simulated node with two pods per workload.',
    '',
    'Each pod, each user outside pods and each system unit has an equal share of the series of a family; what it does not use is lent to',
    'others. Inbound connections, which remote hosts choose, have a share of their own. Series of one owner are never folded because of',
    'the series of another one. Within 24 hours, one owner begins at most 1.5 times the limit of new series in a family, and all owners',
    'together three times the limit.',
    '',
    describeSeries(),
    '## Sockets, connections and processes',
    '',
    ...FAMILIES.map(describeFamily),
    describeFamily({ ...ASN_INFO, collector: 'asn' }),
    '## Series limit',
    '',
    ...BUDGET_FAMILIES.map(describeFamily),
    '## Exporter health',
    '',
    ...STATUS_FAMILIES.map(describeFamily),
    'The `process_*` and `nodejs_*` families of prom-client are exported too, unless `--web.disable-exporter-metrics` is set.',
    '',
    '## TCP states',
    '',
    'Values of the label `state` for TCP. UDP and raw sockets are `established` with a peer, `unconnected` otherwise.',
    '',
    ...Object.entries(TCP_STATES).map(([state, meaning]) => `- \`${state}\`: ${meaning}`),
    '',
  ].join('\n');
  await expect(text).toMatchFileSnapshot(join(import.meta.dirname, '../../docs/metrics.md'));
});
