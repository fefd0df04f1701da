import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TCP_STATES } from '../../src/common/tcp-states.ts';
import { Exporter, sumOf } from '../support/exporter.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';
import { Chromium, whyNoChromium } from '../support/chromium.ts';

const TREES = fileURLToPath(new URL('../fixtures/proc', import.meta.url));
const SHOTS = fileURLToPath(new URL('../../.cache/status-page', import.meta.url));
const DESKTOP = { viewport: { width: 1200, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, deviceScaleFactor: 2 };
const DARK = { ...DESKTOP, colorScheme: 'dark' as const };

const obstacle = whyNoChromium();
const scratch = mkdtempSync(join(tmpdir(), 'peerscope-page-'));
let chromium: Chromium | undefined;

beforeAll(async () => {
  if (obstacle === null) chromium = await Chromium.start();
  else process.stderr.write(`SKIPPED: status page: ${obstacle}\n`);
  mkdirSync(SHOTS, { recursive: true });
});
afterAll(async () => {
  await chromium?.close();
  rmSync(scratch, { recursive: true });
});

/** Starts the exporter with these operators (ASN, country, name) for the networks that the recorded hosts talk to. */
async function startWith(tree: string, operators: Readonly<Record<string, string>>): Promise<Exporter> {
  const table = join(scratch, `${tree}.tsv`);
  const lines = Object.entries(operators).map(([net, operator]) => `${net}.0\t${net}.255\t${operator}\n`);
  writeFileSync(table, lines.join(''));
  const asn = ['--asn.provider=tsv', `--asn.database=${table}`];
  const exporter = await Exporter.start([
    `--path.procfs=${join(TREES, tree)}`,
    '--storage.path=/dev/null/none',
    ...asn,
  ]);
  await exporter.metricsOnce((page) => /peerscope_asn_info\{asn="1/.test(page));
  return exporter;
}

const OPERATORS = {
  '1.1.1': '13335\tUS\tCLOUDFLARENET - Cloudflare, Inc.',
  '8.8.8': '15169\tUS\tGOOGLE - Google LLC',
  '9.9.9': '19281\tCH\tQUAD9-AS-1',
};

/** The words and background of each piece of text, where the contrast (WCAG 2, 1.4.3) is too low; for the browser. */
const DIM_TEXTS = `(() => {
  const parse = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3) return color;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (walker.currentNode.data.trim() !== '') texts.push(walker.currentNode);
  const ratios = texts.map((text) => {
    const [a, b] = [parse(getComputedStyle(text.parentElement).color), behind(text.parentElement)].map(luminance);
    return { text: text.data.trim(), ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
  });
  return { seen: ratios.length, dim: ratios.filter(({ ratio }) => ratio < 4.5) };
})()`;

/** What the bars of the chart are called, and how far their last parts reach; for the browser. */
const BARS = `(() => {
  const bars = [...document.querySelectorAll('svg[role=img]')];
  const end = (bar) => bar.lastElementChild.getBoundingClientRect().right - bar.getBoundingClientRect().left;
  return { labels: bars.map((bar) => bar.getAttribute('aria-label')), widths: bars.map(end) };
})()`;

async function headings(page: Page): Promise<string[]> {
  return page.getByRole('heading').allTextContents();
}

describe('the status page in a browser', () => {
  let exporter: Exporter | undefined;
  beforeAll(async () => {
    if (chromium) exporter = await startWith('plain-host', OPERATORS);
  });
  afterAll(async () => {
    await exporter?.stop();
  });

  it('shows the same values as the metrics', async ({ skip }) => {
    if (!chromium || !exporter) return skip(obstacle ?? '');
    const { page, complaints } = await chromium.open(`${exporter.url}/`, DESKTOP);
    expect(await headings(page)).toEqual([
      ...['peerscope', 'Unusual past hour', 'Totals', 'Top processes by sockets', 'Remote network operators'],
      ...['Other networks', 'Listeners 6', 'Endpoints', 'Inbound 5 connections', 'Outbound 6 connections'],
      ...['Loopback 2 connections, 2 duplicates omitted', 'Blind spots'],
      ...['Scan cost', 'Documentation'].map((start) => expect.stringContaining(start) as string),
    ]);
    const sockets = sumOf(await exporter.metrics(), 'peerscope_connections');
    expect(await page.title()).toBe(`peerscope: ${sockets} sockets`);
    const table = page.getByRole('region', { name: 'Top processes by sockets' }).getByRole('table');
    expect(await table.getByRole('row').nth(1).innerText()).toMatch(
      /^orders\.py\s+orders\.service\s+7\s+established 5\s+listen 1\s+syn_sent 1$/,
    );
    const { labels, widths } = await page.evaluate<{ labels: string[]; widths: number[] }>(BARS);
    expect(labels).toEqual([32, 18, 18, 14, 14, 5].map((share) => `${share} % of all sockets`));
    expect(widths.map((width) => Math.round((width / (widths[0] ?? 1)) * 7))).toEqual([7, 4, 4, 3, 3, 1]);
    expect(await page.getByRole('rowheader', { name: 'CLOUDFLARENET - Cloudflare, Inc.' }).count()).toBe(1);
    const states = page.getByText('Socket states');
    await states.click();
    expect(await page.getByText(TCP_STATES.close_wait).isVisible()).toBe(true);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it.for([
    ['desktop', DESKTOP],
    ['dark', DARK],
    ['phone', PHONE],
  ] as const)('can be read: %s', async ([name, options], { skip }) => {
    if (!chromium || !exporter) return skip(obstacle ?? '');
    const { page, complaints } = await chromium.open(`${exporter.url}/?refresh=off`, options);
    const shot = join(SHOTS, `${name}.png`);
    await page.screenshot({ path: shot });
    expect(statSync(shot).size).toBeGreaterThan(10_000);
    await page.evaluate('for (const details of document.querySelectorAll("details")) details.open = true');
    const { seen, dim } = await page.evaluate<{ seen: number; dim: unknown[] }>(DIM_TEXTS);
    expect(seen).toBeGreaterThan(200);
    expect(dim).toEqual([]);
    const width = await page.evaluate('document.documentElement.scrollWidth');
    expect(width, 'nothing to scroll sideways').toBeLessThanOrEqual(options.viewport.width);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('refreshes without scripts, and stops on request', async ({ skip }) => {
    if (!chromium || !exporter) return skip(obstacle ?? '');
    const { page } = await chromium.open(`${exporter.url}/`, { ...DESKTOP, javaScriptEnabled: false });
    const scanned = async (): Promise<string | null> => page.locator('time').getAttribute('datetime');
    const first = await scanned();
    await page.waitForEvent('framenavigated', { timeout: 30_000 });
    await expect.poll(scanned).not.toBe(first);
    await page.getByRole('link', { name: 'Pause' }).click();
    await page.getByText('Refresh is paused').waitFor();
    expect(await page.locator('meta[http-equiv]').count()).toBe(0);
    await page.context().close();
  });

  it('has no broken link', async ({ skip }) => {
    if (!chromium || !exporter) return skip(obstacle ?? '');
    const { page } = await chromium.open(`${exporter.url}/?refresh=off`, DESKTOP);
    const links = await page.evaluate<string[]>('[...document.querySelectorAll("nav a")].map((link) => link.href)');
    expect(links).toHaveLength(4);
    for (const link of links) expect((await fetch(link)).status, link).toBe(200);
    await page.context().close();
  });
});

describe('hostile names in a browser', () => {
  const OPERATOR = `</bdi><img src=x onerror="document.title='hijacked'">`;
  it('are shown as text and load nothing', async ({ skip }) => {
    if (!chromium) return skip(obstacle ?? '');
    const exporter = await startWith('plain-host', {
      '1.1.1': '13335\tUS\t<script>fetch("/gotcha")</script>',
      '9.9.9': `13336\tUS\t${OPERATOR}`,
    });
    try {
      const { page, complaints, requests } = await chromium.open(`${exporter.url}/`, DESKTOP);
      expect(await page.getByText(OPERATOR, { exact: true }).count()).toBe(1);
      expect(await page.locator('img, script, iframe').count()).toBe(0);
      expect(await page.title()).toMatch(/^peerscope: /);
      expect(requests.filter((url) => !url.startsWith('data:image/svg+xml,'))).toEqual([`${exporter.url}/`]);
      expect(complaints).toEqual([]);
      await page.context().close();
    } finally {
      await exporter.stop();
    }
  });

  it('are shown as text when real processes have them', async ({ skip }) => {
    const reason = obstacle ?? whyNoNamespaces();
    if (!chromium || reason !== null) {
      if (obstacle === null) process.stderr.write(`SKIPPED: hostile processes on the status page: ${reason}\n`);
      return skip(reason ?? '');
    }
    const rules = join(scratch, 'rules.yaml');
    writeFileSync(rules, 'processes: [{ name: "{{ .comm }}" }]\n');
    const names = ['<script>alert', '</th><h1>owned', '"><svg/onload=', '&lt;b&gt;', "' style='x"];
    await using network = new TestNetwork();
    const host = await network.make();
    for (const name of names)
      await network.openSockets(host, {
        flags: [`--comm=${name}`],
        // More than any other process of this machine, or it would not be among the first.
        kinds: Array.from({ length: 40 }, () => 'tcp-pair=127.0.0.1:0'),
      });
    const quiet = ['--asn.provider=none', '--storage.path=/dev/null/none', '--no-collector.first-seen'];
    const exporter = await Exporter.start(['--config.file', rules, ...quiet]);
    try {
      const { page, complaints } = await chromium.open(`${exporter.url}/`, PHONE);
      const processes = page.getByRole('region', { name: 'Top processes by sockets' });
      for (const name of names) {
        const row = processes.getByRole('row').filter({ has: page.getByText(name.slice(0, 15), { exact: true }) });
        expect(await row.count(), name).toBe(1);
      }
      expect(await page.locator('h1').count()).toBe(1);
      expect(await page.locator('script, [onload], [style]').count()).toBe(0);
      expect(complaints).toEqual([]);
      await page.screenshot({ path: join(SHOTS, 'hostile.png') });
      await page.context().close();
    } finally {
      await exporter.stop();
    }
  });
});
