import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, type Opened } from '../support/chromium.ts';
import { bundle, whyNoPictures } from '../support/dashboard-picture.ts';
import { PANELS, type Panel } from '../support/dashboards.ts';

const VERSIONS = ['v10', 'v11', 'v12', 'v13'];

/** A value with the configuration of its field. */
interface Cell {
  readonly name: string;
  readonly type: 'string' | 'number';
  readonly config: Readonly<Record<string, unknown>>;
  readonly value: string | number;
}

/** What Prometheus may answer for a label. */
const TEXTS = ['CLOUDFLARENET - Cloudflare, Inc.', '13335', '0022', 'S', '2026-12-01', '1e5', 'true', 'null', '15m'];

/** Numbers of each unit, and what a viewer reads in every version. */
const NUMBERS: Readonly<Record<string, readonly (readonly [value: number, text: RegExp])[]>> = {
  short: [
    [0, /^0$/],
    [13_335, /^13\.3 K$/],
  ],
  bytes: [[81_234_944, /^77\.5 MiB$/]],
  binBps: [[4_096, /^4 KiB\/s$/]],
  s: [[0.02, /^20 ms$/]],
  percentunit: [[0.925, /^92\.5%$/]],
  cps: [[2.5, /^2\.50 c\/s$/]],
  dateTimeFromNow: [[Date.now() - 3 * 3_600_000, /^3 hours ago$/]],
};

/** The configuration of a field by its title: the defaults of the panel, and what overrides them. */
function configOf({ fieldConfig }: Panel, title: string): Record<string, unknown> {
  const config: Record<string, unknown> = { ...fieldConfig.defaults };
  for (const { matcher, properties } of fieldConfig.overrides)
    if (matcher.id === 'byName' && matcher.options === title)
      for (const { id, value } of properties) if (!id.startsWith('custom.')) config[id] = value;
  delete config['thresholds'];
  return config;
}

/** All cells of text in a table: its columns without a number. */
function textsOf(panel: Panel): Cell[] {
  const renamed = panel.transformations?.find(({ id }) => id === 'organize')?.options.renameByName ?? {};
  return Object.entries(renamed)
    .filter(([field]) => !field.startsWith('Value'))
    .flatMap(([, title]) =>
      TEXTS.map((value) => ({
        name: `${panel.dashboard}, ${panel.title}, ${title}`,
        type: 'string' as const,
        config: configOf(panel, title),
        value,
      })),
    );
}

const UNITS = [
  ...new Set(
    PANELS.flatMap(({ fieldConfig }) => [
      fieldConfig.defaults.unit,
      ...fieldConfig.overrides.flatMap(({ properties }) =>
        properties.filter(({ id }) => id === 'unit').map(({ value }) => String(value)),
      ),
    ]),
  ),
].filter((unit) => unit !== undefined);

describe('cells in each version of Grafana', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'peerscope-units-'));
  const why = whyNoPictures();
  let chromium: Chromium | undefined;
  let opened: Opened;

  beforeAll(async () => {
    if (why !== null) return void process.stderr.write(`SKIPPED: units of dashboards: ${why}\n`);
    bundle(scratch, 'units.js');
    writeFileSync(join(scratch, 'units.html'), '<!doctype html><meta charset="utf-8"><script src="units.js"></script>');
    chromium = await Chromium.start();
    opened = await chromium.open(`file://${scratch}/units.html`, {});
  }, 120_000);

  afterAll(async () => {
    await chromium?.close();
    await rm(scratch, { recursive: true });
  });

  const shown = (version: string, cells: readonly Cell[]): Promise<string[]> =>
    opened.page.evaluate<string[]>(`window.textsOf(${JSON.stringify(version)}, ${JSON.stringify(cells)})`);

  it.for(VERSIONS)('%s leaves texts of tables as they are', async (version, { skip }) => {
    if (why !== null) return skip(why);
    const cells = PANELS.filter(({ type }) => type === 'table').flatMap(textsOf);
    expect(cells.length).toBeGreaterThan(100);
    const texts = await shown(version, cells);
    expect(cells.map(({ name, value }, i) => `${name}: ${value} -> ${texts[i]}`)).toEqual(
      cells.map(({ name, value }) => `${name}: ${value} -> ${value}`),
    );
  });

  it.for(VERSIONS)('%s shows numbers of every unit that the dashboards use', async (version, { skip }) => {
    if (why !== null) return skip(why);
    expect(UNITS.toSorted()).toEqual(Object.keys(NUMBERS).toSorted());
    for (const [unit, pairs] of Object.entries(NUMBERS)) {
      const cells = pairs.map(([value]) => ({ name: unit, type: 'number' as const, config: { unit }, value }));
      for (const [i, text] of (await shown(version, cells)).entries())
        expect(text, `${unit} in ${version}`).toMatch(pairs[i]?.[1] ?? /^$/);
    }
  });

  it.for(VERSIONS)(
    '%s would spoil texts with a unit, which is why tables have none by default',
    async (version, { skip }) => {
      if (why !== null) return skip(why);
      const cell = {
        name: 'unit',
        type: 'string' as const,
        config: { unit: 'dateTimeFromNow' },
        value: 'CLOUDFLARENET',
      };
      expect(await shown(version, [cell])).toEqual(['NaN']);
      const tables = PANELS.filter(({ type }) => type === 'table');
      expect(tables.filter(({ fieldConfig: { defaults } }) => defaults.unit ?? defaults.noValue)).toEqual([]);
    },
  );
});
