import { expect, it } from 'vitest';
import type { Store, StoredRecord } from '../../src/store/contract.ts';

/** Opens another exporter's store on the same file or server; `maxRecords` is its limit. */
export type OpenStore = (maxRecords?: number) => Promise<Store> | Store;

/** A time of version 0.1 under a key of its kind. */
export const formerly = (key: string, at: number) => ({ category: 'outbound' as const, key, at });

export const records = (count: number, text = '[1,1,1]', from = 0): StoredRecord[] =>
  Array.from({ length: count }, (_, i) => ({ key: `unusual:1:["shop","api","operator","AS${from + i}"]`, text }));

/** What all pages from a cursor on give, and the cursor after them. */
export async function readAll(
  store: Store,
  since: string | null = null,
): Promise<{ texts: ReadonlyMap<string, string>; sizes: readonly number[]; next: string }> {
  const texts = new Map<string, string>();
  const sizes: number[] = [];
  let next = since;
  for (;;) {
    const page = await store.readRecords(next);
    if (!page) throw new Error('the store failed');
    for (const { key, text } of page.records) texts.set(key, text);
    sizes.push(page.records.length);
    next = page.next;
    if (page.isLast) return { texts, sizes, next };
  }
}

const toMap = (list: readonly StoredRecord[]): ReadonlyMap<string, string> =>
  new Map(list.map(({ key, text }) => [key, text]));

