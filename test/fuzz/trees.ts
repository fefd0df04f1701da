import { ok } from 'node:assert/strict';
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { Readers, type Reader } from '../../src/rows/streams.ts';
import { rowsOf } from '../../src/rows/row.ts';
import { Scrape, type ScrapeOptions } from '../../src/scrape.ts';
import { damaged } from './damage.ts';
import { checkRow, CONTROL, target, type Target } from './parsers.ts';

const RECORDED = join(import.meta.dirname, '..', 'fixtures', 'proc', 'loopback');
const OPTIONS: ScrapeOptions = {
  seriesLimit: 1_000,
  rules: EMPTY_RULES,
  collectors: { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true },
};
const NAMES = { service: () => null, remote: () => null };
/** A case is a scan or three. */
const COST = 20;
/** What no output may contain: it is in a file outside of the tree. */
const SECRET = 'the-secret-outside';
/** Files whose text a process chooses. */
const CHOSEN = /\/(?:comm|cmdline|cgroup|status)$/;

/** A copy of a recorded tree that is damaged and repaired again for each case. */
class World {
  readonly root = mkdtempSync(join(tmpdir(), 'peerscope-fuzz-'));
  readonly outside = `${this.root}-outside`;
  readonly files: readonly string[];

  constructor() {
    cpSync(RECORDED, this.root, { recursive: true, verbatimSymlinks: true });
    cpSync(RECORDED, this.outside, { recursive: true, verbatimSymlinks: true });
    const entries = readdirSync(this.root, { recursive: true, withFileTypes: true });
    this.files = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(this.root.length))
      .sort();
    for (const file of this.files) if (CHOSEN.test(file)) writeFileSync(this.outside + file, SECRET);
    process.once('exit', () => {
      for (const folder of [this.root, this.outside]) rmSync(folder, { recursive: true, force: true });
    });
  }

  /** Damages a file, does something, and repairs it. */
  with(damages: readonly Damage[], work: () => void): void {
    const paths = damages.map(({ at, choice }) => this.#damage(at % this.files.length, choice));
    try {
      work();
    } finally {
      // The last damage may have replaced the folder of the one before by a link to the outside.
      for (const path of paths.toReversed()) {
        rmSync(this.root + path, { recursive: true, force: true });
        cpSync(RECORDED + path, this.root + path, { recursive: true, verbatimSymlinks: true });
      }
    }
  }

  #damage(at: number, choice: Damage['choice']): string {
    const file = this.files[at] ?? '';
    const folder = file.slice(0, file.lastIndexOf('/'));
    const path = choice.kind === 'folder link' ? folder : file;
    if (lstatSync(this.root + path, { throwIfNoEntry: false }) === undefined) return path;
    rmSync(this.root + path, { recursive: true });
    if (choice.kind === 'folder') mkdirSync(this.root + path);
    else if (choice.kind === 'text') writeFileSync(this.root + path, choice.text, 'latin1');
    else if (choice.kind !== 'nothing') symlinkSync(this.outside + path, this.root + path);
    return path;
  }
}

interface Damage {
  readonly at: number;
  readonly choice:
    { readonly kind: 'text'; readonly text: string } | { readonly kind: 'nothing' | 'folder' | 'link' | 'folder link' };
}

/** Texts like those of the files that a process chooses, and of tables. */
const TEXTS = ['25999/stat', '25999/status', '25999/cgroup', '25999/cmdline'];
const world = new World();
const texts = world.files.filter(
  (file) => TEXTS.some((name) => file.endsWith(name.slice(5))) || file.includes('/net/'),
);
const contents = texts.map((file) => readFileSync(RECORDED + file, 'latin1'));
const text = damaged(contents, 12).map((text) => ({ kind: 'text' as const, text }));
const DAMAGE = fc.record({
  at: fc.nat(),
  choice: fc.oneof(
    { weight: 6, arbitrary: text },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constantFrom('nothing' as const, 'folder' as const, 'link' as const, 'folder link' as const),
      }),
    },
  ),
});
const CHOSEN_FILES = world.files.flatMap((file, i) => (CHOSEN.test(file) ? [i] : []));
const CHOSEN_DAMAGE = fc.record({
  at: fc.constantFrom(...CHOSEN_FILES),
  choice: fc
    .oneof(
      fc.string({ unit: 'binary', maxLength: 60 }),
      fc.constantFrom('a\n\nevent: x\ndata: {}\n\n', '\u2028', '\r\r', '\ufeff'),
    )
    .map((text) => ({ kind: 'text' as const, text })),
});

function scrapeOf(): Scrape {
  return new Scrape(new Procfs(world.root), OPTIONS, { now: () => 1e12, monotonic: () => performance.now() }, null);
}

export const TREE_TARGETS: readonly Target[] = [
  target(
    'recorded trees',
    fc.array(DAMAGE, { minLength: 1, maxLength: 3 }),
    (damages) => {
      world.with(damages, () => {
        const scrape = scrapeOf();
        scrape.scan(Infinity);
        const rows = rowsOf(scrape);
        rows.forEach(checkRow);
        for (const row of rows) ok(!CONTROL.test(Object.values(row).join(' ')), JSON.stringify(row));
        ok(!JSON.stringify(rows).includes(SECRET), 'shows what is outside of the tree');
      });
    },
    COST,
  ),
  target(
    'server-sent events',
    fc.array(CHOSEN_DAMAGE, { minLength: 1, maxLength: 3 }),
    (damages) => {
      const scrape = scrapeOf();
      scrape.scan(Infinity);
      const readers = new Readers(scrape, NAMES);
      const reader = readers.subscribe([], 1e12);
      world.with(damages, () => {
        scrape.scan(Infinity);
        readers.scanned(1e12);
      });
      // The names of before come back.
      scrape.scan(Infinity);
      readers.scanned(1e12);
      const stream = read(reader);
      readers.close(reader);
      for (const block of stream.split('\n\n').slice(0, -1)) {
        const [, name = '', json = ''] = /^event: ([a-z]+)\ndata: (\{[^\r\n]*\})$/.exec(block) ?? [];
        ok(name !== '', `is no event: ${JSON.stringify(block)}`);
        const event = JSON.parse(json) as { readonly event: string };
        ok(event.event === name, `${event.event} is called ${name}`);
      }
      ok(stream === '' || stream.endsWith('\n\n'), 'ends within an event');
    },
    COST,
  ),
];

/** Everything that a reader has buffered. */
function read(reader: Reader): string {
  let all = '';
  for (let isMore = true; isMore;) {
    isMore = false;
    reader.next((text) => {
      all += text ?? '';
      isMore = text !== null;
    });
  }
  return all;
}
