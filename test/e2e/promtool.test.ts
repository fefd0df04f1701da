import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Exporter } from '../support/exporter.ts';
import { checkMetrics, needPromtool } from '../support/promtool.ts';

const GOLDEN = new URL('../golden/', import.meta.url);
const PAGES = readdirSync(GOLDEN).filter((name) => name.endsWith('.prom'));
const CLEAN = { status: 0, output: '' };

describe('promtool check metrics', () => {
  it.for(PAGES)('accepts the golden page %s', (name, { skip }) => {
    const promtool = needPromtool(skip);
    expect(checkMetrics(promtool, readFileSync(new URL(name, GOLDEN), 'utf8'))).toEqual(CLEAN);
  });

  it("accepts the page of this host, with the families of the exporter's own process", async ({ skip }) => {
    const promtool = needPromtool(skip);
    const exporter = await Exporter.start(['--asn.provider=none', '--storage.path=/dev/null/none']);
    try {
      const page = await exporter.metrics();
      expect(page).toContain('\nprocess_cpu_seconds_total ');
      expect(page).toContain('\nnodejs_eventloop_lag_seconds ');
      expect(checkMetrics(promtool, page)).toEqual(CLEAN);
    } finally {
      await exporter.stop();
    }
  });

  it.for([
    { name: 'a gauge that is called a total', page: '# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n', status: 3 },
    { name: 'a family without help', page: '# TYPE a gauge\na 1\n', status: 3 },
    { name: 'a quote that is not escaped', page: '# HELP a A.\n# TYPE a gauge\na{b="""} 1\n', status: 1 },
  ])('would find $name', ({ page, status }, { skip }) => {
    expect(checkMetrics(needPromtool(skip), page).status).toBe(status);
  });
});