/** Tests what each store does with records. */
export function describeRecords(open: OpenStore): void {
  it('reads nothing from an empty store, and later what was written since', async () => {
    const [one, other] = [await open(), await open()];
    const { texts, next } = await readAll(one);
    expect(texts).toEqual(new Map());
    await other.writeRecords(records(2));
    expect((await readAll(one, next)).texts).toEqual(toMap(records(2)));
  });

  it('returns a change once, to each reader', async () => {
    const [one, other] = [await open(), await open()];
    await one.writeRecords(records(3));
    const [first, second] = [await readAll(one), await readAll(other)];
    expect([first.texts, second.texts]).toEqual([toMap(records(3)), toMap(records(3))]);
    await other.writeRecords(records(1, '[2,2,2]', 1));
    for (const [store, { next }] of [[one, first] as const, [other, second] as const]) {
      const changed = await readAll(store, next);
      expect(changed.texts).toEqual(toMap(records(1, '[2,2,2]', 1)));
      expect((await readAll(store, changed.next)).texts).toEqual(new Map());
    }
  });

  it.each([0, 1, 999, 1_000, 1_001, 2_000, 2_500])('reads %i records by pages of at most 1,000', async (count) => {
    const store = await open();
    await store.writeRecords(records(count));
    const { texts, sizes, next } = await readAll(store);
    expect(texts).toEqual(toMap(records(count)));
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1_000);
    expect((await readAll(store, next)).texts).toEqual(new Map());
  });

  it('misses nothing that is written between pages, or by several exporters at once', async () => {
    const [one, two, reader] = [await open(), await open(), await open()];
    await one.writeRecords(records(1_500));
    let next: string | null = null;
    const texts = new Map<string, string>();
    const read = async (): Promise<boolean> => {
      const page = await reader.readRecords(next);
      for (const { key, text } of page?.records ?? []) texts.set(key, text);
      next = page?.next ?? next;
      return page?.isLast ?? false;
    };
    for (let round = 0; round < 20; round++)
      await Promise.all([
        one.writeRecords(records(70, `[${round}]`, 50 * round)),
        read(),
        two.writeRecords(records(70, `[${round}]`, 2_000 + 50 * round)),
        read(),
      ]);
    while (!(await read()));
    expect(texts).toEqual((await readAll(one)).texts);
    expect(texts.size).toBe(1_500 + 50 * 19 + 70);
  });

  it('keeps the last of several texts for a key in one write', async () => {
    const store = await open();
    await store.writeRecords([...records(1, 'first'), ...records(1, 'last')]);
    expect((await readAll(store)).texts).toEqual(toMap(records(1, 'last')));
  });

  it('drops those that were written longest ago where there are too many', async () => {
    const store = await open(100);
    await store.writeRecords(records(100));
    await store.writeRecords(records(1, '[2,2,2]', 0));
    await store.writeRecords(records(10, '[1,1,1]', 100));
    const { texts } = await readAll(store);
    expect(texts).toEqual(
      toMap([...records(89, '[1,1,1]', 11), ...records(1, '[2,2,2]'), ...records(10, '[1,1,1]', 100)]),
    );
    await store.writeRecords(records(2_500, '[3]', 1_000));
    expect((await readAll(store)).texts).toEqual(toMap(records(100, '[3]', 3_400)));
  });

  it('drops those of the owner with the most where there are too many, not those of others', async () => {
    const store = await open(100);
    const victim = [
      ...records(3).map(({ key, text }) => ({ key: key.replace('api', 'victim'), text })),
      { key: 'workload:1:["shop","victim"]', text: 'learned' },
      { key: 'decision:1:["shop","victim","AS1"]', text: 'accepted' },
    ];
    await store.writeRecords(victim);
    for (let i = 0; i < 10; i++) await store.writeRecords(records(50, '[1]', 50 * i));
    const { texts } = await readAll(store);
    expect(texts).toEqual(toMap([...victim, ...records(95, '[1]', 405)]));
  });

  const long = 'é'.repeat(8_192);
  it.each<{ title: string; record: StoredRecord; isKept: boolean }>([
    { title: 'a text of 16 KiB', record: { key: 'workload:1:a', text: long }, isKept: true },
    { title: 'a longer text', record: { key: 'workload:1:a', text: `${long}x` }, isKept: false },
    { title: 'a key of 1,024 bytes', record: { key: `unusual:1:${'é'.repeat(507)}`, text: 'x' }, isKept: true },
    { title: 'a longer key', record: { key: `unusual:1:${'é'.repeat(507)}x`, text: 'x' }, isKept: false },
    { title: 'no key', record: { key: '', text: 'x' }, isKept: false },
    { title: 'a key of another kind', record: { key: '~x', text: 'x' }, isKept: false },
    { title: 'no text', record: { key: 'report:1:a', text: '' }, isKept: false },
    {
      title: 'quotes, controls and a NUL',
      record: { key: 'report:1:["\\"", "\n\0*"]', text: '\0"\r\n\'' },
      isKept: true,
    },
  ])('takes or ignores $title', async ({ record, isKept }) => {
    const store = await open();
    await store.writeRecords([record, ...records(1)]);
    expect((await readAll(store)).texts).toEqual(toMap([...(isKept ? [record] : []), ...records(1)]));
    expect({ up: store.up, failures: store.failures }).toEqual({ up: true, failures: 0 });
  });

  it('reads many long texts', async () => {
    const store = await open();
    const many = records(150, long);
    await store.writeRecords(many);
    expect((await readAll(store)).texts).toEqual(toMap(many));
    expect(store.failures).toBe(0);
  });

  it('returns the first-seen times of version 0.1 with the first read only', async () => {
    const store = await open();
    const owners = Array.from({ length: 40 }, (_, i) => `["curl","shop","api-${i}"`);
    const times = owners.flatMap((owner, i) => [
      { category: 'baseline' as const, key: `base:1:${owner}]`, at: i },
      ...Array.from({ length: 60 }, (_, asn) => formerly(`first:1:${owner},"outbound","${asn + 1}"]`, 1_000 + asn)),
    ]);
    const sighting = formerly('unusual:1:["shop","api","operator","AS1"]', 5);
    await store.writeFirstSeen([...times, sighting]);
    await store.writeRecords(records(3, 'text'));
    const expected = toMap([...times.map(({ key, at }) => ({ key, text: String(at) })), ...records(3, 'text')]);
    const { texts, sizes, next } = await readAll(store);
    expect(texts).toEqual(expected);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1_000);
    await store.writeFirstSeen(times.slice(0, 10));
    expect((await readAll(store, next)).texts).toEqual(new Map());
  });

  it('keeps a first-seen time apart from the record with the same key', async () => {
    const store = await open();
    const [record] = records(1, 'text');
    const key = record?.key ?? '';
    await store.writeFirstSeen([formerly(key, 5)]);
    await store.writeRecords(records(1, 'text'));
    expect(await store.writeFirstSeen([formerly(key, 7)])).toEqual([{ key, previous: 5 }]);
    expect((await readAll(store)).texts).toEqual(toMap(records(1, 'text')));
  });

  it.each([
    '',
    'x',
    '[]',
    '["changes"]',
    '["changes","x",1,1]',
    '["changes","",-1,0]',
    '["first","",""]',
    '{}',
    'null',
  ])('begins again from a cursor that is not its own: %s', async (cursor) => {
    const store = await open();
    await store.writeRecords(records(3));
    expect((await readAll(store, cursor)).texts).toEqual(toMap(records(3)));
  });

  it('does nothing after close', async () => {
    const store = await open();
    await store.close();
    await store.writeRecords(records(1));
    expect(await store.readRecords(null)).toBeNull();
  });
}
