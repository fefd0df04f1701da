import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { parse } from 'yaml';
import { generated } from '../../grafana/generated.ts';
import { ASN_INFO, FAMILIES } from '../../src/metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../src/metrics/status-families.ts';
import { RULES, seriesNames, unknownNames } from '../support/alert-rules.ts';
import { DASHBOARDS, PANELS, substituted, titleOf, type Organized, type Panel } from '../support/dashboards.ts';
import { EXAMPLES } from '../support/example-queries.ts';
import { parsePromql } from '../support/promql.ts';

const FOLDER = join(import.meta.dirname, '../../grafana');
const MOST_ROWS = 200;
const UNITS = ['short', 'bytes', 'binBps', 's', 'percentunit', 'cps', 'dateTimeFromNow'];
/** Series that no target has: one name for the whole fleet, and alerts that are about no host. */
const WITHOUT_TARGET = ['ALERTS', 'ALERTS_FOR_STATE'];
/** Runbooks and documents are in the repository; all other links go to dashboards. */
const RUNBOOK = /^https:\/\/github\.com\/peerscope\/peerscope\/blob\/main\/docs\/(?:runbooks\/|accept\.md$)/;

const targets = PANELS.flatMap(({ dashboard, title, targets }) =>
  targets.map((target) => ({ name: `${dashboard}, ${title}, ${target.refId}`, ...target })),
);

function organizedOf({ transformations = [] }: Panel): Organized {
  const options = transformations.find(({ id }) => id === 'organize')?.options;
  return { excludeByName: {}, indexByName: {}, renameByName: {}, ...options };
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly label: string;
  readonly query: string | { readonly query: string };
  readonly datasource?: { readonly uid: string };
  readonly regex?: string;
  readonly current?: { readonly value: unknown };
  readonly multi: boolean;
  readonly includeAll: boolean;
  readonly allValue?: string;
  readonly refresh: number;
}

test('the files are the output of npm run dashboards', () => {
  for (const [path, text] of generated())
    expect(readFileSync(join(FOLDER, path), 'utf8') === text, `${path} is stale: npm run dashboards`).toBe(true);
  const listed = ['dashboards', 'provisioning/alerting'].flatMap((folder) =>
    readdirSync(join(FOLDER, folder)).map((name) => `${folder}/${name}`),
  );
  expect(listed.sort()).toEqual([...generated().keys()].sort());
});

