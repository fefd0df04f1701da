import { expect, it } from 'vitest';
import type { Pod } from '../../src/enrich/kubernetes/pods.ts';
import { decodePods, encodePods, STORED_PODS_KEYS } from '../../src/enrich/kubernetes/stored-pods.ts';
import { StoredState } from '../../src/serve/stored-state.ts';
import type { Store, StoredText } from '../../src/store/contract.ts';
import { ManualTime } from '../support/manual-time.ts';
import { SharedServer } from '../support/shared-store.ts';

const MINUTE = 60_000;
const pod = (uid: string, name: string): Pod => ({
  ...{ uid, configHash: null, namespace: 'shop', name, workload: 'web', addresses: [], containers: [] },
  onlyContainer: null,
});

function setUp(...pods: Pod[]) {
  const time = new ManualTime();
  const store = new SharedServer(time).connect();
  const writes: StoredText[][] = [];
  const counted: Store = Object.create(store, {
    write: {
      value: (texts: StoredText[]) => {
        writes.push(texts);
        return store.write(texts);
      },
    },
  }) as Store;
  const names = new StoredState(counted, time, () =>
    encodePods(pods).map((text) => ({ ...text, keepMs: 60 * MINUTE })),
  );
  const stored = async (): Promise<string[]> =>
    decodePods((await store.read(STORED_PODS_KEYS)).values()).map(({ name }) => name);
  return { time, names, pods, writes, stored };
}

it('writes changes of 2 s together, and only the texts that changed', async () => {
  const { time, names, pods, writes, stored } = setUp(pod('u-0', 'a'), pod('u-1', 'b'));
  names.change();
  time.pass(1_999);
  names.change();
  expect(writes).toEqual([]);
  time.pass(1);
  await expect.poll(stored).toEqual(['a', 'b']);
  pods[1] = pod('u-1', 'c');
  names.change();
  time.pass(2_000);
  await expect.poll(stored).toEqual(['a', 'c']);
  pods.length = 0;
  names.change();
  time.pass(2_000);
  await expect.poll(stored).toEqual([]);
  expect(writes.map((texts) => texts.length)).toEqual([16, 1, 2]);
});

it('keeps them stored while it runs, and an hour after', async () => {
  const { time, names, stored } = setUp(pod('u-0', 'a'));
  names.change();
  time.pass(2_000);
  for (let minutes = 0; minutes < 180; minutes += 10) {
    await expect.poll(() => time.waits).toEqual([10 * MINUTE]);
    time.pass(10 * MINUTE);
    expect(await stored()).toEqual(['a']);
  }
  await expect.poll(() => time.waits).toEqual([10 * MINUTE]);
  names.close();
  expect(time.waits).toEqual([]);
  time.pass(61 * MINUTE);
  expect(await stored()).toEqual([]);
});

it('writes all again after the store lost data, and nothing before it is told of a change', async () => {
  const { time, names, writes } = setUp(pod('u-0', 'a'), pod('u-1', 'b'));
  names.restart();
  expect(time.waits).toEqual([]);
  names.change();
  time.pass(2_000);
  await expect.poll(() => time.waits).toEqual([10 * MINUTE]);
  names.restart();
  time.pass(2_000);
  expect(writes.map((texts) => texts.length)).toEqual([16, 16]);
});
