import { describe, expect, it, vi } from 'vitest';
import type { Notifications } from '../../src/serve/messages.ts';
import { RecordSync } from '../../src/serve/record-sync.ts';
import type { Store, StoredRecord } from '../../src/store/contract.ts';
import { ManualTime } from '../support/manual-time.ts';
import { records } from '../support/record-contract.ts';
import { SharedServer } from '../support/shared-store.ts';

type Merged = Notifications['merge'];

interface Opened {
  readonly sync: RecordSync;
  readonly merged: Merged[];
}

function setUp() {
  const time = new ManualTime();
  const server = new SharedServer(time);
  const open = (store: Store | null = server.connect()): Opened => {
    const merged: Merged[] = [];
    return { sync: new RecordSync(store, time, (page) => void merged.push(page)), merged };
  };
  return { time, server, open };
}

/** Pages as the number of records, with "!" for the last. */
const sizes = (merged: readonly Merged[]): readonly string[] =>
  merged.map(({ records: page, isComplete }) => `${page.length}${isComplete ? '!' : ''}`);

/** Waits for the next timer: the read before it has ended. */
const waitsFor = (time: ManualTime, ms: number): Promise<void> =>
  vi.waitFor(() => expect(time.waits).toEqual([ms]), { interval: 1 });

describe('RecordSync', () => {
  it('is complete at once without a store, and keeps nothing', async () => {
    const { time, open } = setUp();
    const { sync, merged } = open(null);
    sync.start();
    sync.write(records(3));
    expect({ merged, waits: time.waits }).toEqual({ merged: [{ records: [], isComplete: true }], waits: [] });
    await sync.close();
  });

  it.each([
    { count: 0, expected: ['0!'] },
    { count: 1_000, expected: ['1000!'] },
    { count: 2_500, expected: ['1000', '1000', '500!'] },
  ])('merges $count records page by page', async ({ count, expected }) => {
    const { time, server, open } = setUp();
    await server.connect().writeRecords(records(count));
    const { sync, merged } = open();
    sync.start();
    await waitsFor(time, 60_000);
    expect(sizes(merged)).toEqual(expected);
    expect(merged.flatMap((page) => page.records)).toEqual(records(count));
  });

  it.each([
    { name: 'empty pages', page: [] },
    { name: 'full pages', page: records(1_000) },
  ])('pauses and is complete in the end with a store whose $name never end', async ({ page }) => {
    const { time, server, open } = setUp();
    let reads = 0;
    const readRecords = async () => Promise.resolve({ records: page, next: String(++reads), isLast: false });
    const { sync, merged } = open({ ...server.connect(), readRecords });
    sync.start();
    while (!merged.some(({ isComplete }) => isComplete)) {
      await waitsFor(time, 1_000);
      expect(reads).toBeLessThanOrEqual(2_800);
      time.pass(1_000);
    }
    expect(merged.findIndex(({ isComplete }) => isComplete)).toBe(1_999);
    await sync.close();
  });

  it('merges once a minute what changed since', async () => {
    const { time, server, open } = setUp();
    const other = server.connect();
    await other.writeRecords(records(3));
    const { sync, merged } = open();
    sync.start();
    await waitsFor(time, 60_000);
    await other.writeRecords(records(1, 'changed'));
    time.pass(59_999);
    expect(time.waits).toEqual([1]);
    time.pass(1);
    await waitsFor(time, 60_000);
    expect(merged.slice(1)).toEqual([{ records: records(1, 'changed'), isComplete: true }]);
  });

  it('retries each minute from the same cursor, and is complete only when it has read all', async () => {
    const { time, server, open } = setUp();
    await server.connect().writeRecords(records(1_500));
    const store = server.connect();
    let reads = 0;
    const failsAfterOne: Store = {
      ...store,
      readRecords: (since) => {
        server.gone = ++reads > 1;
        return store.readRecords(since);
      },
    };
    const { sync, merged } = open(failsAfterOne);
    sync.start();
    await waitsFor(time, 60_000);
    time.pass(60_000);
    await waitsFor(time, 60_000);
    expect({ reads, sizes: sizes(merged) }).toEqual({ reads: 3, sizes: ['1000'] });
    reads = -10;
    time.pass(60_000);
    await waitsFor(time, 60_000);
    expect(sizes(merged)).toEqual(['1000', '500!']);
  });

  it('reads everything again after the store lost data, also while a page is being read', async () => {
    const { time, server, open } = setUp();
    await server.connect().writeRecords(records(1_500));
    const store = server.connect();
    let restartDuring = false;
    const { sync, merged } = open({
      ...store,
      readRecords: async (since) => {
        const page = await store.readRecords(since);
        if (restartDuring) sync.restart();
        restartDuring = false;
        return page;
      },
    });
    sync.start();
    await waitsFor(time, 60_000);
    sync.restart();
    restartDuring = true;
    time.pass(60_000);
    await waitsFor(time, 60_000);
    expect(sizes(merged)).toEqual(['1000', '500!', '1000', '1000', '500!']);
  });

  it('pauses while it reads a store of large records', async () => {
    const { time, server, open } = setUp();
    await server.connect().writeRecords(records(2_500, 'x'.repeat(9_000)));
    const { sync, merged } = open();
    sync.start();
    await waitsFor(time, 1_000);
    expect(sizes(merged)).toEqual(['1000']);
    time.pass(1_000);
    await waitsFor(time, 1_000);
    time.pass(1_000);
    await waitsFor(time, 60_000);
    expect(sizes(merged)).toEqual(['1000', '1000', '500!']);
  });

  it('writes the last text of each key, one write at a time', async () => {
    const { server, open } = setUp();
    const store = server.connect();
    const written: (readonly StoredRecord[])[] = [];
    const mayContinue = Promise.withResolvers<null>();
    const { sync } = open({
      ...store,
      writeRecords: async (given) => {
        written.push(given);
        await mayContinue.promise;
        await store.writeRecords(given);
      },
    });
    sync.write(records(2, 'first'));
    sync.write(records(2, 'second'));
    sync.write(records(1, 'third'));
    expect(written).toEqual([records(2, 'first')]);
    const closed = sync.close();
    mayContinue.resolve(null);
    await closed;
    expect(written).toEqual([records(2, 'first'), [...records(1, 'second', 1), ...records(1, 'third')]]);
    expect([...server.records.values()].map(({ text }) => text)).toEqual(['second', 'third']);
  });

  it('keeps at most 200,000 records that wait to be written', async () => {
    const { server, open } = setUp();
    const store = server.connect();
    let written = 0;
    const mayContinue = Promise.withResolvers<null>();
    const { sync } = open({
      ...store,
      writeRecords: async (given) => {
        await mayContinue.promise;
        written = given.length;
      },
    });
    sync.write(records(1));
    sync.write(records(200_001, '', 1));
    mayContinue.resolve(null);
    await sync.close();
    expect(written).toBe(200_000);
  });

  it('neither reads nor merges after close', async () => {
    const { time, open } = setUp();
    const { sync, merged } = open();
    sync.start();
    await sync.close();
    await new Promise(setImmediate);
    expect({ merged, waits: time.waits }).toEqual({ merged: [], waits: [] });
  });
});
