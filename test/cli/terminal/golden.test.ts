import { readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { makeDatabases, scanTree } from '../../support/scan-result.ts';
import { cellsOf } from '../../../src/cli/terminal/width.ts';
import { paintWith } from '../../../src/cli/terminal/color.ts';
import { endpointsView } from '../../../src/cli/endpoints.ts';
import { listView } from '../../../src/cli/list.ts';
import { topView, TOP_KEYS } from '../../../src/cli/top.ts';
import type { View } from '../../../src/cli/view.ts';

const SCENARIOS = readdirSync(fileURLToPath(new URL('../../fixtures/proc', import.meta.url))).filter(
  (name) => !name.includes('.'),
);
const databases = makeDatabases();
afterAll(() => rmSync(databases.folder, { recursive: true }));

const list = (isWide: boolean): View => listView({ filters: [], isWide });
const top = (filters: string[], by: (typeof TOP_KEYS)[number] = 'process'): View =>
  topView({ filters, by, limit: '3', isChartFirst: false });

const DISPLAYS: readonly (readonly [name: string, view: View, width: number, depth: 'none' | '16' | '256' | 'true'])[] =
  [
    ['list', list(false), Infinity, 'none'],
    ['list-80', list(false), 80, 'none'],
    ['list-80-color', list(false), 80, '256'],
    ['list-wide', list(true), Infinity, 'none'],
    ['top-80', top([]), 80, 'none'],
    ['top-80-color', top(['state=established']), 80, '16'],
    ['top-asn-120', top([], 'asn'), 120, 'none'],
    ['top-workload', top([], 'workload'), Infinity, 'none'],
    ['top-endpoint', top([], 'endpoint'), Infinity, 'none'],
    ['endpoints', endpointsView([]), Infinity, 'none'],
    ['endpoints-80', endpointsView([]), 80, 'none'],
    ['endpoints-120-color', endpointsView([]), 120, 'true'],
  ];

describe.each(SCENARIOS)('the recorded tree %s on a terminal', (scenario) => {
  const result = scanTree(scenario, databases);
  it.each(DISPLAYS)('as %s', async (name, view, width, depth) => {
    const lines = view.draw(await result, { width, paint: paintWith(depth) });
    const text = lines.map((line) => `${line.text}\n`).join('');
    await expect(text).toMatchFileSnapshot(`../../golden/terminal/${scenario}/${name}.txt`);
  });

  it('has no line wider than the terminal, except rows with wide addresses', async () => {
    for (const [, view, width, depth] of DISPLAYS) {
      if (depth !== 'none' || width === Infinity) continue;
      const lines = view.draw(await result, { width, paint: paintWith(depth) });
      const tooWide = lines.filter(({ text }) => cellsOf(text) > width && !text.includes(':'));
      expect(tooWide).toEqual([]);
    }
  });

  it('has unique line keys', async () => {
    for (const [name, view] of DISPLAYS) {
      const keys = view.draw(await result, { width: 80, paint: paintWith('none') }).flatMap(({ key }) => key?.() ?? []);
      if (scenario !== 'hostile') expect(new Set(keys).size, name).toBe(keys.length);
    }
  });
});