describe.each(DASHBOARDS.map((dashboard) => ({ name: titleOf(dashboard), dashboard })))('$name', ({ dashboard }) => {
  const variables = (dashboard.templating.list ?? []) as unknown as Variable[];
  const variable = (name: string): Variable | undefined => variables.find((variable) => variable.name === name);

  it('is read-only and links to the others', () => {
    expect(dashboard.editable).toBe(false);
    expect(dashboard.tags).toEqual(['peerscope']);
    expect(
      dashboard.links?.map(({ type, tags, includeVars, keepTime }) => ({ type, tags, includeVars, keepTime })),
    ).toEqual([{ type: 'dashboards', tags: ['peerscope'], includeVars: true, keepTime: true }]);
  });

  it('has variables for the data source, the cluster, the job and the instance', () => {
    expect(variables.slice(0, 4).map(({ name }) => name)).toEqual(['datasource', 'cluster', 'job', 'instance']);
    expect(variable('datasource')).toMatchObject({ type: 'datasource', query: 'prometheus', label: 'Data source' });
    for (const { name, label, datasource, refresh, query, regex } of variables.filter(({ type }) => type === 'query')) {
      expect({ label: label.toLowerCase(), uid: datasource?.uid, refresh }).toEqual({
        label: name,
        uid: '${datasource}',
        refresh: 2,
      });
      const { query: text } = typeof query === 'string' ? { query } : query;
      const [, ranking] = /^query_result\((.+)\)$/.exec(text) ?? [];
      if (ranking !== undefined) {
        // The first of a ranking is what the dashboard opens with.
        expect(regex).toBe(`/${name}="([^"]+)"/`);
        expect(parsePromql(substituted(ranking)).errors).toEqual([]);
        expect(unknownNames(substituted(ranking))).toEqual([]);
        continue;
      }
      const [, selector = '', shown] = /^label_values\((.+), (\w+)\)$/.exec(text) ?? [];
      expect(shown).toBe(name);
      expect(parsePromql(substituted(selector)).errors).toEqual([]);
      expect(unknownNames(substituted(`sum by (${name}) (${selector})`))).toEqual([]);
    }
    expect(variables.filter(({ label }) => !/^[A-Z]/.test(label))).toEqual([]);
    for (const name of ['cluster', 'job', 'instance'])
      expect(variable(name)).toMatchObject({ multi: true, includeAll: true, allValue: '.*' });
  });

  it('uses every variable that it defines, and no other', () => {
    const panels = JSON.stringify(dashboard.panels);
    const used = [...panels.matchAll(/\$\{?(\w+)\b/g)]
      .map(([, name = '']) => name)
      // "$1" is a group of a pattern.
      .filter((name) => !name.startsWith('__') && !/^\d/.test(name));
    expect([...new Set(used)].sort()).toEqual(variables.map(({ name }) => name).sort());
  });
});

describe.each(PANELS)('$dashboard, $title', (panel) => {
  it('has a title, a description and a selectable data source', () => {
    expect(panel.title).toMatch(/^[A-Z]/);
    expect(panel.description).toMatch(/^[A-Z$ia].{15,}\.$/);
    expect(panel.datasource).toEqual({ type: 'prometheus', uid: '${datasource}' });
    expect(panel.targets.map(({ datasource }) => datasource.uid)).toEqual(panel.targets.map(() => '${datasource}'));
  });

  it('links only to existing dashboards, with variables that they have, and to runbooks', () => {
    for (const { url } of linksOf(panel)) {
      if (RUNBOOK.test(url)) continue;
      const uid = /^\/d\/([\w-]+)\?/.exec(url)?.[1];
      const there = DASHBOARDS.find((dashboard) => dashboard.uid === uid);
      const names = (there?.templating.list ?? []).map(({ name }) => name);
      const given = [...url.matchAll(/var-(\w+)=|\$\{(\w+):queryparam\}/g)].map(
        ([, own, shared]) => own ?? shared ?? '',
      );
      expect(given.filter((name) => !names.includes(name))).toEqual([]);
      expect(given).toEqual(expect.arrayContaining(['datasource', 'cluster', 'job', 'instance']));
      expect(url).toMatch(/&\$\{__url_time_range\}$/);
      // The labels that it hands over are there, and may hold anything.
      const handed = [...url.matchAll(/__(?:field\.labels|data\.fields)\.(\w+)(\S*?)\}/g)];
      expect(handed.filter(([, , format]) => format !== ':percentencode')).toEqual([]);
      const labels = handed.map(([, label = '']) => label);
      const labelsThere = panel.targets.flatMap(({ expr }) => [
        ...parsePromql(substituted(expr)).by,
        ...labelsMadeBy(expr),
      ]);
      expect(labels.filter((label) => !labelsThere.includes(label))).toEqual([]);
    }
  });

  it('sorts its tooltip, and asks for at most a point a minute', () => {
    if (panel.type !== 'timeseries') return;
    expect(panel.options?.tooltip).toEqual({ mode: 'multi', sort: 'desc' });
    expect(panel.interval).toMatch(/^(?:1|5|15)m$/);
  });

  it('has at most 20 lines or bars of hosts and owners, and 200 rows', () => {
    const most = panel.type === 'table' ? MOST_ROWS : 20;
    const MANY = /\b(?:instance|process|workload|pod|asn|as_name|endpoint_group|local_port)\b/;
    for (const { expr } of panel.targets) {
      // Panels of totals have one series for each value of a label with few values.
      const [, grouping = ''] = /\bby \(([^)]*)\)/.exec(expr) ?? [];
      if (panel.type !== 'table' && !(['timeseries', 'bargauge'].includes(panel.type) && MANY.test(grouping))) continue;
      const [, count] = /^(?:topk|bottomk)\((\d+), /.exec(expr) ?? [];
      expect(Number(count ?? Infinity), expr).toBeLessThanOrEqual(most);
    }
  });
});

/** All links of a panel. */
function linksOf({ fieldConfig: { defaults, overrides } }: Panel): { url: string }[] {
  const properties = overrides.flatMap(({ properties }) => properties).filter(({ id }) => id === 'links');
  return [...(defaults.links ?? []), ...properties.flatMap(({ value }) => value as { url: string }[])];
}

