import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readList } from '../../../src/enrich/kubernetes/list-parser.ts';

const MOST = 1 << 20;

/** A list in pieces of so many bytes, with its items and what is around them. */
async function read(text: string, size: number, mostBytes = MOST): Promise<{ items: unknown[]; around: unknown }> {
  const items: unknown[] = [];
  const around = await readList(piecesOf(Buffer.from(text), size), mostBytes, (item) => items.push(item));
  return { items, around };
}

async function* piecesOf(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

test('returns items and the rest of a list for any chunking and spacing', async () => {
  const objects = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { maxKeys: 4 });
  const lists = fc.record({ metadata: objects, items: fc.array(objects), kind: fc.string(), after: fc.jsonValue() });
  await fc.assert(
    fc.asyncProperty(lists, fc.integer({ min: 1, max: 40 }), fc.nat(2), async (list, size, space) => {
      const around = JSON.parse(JSON.stringify({ ...list, items: [] })) as unknown;
      const items = JSON.parse(JSON.stringify(list.items)) as unknown[];
      expect(await read(JSON.stringify(list, null, space), size)).toEqual({ items, around });
    }),
  );
});

test.each([
  ['a list whose items are null', '{"items":null}', { items: [], around: { items: null } }],
  ['a list of the list’s other keys', '{"rows":[{"a":1}]}', { items: [], around: { rows: [{ a: 1 }] } }],
  ['items below another key', '{"metadata":{"items":[{}]}}', { items: [], around: { metadata: { items: [{}] } } }],
  [
    'a value that looks like the key',
    '{"kind":"items","rows":[{}]}',
    { items: [], around: { kind: 'items', rows: [{}] } },
  ],
])('reads no items from %s', async (_, text, expected) => {
  expect(await read(text, 7)).toEqual(expected);
});

describe('rejects', () => {
  test.each([
    ['what is no JSON', 'oops'],
    ['nothing', ''],
    ['a list that ends early', '{"items":[{"a":1},{"b":'],
    ['an item that is no JSON', '{"items":[{a}]}'],
  ])('%s', async (_, text) => {
    await expect(read(text, 5)).rejects.toThrow('the list is not JSON');
  });

  test.each([
    ['an item', `{"items":[{"a":"${'x'.repeat(100)}"}]}`],
    ['what is around the items', `{"items":[],"a":"${'x'.repeat(100)}"}`],
  ])('%s that is too long, before its end', async (_, text) => {
    await expect(read(text, 5, 100)).rejects.toThrow('the list has an object longer than 100 bytes');
  });
});

test('reads a list much longer than its buffer', async () => {
  const item = `{"a":"${'x'.repeat(90)}"}`;
  const { items } = await read(`{"items":[${Array<string>(5_000).fill(item).join(',')}]}`, 1_000, 100);
  expect(items).toHaveLength(5_000);
});

test.each([
  ['arrays outside of the items', ',"x":[]'],
  ['spaces before the items', ' '],
  ['objects outside of the items', ',"x":{}'],
  ['members that begin like the items', ',"items ":[]'],
])('reads a list with 300,000 %s in one pass', async (_, unit) => {
  // Reading the text again at each of them would take an hour.
  const { items } = await read(`{"kind":"PodList"${unit.repeat(300_000)},"items":[{}]}`, 1 << 16, 8 << 20);
  expect(items).toEqual([{}]);
});
