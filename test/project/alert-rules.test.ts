import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { deployed, LABELS, RULES, unknownNames } from '../support/alert-rules.ts';
import { parsePromql } from '../support/promql.ts';

const ROOT = join(import.meta.dirname, '../..');
const RUNBOOKS = readdirSync(join(ROOT, 'docs/runbooks')).map((name) => name.replace(/\.md$/, ''));
const ALERTS = RULES.flatMap(({ alert, ...rule }) => (alert === undefined ? [] : [{ alert, ...rule }]));
/** An alert may have a rule for each severity. */
const SEVERITIES = new Map(
  [...Map.groupBy(ALERTS, ({ alert }) => alert)].map(([alert, rules]) => [
    alert,
    rules.map(({ labels }) => labels?.severity ?? '').join(', '),
  ]),
);

/** The tests of promtool, as far as they say of an alert that it fires or stays silent. */
const cases = (
  deployed('peerscope.test.yml') as {
    tests: { promql_expr_test?: { expr: string; exp_samples: { labels: string }[] }[] }[];
  }
).tests.flatMap((group) => group.promql_expr_test ?? []);

describe.each(RULES.map((rule) => ({ ...rule, name: rule.alert ?? rule.record ?? '' })))('$name', ({ expr }) => {
  it('is valid PromQL', () => expect(parsePromql(expr).errors).toEqual([]));
  it('uses only existing metrics and labels', () => expect(unknownNames(expr)).toEqual([]));
  it('uses counters only through rate() and increase()', () => {
    const counters = parsePromql(expr).calls.filter((call) => call.endsWith('_total'));
    expect(counters.filter((call) => !/^(Rate|Increase) /.test(call))).toEqual([]);
  });
});

// A restart or an outage of Prometheus must make nothing new: the exporter remembers.
test('no rule compares with what Prometheus recorded more than an hour ago', () => {
  const wrong = RULES.filter(({ expr }) => / offset (?![1-5]?\dm\b)|\[(?:\d+[dwy]|[2-9]h|\d\d+h)/.test(expr));
  expect(wrong.map(({ alert, record }) => alert ?? record)).toEqual([]);
});

// The default limit of Mimir (ruler_max_rules_per_rule_group).
test('no group has more than 20 rules', () => {
  const groups = Map.groupBy(RULES, ({ file, group }) => `${file} ${group}`);
  expect([...groups].filter(([, rules]) => rules.length > 20).map(([group]) => group)).toEqual([]);
});

describe.each(ALERTS)('$alert, $labels.severity', ({ alert, file, expr, labels, annotations }) => {
  it('has a severity, which is info for extra alerts', () => {
    expect(file.includes('extra') ? ['info'] : ['critical', 'warning', 'info']).toContain(labels?.severity);
    expect(Object.keys(labels ?? {})).toEqual(['severity']);
  });

  it('has a summary of one sentence, and a description with labels that it has', () => {
    expect(annotations?.summary).toMatch(/^[A-Za-z][^{}]*[a-z"]\.$/);
    const { selectors } = parsePromql(expr);
    const known = new Set(selectors.flatMap(({ metric }) => [...(LABELS.get(metric) ?? [])]));
    const used = (annotations?.description ?? '').matchAll(/\$labels\.(\w+)/g).map(([, label = '']) => label);
    expect([...used].filter((label) => !known.has(label))).toEqual([]);
    expect(annotations?.description).toMatch(/\.(?: \{\{- end \}\})?$/);
  });

  it('links to a runbook with its meaning, impact, causes, three commands and a silence', () => {
    const path = `docs/runbooks/${alert}.md`;
    expect(annotations?.runbook_url).toBe(`https://github.com/peerscope/peerscope/blob/main/${path}`);
    expect(existsSync(join(ROOT, path))).toBe(true);
    const text = readFileSync(join(ROOT, path), 'utf8');
    const sections = new Map(
      text.split(/^#+ /m).map((section) => {
        const end = section.indexOf('\n');
        return [section.slice(0, end), section.slice(end)] as const;
      }),
    );
    expect([...sections.keys()].slice(1)).toEqual([alert, 'Meaning', 'Impact', 'Diagnosis', 'Mitigation']);
    expect(sections.get(alert)).toContain(`Severity: ${SEVERITIES.get(alert) ?? ''}. Defined in [${file}]`);
    expect(sections.get('Diagnosis')?.match(/^- /gm)?.length).toBeGreaterThanOrEqual(2);
    expect(sections.get('Diagnosis')?.match(/^\$ /gm)).toHaveLength(3);
    expect(sections.get('Mitigation')).toContain(`alertname=${alert}`);
  });

  it('has a test in which it fires and one in which it does not', () => {
    const mine = cases.filter(({ expr }) => expr.includes(`alertname="${alert}"`));
    expect(mine.some(({ exp_samples }) => exp_samples.some(({ labels }) => labels.includes(`"${alert}"`)))).toBe(true);
    expect(mine.some(({ exp_samples }) => exp_samples.length === 0)).toBe(true);
  });
});

test('docs/alerts.md lists every alert with its severity, and links to its runbook', () => {
  const text = readFileSync(join(ROOT, 'docs/alerts.md'), 'utf8');
  const listed = [...text.matchAll(/^\| \[(\w+)\] +\| ([\w, ]+?) +\|/gm)].map(([, alert, severity]) => [
    alert,
    severity,
  ]);
  expect(listed.sort()).toEqual([...SEVERITIES].sort());
  const links = [...text.matchAll(/^\[(\w+)\]: runbooks\/(\w+)\.md$/gm)].map(([, alert, runbook]) => [alert, runbook]);
  expect(links.sort()).toEqual([...SEVERITIES.keys()].map((alert) => [alert, alert]).sort());
});

test('every runbook belongs to an alert', () => {
  expect(RUNBOOKS.sort()).toEqual([...SEVERITIES.keys()].sort());
});

test('the silences in the runbooks use labels that their alerts have', () => {
  const wrong = ALERTS.flatMap(({ alert, expr }) => {
    const text = readFileSync(join(ROOT, `docs/runbooks/${alert}.md`), 'utf8');
    const { selectors } = parsePromql(expr);
    const known = new Set(selectors.flatMap(({ metric }) => [...(LABELS.get(metric) ?? [])]));
    const silence = /^\$ amtool silence add (.*)$/m.exec(text)?.[1] ?? '';
    const matchers = [...silence.matchAll(/(?<= )(\w+)=/g)].map(([, label = '']) => label);
    return matchers.filter((label) => label !== 'alertname' && !known.has(label)).map((label) => `${alert} ${label}`);
  });
  expect(wrong).toEqual([]);
});

test('runbooks, groups and recorded series follow one naming scheme', () => {
  for (const { alert } of ALERTS) expect(alert).toMatch(/^Peerscope([A-Z][a-z]+)+$/);
  for (const { group, record } of RULES) {
    expect(group).toMatch(/^peerscope-[a-z]+$/);
    if (record !== undefined) expect(record).toMatch(/^peerscope:[a-z_]+(:[a-z]+|:rate1h)?$/);
  }
});

test('the example scrape configuration sets honor_labels', () => {
  const { scrape_configs } = deployed('prometheus.yml') as { scrape_configs: { honor_labels?: boolean }[] };
  expect(scrape_configs.map((job) => job.honor_labels)).toEqual([true]);
});