/** The labels that functions write. */
function labelsMadeBy(expr: string): string[] {
  return [...expr.matchAll(/, "(\w+)", "|count_values[^(]*\([^)]*\) \("(\w+)"/g)].map(([, a, b]) => a ?? b ?? '');
}

/** Grafana applies the defaults of these to text. */
const WITH_TEXT = ['table', 'nodeGraph'];

describe.each(PANELS.filter(({ type }) => !WITH_TEXT.includes(type)))(
  '$dashboard, $title',
  ({ title, fieldConfig }) => {
    const { unit, noValue, thresholds } = fieldConfig.defaults;

    it('has a unit and a text for missing data', () => {
      expect(UNITS).toContain(unit);
      expect(noValue).toMatch(/^[A-Z].*[.?]$/);
    });

    it('has thresholds of its own, red for failures alone', () => {
      const bad = /^Failing|down$|suspended$|^Rejected|near their limit$/.test(title);
      expect(thresholds?.steps).toEqual(
        bad || title === 'Oldest scan'
          ? [
              { value: null, color: 'green' },
              { value: bad ? 1 : 180, color: 'red' },
            ]
          : [{ value: null, color: 'blue' }],
      );
    });
  },
);

const tables = PANELS.filter(({ type }) => type === 'table').map((panel) => ({ ...panel, ...organizedOf(panel) }));

describe.each(PANELS.filter(({ type }) => WITH_TEXT.includes(type)))('$dashboard, $title', ({ fieldConfig }) => {
  it('formats only its values, because the defaults also apply to names, ASNs and empty cells', () => {
    const { unit, noValue, decimals, links } = fieldConfig.defaults;
    expect({ unit, noValue, decimals, links: links ?? [] }).toEqual({ links: [] });
    for (const { properties } of fieldConfig.overrides)
      for (const { id, value } of properties) {
        expect(['unit', 'links', 'mappings', 'custom.width']).toContain(id);
        if (id === 'unit') expect(UNITS).toContain(value);
      }
  });
});

describe.each(tables)('$dashboard, $title', (panel) => {
  const { fieldConfig, targets, excludeByName, indexByName, renameByName } = panel;
  const columns = Object.keys(renameByName).sort((a, b) => (indexByName[a] ?? 0) - (indexByName[b] ?? 0));
  const values = columns.filter((field) => field.startsWith('Value'));

  it('gives each of its values a unit, and no other column', () => {
    const withUnit = fieldConfig.overrides.filter(({ properties }) => properties.some(({ id }) => id === 'unit'));
    expect(withUnit.map(({ matcher }) => matcher)).toEqual(
      values.map((field) => ({ id: 'byName', options: renameByName[field] })),
    );
  });

  it('has a column with a readable name for every label of the result', () => {
    const fields = new Set(targets.flatMap(({ expr }) => parsePromql(substituted(expr)).groupings));
    expect(columns.filter((field) => !values.includes(field) && !fields.has(field))).toEqual([]);
    expect(Object.keys(indexByName).sort()).toEqual([...columns].sort());
    expect(new Set(Object.values(indexByName)).size).toBe(columns.length);
    expect(excludeByName).toEqual({ Time: true });
    const names = Object.values(renameByName);
    expect(names.filter((name) => !/^[A-Z][A-Za-z. ]+$/.test(name) || /^(Time|Value)$/.test(name))).toEqual([]);
    expect(new Set(names).size).toBe(names.length);
  });

  it('starts with its values and is sorted by the first', () => {
    expect(columns.slice(0, values.length)).toEqual(values);
    expect(values).toHaveLength(targets.length);
    expect(panel.options?.sortBy).toEqual([{ displayName: renameByName[columns[0] ?? ''], desc: true }]);
  });
});

test('the table of alerts shows every label that identifies an alert', () => {
  const texts = RULES.flatMap(({ annotations = {} }) => Object.values(annotations)).join();
  const named = [...texts.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
  const shown = tables.find(({ title }) => title === 'Firing alerts')?.renameByName;
  expect(Object.keys(shown ?? {})).toEqual(expect.arrayContaining([...new Set(named)]));
});

describe.each(targets)('$name', ({ expr }) => {
  const { errors, selectors, calls } = parsePromql(substituted(expr));

  it('is valid PromQL with existing metrics and labels', () => {
    expect(errors).toEqual([]);
    const made = labelsMadeBy(expr);
    expect(unknownNames(substituted(expr)).filter((name) => !made.includes(name))).toEqual([]);
  });

  it('filters by the selected job, instance and cluster', () => {
    const chosen = [...expr.matchAll(/cluster=~"\$cluster", job=~"\$job", instance=~"\$instance"/g)];
    expect(chosen).toHaveLength(selectors.filter(({ metric }) => !WITHOUT_TARGET.includes(metric)).length);
  });

  it('uses counters only through a rate over $__rate_interval', () => {
    expect(calls.filter((call) => call.endsWith('_total') && !/^(Rate|Irate|Increase) /.test(call))).toEqual([]);
    // Brackets inside quotes are classes of characters.
    const ranges = expr.replaceAll(/"[^"]*"/g, '""');
    expect([...ranges.matchAll(/\[([^\]]+)\]/g)].filter(([, range]) => range !== '$__rate_interval')).toEqual([]);
  });
});

test('every family has an example query that reads it and uses only existing names', () => {
  const families = [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES];
  expect(Object.keys(EXAMPLES).sort()).toEqual(families.map(({ name }) => name).sort());
  for (const family of families) {
    const expr = EXAMPLES[family.name] ?? '';
    expect(parsePromql(expr).errors).toEqual([]);
    expect(unknownNames(expr)).toEqual([]);
    const read = parsePromql(expr).selectors.map(({ metric }) => metric);
    expect(read).toEqual(expect.arrayContaining(seriesNames(family)));
  }
});

test('every family is on a dashboard or in a rule, and every recorded series is used', () => {
  const exprs = [...targets.map(({ expr }) => substituted(expr)), ...RULES.map(({ expr }) => expr)];
  const used = new Set(exprs.flatMap((expr) => parsePromql(expr).selectors.map(({ metric }) => metric)));
  // Annotations query the details of an alert.
  for (const { annotations = {} } of RULES)
    for (const [name] of Object.values(annotations)
      .join()
      .matchAll(/peerscope[:_][\w:]+(?=\{)/g))
      used.add(name);
  const families = [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES]
    .filter(({ help }) => !help.startsWith('Deprecated'))
    .flatMap(seriesNames);
  const recorded = RULES.flatMap(({ record }) => record ?? []);
  expect([...families, ...recorded].filter((name) => !used.has(name))).toEqual([]);
});

test('the alerts of Grafana match those of Prometheus', () => {
  const { groups } = parse(readFileSync(join(FOLDER, 'provisioning/alerting/peerscope.yaml'), 'utf8')) as {
    groups: {
      rules: {
        uid: string;
        title: string;
        condition: string;
        for: string;
        data: { refId: string; model: { expr?: string; expression?: string } }[];
        labels: { severity: string };
        annotations: Record<string, string>;
      }[];
    }[];
  };
  const rules = groups.flatMap(({ rules }) => rules);
  const alerts = RULES.filter(({ alert }) => alert !== undefined);
  const oneLine = (text = ''): string => text.replaceAll(/\s+/g, ' ').trim();
  expect(
    rules.map(({ title, labels, data, ...rule }) => [
      title.replace(` ${labels.severity}`, ''),
      labels.severity,
      rule.for,
      data[0]?.model.expr,
    ]),
  ).toEqual(
    alerts.map(({ alert, labels, for: pending = '0s', expr }) => [alert, labels?.severity, pending, oneLine(expr)]),
  );
  expect(new Set(rules.map(({ uid }) => uid)).size).toBe(rules.length);
  expect(new Set(rules.map(({ title }) => title)).size).toBe(rules.length);
  for (const { condition, data, uid, annotations } of rules) {
    expect(uid).toMatch(/^[a-z-]{1,40}$/);
    expect(data.map(({ refId }) => refId)).toEqual(['query', 'exists', condition]);
    // Grafana replaces $NAME by the environment except in annotations, so no query may contain it.
    expect(data[0]?.model.expr).not.toContain('$');
    expect(Object.keys(annotations)).toEqual(['summary', 'description', 'runbook_url']);
    expect(Object.values(annotations).join()).not.toMatch(/\$value\b/);
  }
});

test.each(DASHBOARDS)('annotations of $title are valid PromQL with existing metrics and labels', ({ annotations }) => {
  const exprs = (annotations.list ?? []).map(({ expr = '' }) => expr);
  expect(exprs[0]).toContain('ALERTS{');
  for (const expr of exprs) {
    expect(parsePromql(substituted(expr)).errors).toEqual([]);
    expect(unknownNames(substituted(expr))).toEqual([]);
  }
});

test('dashboards open with one owner, one operator and outbound peers', () => {
  const opened = DASHBOARDS.map(({ title = '', templating }) => [
    title.replace('peerscope / ', ''),
    ((templating.list ?? []) as unknown as Variable[])
      .filter(({ type, includeAll }) => (type === 'query' && !includeAll) || type === 'custom')
      .map(({ name, current }) => (current ? [name, current.value] : [name])),
  ]);
  expect(Object.fromEntries(opened)).toEqual({
    Overview: [['direction', ['outbound']]],
    Unusual: [],
    'Service map': [['namespace']],
    'Process or workload': [['workload'], ['direction', ['outbound']]],
    'Network operators (ASN)': [['asn']],
    Traffic: [],
    'Exporter health': [],
  });
});
