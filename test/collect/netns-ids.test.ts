import { expect, it } from 'vitest';
import { NetnsIds, OWN_NSID } from '../../src/collect/netns-ids.ts';
import { formatAddress, parseAddress } from '../../src/common/address.ts';
import type { Address } from '../../src/model.ts';

/** The addresses of the namespaces of a scan by number; those in `gone` have gone since the scan before. */
type Scan = Readonly<Record<number, readonly string[]>>;

class Namespaces {
  present: Scan = {};
  gone: Scan = {};

  numbers(): number[] {
    return Object.keys(this.present).map(Number);
  }

  namespace(number: number): { inode: number; pids: number[] } | null {
    return (this.present[number] ?? this.gone[number]) ? { inode: number, pids: [1] } : null;
  }

  isOwn(number: number): (address: Address) => boolean {
    const addresses = this.present[number] ?? this.gone[number] ?? [];
    return (address) => addresses.includes(formatAddress(address));
  }
}

/** "scan" begins a scan, "end" ends it; "7 10.0.0.1" asks for the namespace of an event, "7=2" is told by the kernel. */
type Step = string | { readonly present: Scan; readonly gone?: Scan };

const HOST = { 0: ['192.0.2.1'] };
const A = { 1: ['10.0.0.1', 'fd00::1'] };
const B = { 2: ['10.0.0.2'] };
const SAME = { 3: ['10.0.0.1'] };

it.each<{ title: string; steps: readonly Step[]; numbers: readonly (number | null)[] }>([
  {
    title: 'a number is learned by an address that one namespace has',
    steps: [{ present: { ...HOST, ...A, ...B } }, '7 10.0.0.2', '8 10.0.0.1', '8 fd00::1', '9 10.0.0.9'],
    numbers: [2, 1, 1, null],
  },
  {
    title: 'events of the own namespace need no address, and its addresses prove nothing of others',
    steps: [{ present: { ...HOST, ...A } }, '-1 10.0.0.9', '7 192.0.2.1'],
    numbers: [0, null],
  },
  {
    title: 'an address that two namespaces have proves nothing; another one of them does',
    steps: [{ present: { ...HOST, ...A, ...SAME } }, '7 10.0.0.1', '7 fd00::1', '7 10.0.0.1'],
    numbers: [null, 1, 1],
  },
  {
    title: 'what the kernel says decides between two namespaces with an address',
    steps: [{ present: { ...HOST, ...A, ...SAME } }, '7=3', '7 10.0.0.1', '7 127.0.0.1'],
    numbers: [3, 3],
  },
  {
    title: 'a loopback or discarded address is that of the known namespace',
    steps: [{ present: { ...HOST, ...A } }, '7 127.0.0.1', '7 10.0.0.1', '7 127.0.0.1', '7 ::1', '7 0.0.0.0', '7 ::'],
    numbers: [null, 1, 1, 1, 1, 1],
  },
  {
    title: 'a foreign address is that of the known namespace if a scan finds it again',
    steps: [{ present: { ...HOST, ...A, ...B } }, '7 10.0.0.1', 'end', '7 10.0.0.2', 'scan', '7 10.0.0.2', '7 8.8.8.8'],
    numbers: [1, null, 1, 1],
  },
  {
    title: 'a number that is used again is that of the new namespace',
    steps: [
      { present: { ...HOST, ...A } },
      '7 10.0.0.1',
      'end',
      '7 10.0.0.2',
      { present: { ...HOST, ...B }, gone: A },
      '7 10.0.0.2',
      '7 127.0.0.1',
    ],
    numbers: [1, null, 2, 2],
  },
  {
    title: 'it may be that of a namespace with the same address',
    steps: [{ present: { ...HOST, ...A } }, '7 10.0.0.1', { present: { ...HOST, ...SAME }, gone: A }, '7 10.0.0.1'],
    numbers: [1, 3],
  },
  {
    title: 'the last events of a namespace that has gone belong to it, those after the next scan to none',
    steps: [
      { present: { ...HOST, ...A } },
      '7 10.0.0.1',
      { present: HOST, gone: A },
      '7 10.0.0.1',
      { present: HOST },
      '7 10.0.0.1',
    ],
    numbers: [1, 1, null],
  },
  {
    title: 'two numbers for one namespace are both learned again',
    steps: [{ present: { ...HOST, ...A, ...B } }, '7 10.0.0.2', '8 10.0.0.2', '7 10.0.0.1', '8 10.0.0.2'],
    numbers: [2, null, 1, 2],
  },
])('$title', ({ steps, numbers }) => {
  const namespaces = new Namespaces();
  const ids = new NetnsIds(namespaces);
  const found: (number | null)[] = [];
  for (const step of steps) {
    if (step === 'end') ids.end();
    else if (step === 'scan') ids.begin(0);
    else if (typeof step !== 'string') {
      namespaces.present = step.present;
      namespaces.gone = step.gone ?? {};
      ids.begin(0);
    } else if (step.includes('=')) {
      const [nsid = '', number = ''] = step.split('=');
      ids.learn(new Map([[Number(number), Number(nsid)]]));
    } else {
      const [nsid = '', address = ''] = step.split(' ');
      found.push(ids.namespaceOf(Number(nsid), parseAddress(address) ?? [0, 0, 0, 0]));
    }
  }
  expect(found).toEqual(numbers);
});

it('covers the namespaces whose numbers are known', () => {
  const namespaces = new Namespaces();
  namespaces.present = { ...HOST, ...A, ...B };
  const ids = new NetnsIds(namespaces);
  const covered = (): number[] => namespaces.numbers().filter((number) => ids.covers(number));
  ids.begin(0);
  expect(covered()).toEqual([0]);
  ids.namespaceOf(7, parseAddress('10.0.0.1') ?? [0, 0, 0, 0]);
  expect(covered()).toEqual([0, 1]);
  ids.begin(null);
  expect(covered()).toEqual([1]);
  expect(ids.namespaceOf(OWN_NSID, parseAddress('192.0.2.1') ?? [0, 0, 0, 0])).toBe(null);
});
