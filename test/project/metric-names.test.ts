import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ASN_INFO, FAMILIES } from '../../src/metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../src/metrics/status-families.ts';
import { ATTRIBUTES } from '../../src/expose/otlp-points.ts';

interface Named {
  readonly name: string;
  readonly type: string;
  readonly unit: string;
  readonly labels: readonly string[];
  readonly derived?: { readonly labels: readonly string[] };
}

/** One line for each promise to those who wrote a query, an alert or a dashboard. */
function promises(families: readonly Named[], attributes: ReadonlyMap<string, string>): string[] {
  return [
    ...families.map(({ name, type, unit, labels, derived }) =>
      [name, type, unit === '' ? '-' : unit, ...[...labels, ...(derived?.labels ?? [])].sort()].join(' '),
    ),
    ...[...attributes].map(([label, attribute]) => `OTLP ${label} ${attribute}`),
  ].sort();
}

/** What the last release promised and is there no more, or is another. */
function broken(released: string, now: readonly string[]): string[] {
  return released.split('\n').filter((line) => line !== '' && !now.includes(line));
}

const FILE = join(import.meta.dirname, '../golden/metric-names.txt');
/** Labels that a scrape configuration adds. */
const OF_SCRAPE = ['cluster', 'job', 'instance'];
const ALL = [...FAMILIES, ASN_INFO, ...STATUS_FAMILIES, ...BUDGET_FAMILIES];

it('names, types, units and labels of the last release stay; -u adds new ones, and removals are made by hand', async () => {
  const now = promises(ALL, ATTRIBUTES);
  expect(broken(existsSync(FILE) ? readFileSync(FILE, 'utf8') : '', now)).toEqual([]);
  await expect(`${now.join('\n')}\n`).toMatchFileSnapshot(FILE);
});

describe('the comparison finds that', () => {
  const released = `${promises(ALL, ATTRIBUTES).join('\n')}\n`;
  const [first, ...rest] = ALL;
  it.each<[change: string, now: string[], lost: RegExp[]]>([
    ['a family goes', promises(rest, ATTRIBUTES), [/^peerscope_connections gauge /]],
    [
      'a family is called otherwise',
      promises([...rest, { ...FAMILIES[0], name: 'peerscope_sockets' } as Named], ATTRIBUTES),
      [/^peerscope_connections /],
    ],
    ['a type changes', promises([...rest, { ...first, type: 'counter' } as Named], ATTRIBUTES), [/^peerscope_conn/]],
    [
      'a label goes',
      promises([...rest, { ...first, labels: first?.labels.slice(1) } as Named], ATTRIBUTES),
      [/^peerscope_connections /],
    ],
    [
      'an attribute is called otherwise',
      promises(ALL, new Map([...ATTRIBUTES, ['pod', 'pod']])),
      [/^OTLP pod k8s\.pod\.name$/],
    ],
    ['nothing does, but a family more', promises([...ALL, { ...rest[0], name: 'new' } as Named], ATTRIBUTES), []],
  ])('%s', (_change, now, lost) => {
    expect(broken(released, now)).toEqual(lost.map((line): unknown => expect.stringMatching(line)));
  });
});

describe('the queries of the dashboards of 0.1.0', () => {
  const folder = join(import.meta.dirname, '../fixtures/release-0.1.0');
  const queries = readFileSync(join(folder, 'queries.txt'), 'utf8').trimEnd().split('\n');
  const changes = readFileSync(join(import.meta.dirname, '../../CHANGELOG.md'), 'utf8').split('## 0.1.0')[0] ?? '';
  const rules = ['peerscope.rules.yml', 'peerscope-extra.rules.yml']
    .map((name) => readFileSync(join(import.meta.dirname, '../../deploy/prometheus', name), 'utf8'))
    .join('');
  const labels = new Map(ALL.map((family) => [family.name, [...family.labels, ...OF_SCRAPE]]));

  /** The metrics of a query that are gone and that the changelog does not name, and the labels that a metric has no more. */
  function lost(query: string): string[] {
    return [...query.matchAll(/\b(peerscope[_:][a-z_:]+)(?:\{([^}]*)\})?/g)].flatMap(([, name = '', matchers = '']) => {
      const known = labels.get(name) ?? labels.get(name.replace(/_(?:sum|count)$/, ''));
      if (!known) return rules.includes(`record: ${name}\n`) || changes.includes(`\`${name}\``) ? [] : [name];
      return [...matchers.matchAll(/([a-z_]+)(?:=~|!~|!=|=)"/g)].flatMap(([, label = '']) =>
        known.includes(label) ? [] : [`${name}{${label}}`],
      );
    });
  }

  it.each(queries)('%s', (query) => expect(lost(query)).toEqual([]));

  it.each([
    { query: 'sum(peerscope_flows{process="a"})', expected: ['peerscope_flows'] },
    { query: 'sum(peerscope_connections{command="a"})', expected: ['peerscope_connections{command}'] },
  ])('finds what is lost in $query', ({ query, expected }) => expect(lost(query)).toEqual(expected));
});
