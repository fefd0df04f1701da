import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { podKeysOf, readPod, type Pod } from '../../../src/enrich/kubernetes/pods.ts';
import { decodePods, encodePods as encode, STORED_PODS_KEYS } from '../../../src/enrich/kubernetes/stored-pods.ts';
import { podsOf } from '../../support/kubernetes-api.ts';

const encodePods = (pods: readonly Pod[]): string[] => encode(pods).map(({ text }) => text);
/** What names a process or an address. */
const named = ({ uid, configHash, namespace, name, workload, kept, addresses, containers, onlyContainer }: Pod) => ({
  ...{ uid, configHash, namespace, name, workload, addresses, containers, onlyContainer },
  ...(kept && { kept }),
});
const byUid = (a: Pod, b: Pod): number => (a.uid < b.uid ? -1 : 1);
const keys = podKeysOf([{ name: 'x', labels: { app: /x/ }, annotations: { note: /x/ } }]);
const pod = (uid: string, name = 'web-0'): Pod => ({
  ...{ uid, configHash: null, namespace: 'shop', name, workload: 'web', addresses: [], containers: [] },
  onlyContainer: null,
});

describe('stored pods', () => {
  it.each(['gke', 'kind', 'eks', 'openshift', 'kubeadm'])('come back as they were: those of %s', (platform) => {
    const pods = podsOf(platform).flatMap((object) => readPod(object, keys) ?? []);
    expect(pods.length).toBeGreaterThan(0);
    expect(decodePods(encodePods(pods)).sort(byUid)).toEqual(pods.map(named).sort(byUid));
  });

  it('have the same texts in any order, and one change is in one text', () => {
    const pods = Array.from({ length: 110 }, (_, i) => pod(`0000-${i.toString(16).padStart(4, '0')}`));
    const texts = encodePods(pods);
    expect(texts).toHaveLength(STORED_PODS_KEYS.length);
    expect(encodePods([...pods].reverse())).toEqual(texts);
    const changed = encodePods(pods.map((one, i) => (i === 42 ? pod(one.uid, 'other') : one)));
    expect(changed.filter((text, i) => text !== texts[i])).toHaveLength(1);
  });

  it('fit into 2 MiB, however many there are', () => {
    const pods = Array.from({ length: 20_000 }, (_, i) => pod(`uid-${i}`, 'n'.repeat(200)));
    const texts = encodePods(pods);
    expect(texts.join('').length).toBeLessThan(2 * 2 ** 20);
    expect(decodePods(texts).length).toBeGreaterThan(3_000);
  });

  it.each([
    ['', 'not JSON'],
    ['{"uid":"a"}', 'no list'],
    ['[null,1,"a",[],{}]', 'no pods'],
    ['[{"uid":1,"namespace":"a","name":"b"}]', 'a uid that is no text'],
    ['[{"uid":"a","namespace":"","name":"b"}]', 'an empty namespace'],
  ])('%s is left out: %s', (text) => {
    expect(decodePods([text])).toEqual([]);
  });

  it('keep what is right of a pod that is partly wrong, without control characters', () => {
    const one = { uid: 'a', namespace: 'shop', name: 'web\u001b[31m', workload: 7, ips: ['192.0.2.1', 'x', 5] };
    const text = JSON.stringify([
      { ...one, containers: [['id', 'app'], ['id'], 3, ['', 'x']], kept: { labels: { a: 1 } } },
    ]);
    expect(decodePods([text])).toEqual([
      {
        ...{ uid: 'a', configHash: null, namespace: 'shop', name: expect.not.stringContaining('\u001b') as string },
        ...{ workload: '', addresses: [expect.any(Array)], containers: [['id', 'app']], onlyContainer: null },
        kept: { labels: {}, annotations: {} },
      },
    ]);
  });

  it('never throw, whatever the text is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        for (const { uid, name } of decodePods([text, `[${text}]`])) expect(uid === '' || name === '').toBe(false);
      }),
    );
  });
});
