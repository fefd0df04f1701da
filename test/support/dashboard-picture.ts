import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { whyNoChromium, type Chromium } from './chromium.ts';
import type { View } from './dashboard-view.ts';

const FOLDER = fileURLToPath(new URL('../e2e/dashboards', import.meta.url));
const ESBUILD = join(FOLDER, 'node_modules/.bin/esbuild');

/** What the page shows of each panel; for the browser. */
const READ = `(() => [...document.querySelectorAll('section[data-panel]')].map((section) => {
  const box = section.getBoundingClientRect();
  const inside = (element) => {
    const { left, right, top, bottom, width } = element.getBoundingClientRect();
    return width > 0 && left >= box.left - 1 && right <= box.right + 1 && top < box.bottom && bottom > box.top;
  };
  const texts = [...section.querySelectorAll('*')].filter((element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ''));
  const cut = (element) => element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflow !== 'visible';
  const isClipped = (element) => {
    // Text that is aligned to the right leaves its cell on the left, where nothing scrolls.
    const cell = element.closest('[role=gridcell], [role=columnheader]')?.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(element);
    const { left, right, width } = range.getBoundingClientRect();
    return cell !== undefined && width > 0 && (left < cell.left - 1 || right > cell.right + 1);
  };
  const cells = (role) => [...section.querySelectorAll('[role=' + role + ']')];
  return {
    title: section.dataset.panel,
    type: section.dataset.type,
    text: section.innerText,
    isEmpty: section.querySelector('[data-empty]') !== null,
    broken: section.querySelector('[data-broken]')?.textContent ?? null,
    marks: Number(section.dataset.marks ?? 0),
    cut: texts.filter((element) => cut(element) || isClipped(element) || (element.parentElement && cut(element.parentElement))).map((element) => element.innerText),
    columns: cells('columnheader').map((cell) => ({ name: cell.innerText.trim(), isSeen: inside(cell) })),
    rows: cells('row').slice(1).map((row) => [...row.querySelectorAll('[role=gridcell]')].map((cell) => cell.innerText.trim())),
    colors: [...new Set([...section.querySelectorAll('span, div')].map((one) => getComputedStyle(one).color))],
    links: [...section.querySelectorAll('a[href]')].map((link) => link.getAttribute('href')),
  };
}))()`;

/** A panel as a viewer reads it. */
export interface Seen {
  readonly title: string;
  readonly type: string;
  readonly text: string;
  readonly isEmpty: boolean;
  readonly broken: string | null;
  /** How many annotations are drawn over the lines. */
  readonly marks: number;
  readonly cut: readonly string[];
  readonly columns: readonly { readonly name: string; readonly isSeen: boolean }[];
  readonly rows: readonly (readonly string[])[];
  readonly colors: readonly string[];
  readonly links: readonly string[];
}

/** Says why no dashboard can be drawn here; null where one can. */
export function whyNoPictures(): string | null {
  if (!existsSync(ESBUILD)) return "Grafana's components are not installed: npm ci --prefix test/e2e/dashboards";
  return whyNoChromium();
}

/** Bundles Grafana's components and the script that uses them; by default the page that draws panels. */
export function bundle(folder: string, script = 'app.jsx'): void {
  const loaders = ['svg', 'woff', 'woff2', 'ttf', 'png'].map((type) => `--loader:.${type}=dataurl`);
  const defines = ['--define:process.env.NODE_ENV="production"', '--define:global=window'];
  const args = [
    script,
    '--bundle',
    `--outfile=${folder}/${script.replace(/\.jsx?$/, '')}.js`,
    '--jsx=automatic',
    '--log-level=error',
    '--minify',
  ];
  const { status, stderr } = spawnSync(ESBUILD, [...args, ...loaders, ...defines], { cwd: FOLDER, encoding: 'utf8' });
  if (status !== 0) throw new Error(`Cannot bundle "${FOLDER}": ${stderr}`);
}

/** Draws a dashboard with what `bundle` has left in the folder, leaves a picture, and reads it. */
export async function draw(chromium: Chromium, folder: string, view: View, picture: string): Promise<readonly Seen[]> {
  const file = join(folder, 'view.html');
  const json = JSON.stringify(view).replaceAll('<', '\\u003c');
  writeFileSync(
    file,
    `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="app.css"><body style="margin:0"><div id="root"></div>
     <script>window.process = { env: {} }; window.VIEW = ${json}</script><script src="app.js"></script>`,
  );
  const { page, complaints } = await chromium.open(`file://${file}`, { viewport: { width: 1600, height: 1000 } });
  await page
    .locator('main')
    .waitFor()
    .catch((error: unknown) => {
      throw new Error(`Cannot draw "${picture}": ${complaints.join('; ')}`, { cause: error });
    });
  await page.waitForFunction(
    '[...document.querySelectorAll("section")].every((one) => one.querySelector("[data-drawn], [data-broken]"))',
  );
  // Tables leave out what is outside the window.
  const height = await page.evaluate<number>('document.querySelector("main").offsetHeight');
  await page.setViewportSize({ width: 1600, height });
  await page.evaluate('document.fonts.ready');
  await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');
  await page.screenshot({ path: picture, fullPage: true });
  const panels = await page.evaluate<Seen[]>(READ);
  await page.context().close();
  return panels;
}
