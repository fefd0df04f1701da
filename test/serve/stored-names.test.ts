import { expect, it } from 'vitest';
import type { Pod } from '../../src/enrich/kubernetes/pods.ts';
import { decodePods, STORED_PODS_KEYS } from '../../src/enrich/kubernetes/stored-pods.ts';
import { StoredNames } from '../../src/serve/stored-names.ts';
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
  const names = new StoredNames(counted, time, () => pods);
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
  expect(writes.map((texts) => texts.length)).toEqual([2, 1, 2]);
});

it('keeps them stored while it runs, and an hour after', async () => {
  const { time, names, stored } = setUp(pod('u-0', 'a'));
  names.change();
  time.pass(2_000);
  for (let minutes = 0; minutes < 180; minutes += 15) {
    await expect.poll(() => time.waits).toEqual([15 * MINUTE]);
    time.pass(15 * MINUTE);
    expect(await stored()).toEqual(['a']);
  }
  await expect.poll(() => time.waits).toEqual([15 * MINUTE]);
  names.close();
  expect(time.waits).toEqual([]);
  time.pass(61 * MINUTE);
  expect(await stored()).toEqual([]);
});

it('writes all again after the store lost data, and nothing before there are pods', async () => {
  const { time, names, writes } = setUp(pod('u-0', 'a'), pod('u-1', 'b'));
  names.restart();
  expect(time.waits).toEqual([]);
  names.change();
  time.pass(2_000);
  await expect.poll(() => time.waits).toEqual([15 * MINUTE]);
  names.restart();
  time.pass(2_000);
  expect(writes.map((texts) => texts.length)).toEqual([2, 2]);
});
