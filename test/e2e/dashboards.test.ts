import { mkdirSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { RULE_FILES } from '../support/alert-rules.ts';
import { Chromium } from '../support/chromium.ts';
import { bundle, draw, whyNoPictures, type Seen } from '../support/dashboard-picture.ts';
import { panelsOf, viewOf, type Shown, type View } from '../support/dashboard-view.ts';
import { DASHBOARDS } from '../support/dashboards.ts';
import { Exporter } from '../support/exporter.ts';
import { writeHistory } from '../support/fleet-history.ts';
import { needServer, Prometheus } from '../support/prometheus-server.ts';

const TREES = fileURLToPath(new URL('../fixtures/proc', import.meta.url));
const SHOTS = fileURLToPath(new URL('../../.cache/dashboards', import.meta.url));

/** What a viewer opens: a dashboard, and the variables in its address. */
const OPENED: readonly (readonly [picture: string, uid: string, shown: Shown])[] = [
  ...DASHBOARDS.map(({ uid = '' }) => [uid, uid, {}] as const),
  ['peerscope-owner-orders', 'peerscope-owner', { namespace: 'shop', workload: 'orders' }],
  ['peerscope-asn-private', 'peerscope-asn', { asn: '64512' }],
  ['peerscope-overview-west', 'peerscope-overview', { cluster: 'west', direction: 'inbound' }],
];

/** The panels without data on these hosts. */
const EMPTY = new Set([
  'OTLP',
  'Folded series',
  // No cluster is watched.
  'Ignored expectations',
  // The owner that the dashboard opens with makes no connections: others call it.
  'First seen',
]);
/** Columns that hold names or numbers of things. */
const TEXT = ['ASN', 'Umask', 'Local port'];
/** Numbers that are neither good nor bad are blue; red and green are for failures. */
const RED = 'rgb(242, 73, 92)';
const GREEN = 'rgb(115, 191, 105)';

describe('dashboards as a viewer sees them', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'peerscope-dashboards-'));
  const closing: (() => Promise<unknown>)[] = [
    async () => {
      await rm(scratch, { recursive: true });
    },
  ];
  let why = whyNoPictures();
  let chromium: Chromium;
  let prometheus: Prometheus;
  const views = new Map<string, View>();
  const seen = new Map<string, readonly Seen[]>();

  beforeAll(async () => {
    const program =
      why ??
      needServer('prometheus', (note) => {
        why = note;
        return undefined as never;
      });
    if (why !== null) return void process.stderr.write(`SKIPPED: dashboards: ${why}\n`);
    mkdirSync(SHOTS, { recursive: true });
    bundle(scratch);
    const hosts = await Promise.all(
      ['plain-host', 'containers'].map((tree) =>
        Exporter.start([
          `--path.procfs=${join(TREES, tree)}`,
          `--storage.path=${join(scratch, tree)}`,
          '--asn.provider=none',
        ]),
      ),
    );
    for (const host of hosts) closing.push(() => host.stop());
    const history = join(scratch, 'history.txt');
    writeHistory(history, { hosts: 6, podsPerHost: 8, now: Math.floor(Date.now() / 1000) });
    prometheus = await Prometheus.start(program, {
      jobs: [
        {
          job_name: 'peerscope',
          honor_labels: true,
          static_configs: hosts.map(({ url }, i) => ({
            targets: [new URL(url).host],
            labels: { cluster: 'lab', instance: `host-${i}` },
          })),
        },
      ],
      rules: RULE_FILES,
      scrapeSeconds: 1,
      evaluationSeconds: 2,
      ruleInterval: '2s',
      history,
    });
    closing.push(() => prometheus.stop());
    await vi.waitFor(
      async () => {
        for (const name of ['peerscope:endpoint_received_bytes:rate1h', 'peerscope_build_info{cluster="lab"}'])
          if ((await prometheus.query(name)).length === 0) throw new Error(`${name} is missing`);
      },
      { timeout: 60_000, interval: 500 },
    );
    chromium = await Chromium.start();
    closing.push(() => chromium.close());
    for (const [picture, uid, shown] of OPENED) {
      const dashboard = DASHBOARDS.find((one) => one.uid === uid);
      if (!dashboard) throw new Error(`Cannot open dashboard "${uid}": it does not exist`);
      const span = { to: Math.floor(Date.now() / 1000), seconds: 3 * 3600, scrapeSeconds: 120 };
      const view = await viewOf(prometheus.url, dashboard, shown, span);
      views.set(picture, view);
      seen.set(picture, await draw(chromium, scratch, view, join(SHOTS, `${picture}.png`)));
    }
  }, 300_000);

  afterAll(async () => {
    for (const close of closing.reverse()) await close();
  });

  const opened = ([picture]: (typeof OPENED)[number]): readonly Seen[] => seen.get(picture) ?? [];
  const titled = (picture: string, title: string): Seen => {
    const panel = seen.get(picture)?.find((one) => one.title === title);
    if (!panel) throw new Error(`Cannot find panel "${title}" in "${picture}"`);
    return panel;
  };

  it.for(OPENED)('%s: every panel shows data', (view, { skip }) => {
    if (why !== null) return skip(why);
    const panels = opened(view);
    expect(panels.filter(({ broken }) => broken !== null)).toEqual([]);
    expect(panels.length).toBeGreaterThan(3);
    const empty = panels.filter(({ isEmpty, type, rows }) => isEmpty || (type === 'table' && rows.length === 0));
    expect(empty.map(({ title }) => title).filter((title) => !EMPTY.has(title))).toEqual([]);
  });

  it.for(OPENED)('%s: every text is whole and means something', (view, { skip }) => {
    if (why !== null) return skip(why);
    for (const { title, type, text, cut, isEmpty } of opened(view)) {
      expect(text, title).not.toMatch(/NaN|Invalid|undefined|null|Infinity|\$\{|in (?:an?|\d+) \w+|[4-9]\d years ago/);
      expect(cut, title).toEqual([]);
      // The text for missing data stands in no cell.
      if (!isEmpty && type !== 'table') expect(text, title).not.toMatch(/^No [a-z].*\.$/m);
    }
  });

  it.for(OPENED)('%s: tables are sorted, and show their first columns under readable names', (view, { skip }) => {
    if (why !== null) return skip(why);
    for (const { title, type, columns, rows } of opened(view)) {
      if (type !== 'table' || rows.length === 0) continue;
      expect(
        columns.filter(({ name }) => !/^[A-Z][A-Za-z. ]+$/.test(name) || name === 'Value'),
        title,
      ).toEqual([]);
      expect(
        columns.slice(0, 7).filter(({ isSeen }) => !isSeen),
        title,
      ).toEqual([]);
      for (const [i, { name }] of columns.entries())
        if (TEXT.includes(name)) expect(rows.map((row) => row[i] ?? '').join(), title).toMatch(/^[\d,]*$/);
    }
    for (const { title, rows } of opened(view)) {
      const first = rows.map(([text = '']) => text);
      if (first.every((text) => /^\d+$/.test(text)))
        expect(first, title).toEqual(first.toSorted((a, b) => Number(b) - Number(a)));
    }
    for (const { title, values } of sorted(views.get(view[0])))
      expect(values, title).toEqual(values.toSorted((a, b) => b - a));
  });

  it('colors numbers blue, and only failures red', ({ skip }) => {
    if (why !== null) return skip(why);
    const colored = [...seen.values()].flat().filter(({ type }) => type === 'stat');
    const failures = /^(?:Failing|Stores down|Lookups|Rejected|Watches|Oldest)/;
    for (const { title, colors } of colored)
      if (!failures.test(title))
        expect(
          colors.filter((color) => color === RED || color === GREEN),
          title,
        ).toEqual([]);
    expect(titled('peerscope-health', 'Failing collectors').colors).toContain(GREEN);
  });

  it('counts what Prometheus counts, also where clusters give an operator names of their own', async ({ skip }) => {
    if (why !== null) return skip(why);
    const [most] = await prometheus.query('topk(1, sum by (asn) (peerscope_asn_connections{asn!=""}))');
    const first = titled('peerscope-overview', 'Top 10 network operators')
      .text.split('\n')
      .filter((line) => line !== '');
    expect(first[1]).toMatch(new RegExp(`^AS${most?.labels['asn'] ?? ''} `));
    expect(first[2]).toBe(String(most?.value));
    const names = titled('peerscope-asn-private', 'Names').rows.map((row) => row[1]);
    expect(new Set(names)).toEqual(new Set(['EXAMPLE-12 - Example Network Operator 12', 'OFFICE-OF-EAST']));
    const met = titled('peerscope-overview', 'New peers in the last day').rows.filter((row) => row[2] === '64512');
    expect(new Set(met.map((row) => row[1]))).toEqual(new Set(names));
  });

  it('opens with one owner and with outbound peers, and links to what a viewer asks next', ({ skip }) => {
    if (why !== null) return skip(why);
    expect(views.get('peerscope-owner')?.shown).toMatchObject({ workload: 'ingress-nginx', direction: 'outbound' });
    expect(titled('peerscope-overview', 'New peers in the last day').text).not.toContain('inbound');
    expect(titled('peerscope-overview-west', 'New peers in the last day').text).toContain('inbound');
    const alerts = titled('peerscope-overview', 'Firing alerts');
    expect(alerts.rows[0]?.slice(0, 2)).toEqual([expect.stringMatching(/ago$/), 'PeerscopeUnusual']);
    expect(alerts.links).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/docs\/runbooks\/PeerscopeUnusual\.md$/),
        expect.stringMatching(/^\/d\/peerscope-owner\?.*var-process=java&var-workload=checkout&var-namespace=billing/),
      ]),
    );
  });

  it('marks alerts and new operators in all lines', ({ skip }) => {
    if (why !== null) return skip(why);
    const marks = [...views.values()].flatMap((view) => view.marks);
    expect(new Set(marks.map(({ color, title }) => `${color} ${title}`))).toEqual(
      new Set([
        'red PeerscopeUnusual',
        'red PeerscopeCloseWaitLeak',
        'red PeerscopeSeriesFolded',
        'blue First connection with AS64512',
      ]),
    );
    expect(new Set(marks.map(({ text }) => text))).toContain('shop payments');
    expect(new Set(marks.map(({ text }) => text))).toContain('python3 outbound');
    const lines = (picture: string): readonly Seen[] =>
      (seen.get(picture) ?? []).filter(({ type, isEmpty }) => type === 'timeseries' && !isEmpty);
    for (const { title, marks } of [...lines('peerscope-overview'), ...lines('peerscope-owner-orders')])
      expect(marks, title).toBeGreaterThan(1);
  });

  it('maps namespaces, and workloads with the bytes between them', ({ skip }) => {
    if (why !== null) return skip(why);
    expect(titled('peerscope-map', 'Namespaces').text).toContain('Internet');
    const { text } = titled('peerscope-map', 'Workloads');
    expect(text).toContain('postgres');
    expect(text).toMatch(/^\d+ \d+ kB\/s$/m);
  });
});

/** The numbers of the bars of a view, in the order of the bars. */
function sorted(view: View | undefined): { title: string; values: number[] }[] {
  if (!view) return [];
  return panelsOf(view.dashboard).flatMap(({ type, title }, i) =>
    type !== 'bargauge'
      ? []
      : [
          {
            title,
            values: (view.answers[i] ?? []).flatMap(({ result }) => result.map(({ value }) => Number(value?.[1]))),
          },
        ],
  );
}
