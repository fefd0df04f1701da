import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseStat, parseStatus } from '../../src/collect/pid-stat.ts';

/** Recorded on Linux 6.18, each byte as one character. */
const STAT_AFTER_COMM =
  'R 8640 8640 2920 0 -1 4194304 2910 6501 2 0 6 1 3 2 20 0 7 0 127833 17305600 3458 18446744073709551615 0 0 0 0 0 0 0' +
  ' 16781312 2 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n';

const STATUS = [
  'Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t8196\nNgid:\t0\nPid:\t8196\nPPid:\t8187\nTracerPid:\t0',
  'Uid:\t1000\t0\t1000\t1000\nGid:\t0\t0\t0\t0\nFDSize:\t256\nGroups:\t \nNStgid:\t8196\nNSpid:\t8196\nNSpgid:\t8187',
  'NSsid:\t2920\nKthread:\t0\nVmPeak:\t    3060 kB\nVmSize:\t    3060 kB\nVmHWM:\t    1736 kB\nVmRSS:\t    1736 kB',
  'RssAnon:\t     112 kB\nCoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t3\nSigQ:\t0/96365\nnonvoluntary_ctxt_switches:\t0\n',
].join('\n');

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Bytes that look enough like these files to reach every branch. */
const anyBytes = fc
  .array(
    fc.oneof(
      fc.uint8Array(),
      fc
        .constantFrom('(', ')', ' ', '1 (a) S 1', STAT_AFTER_COMM, '\nUid:\t', '\nVmRSS:\t1 kB', '\nState:\tZ')
        .map(bytes),
    ),
  )
  .map((parts) => Buffer.concat(parts));

describe('parseStat', () => {
  const READ = { state: 'R', ppid: 8640, startTime: 127833, threads: 7, residentPages: 3458 };

  test.each([
    { name: 'a usual name', text: `8644 (nginx) ${STAT_AFTER_COMM}`, expected: { comm: 'nginx', ...READ } },
    { name: 'an empty name', text: `8644 () ${STAT_AFTER_COMM}`, expected: { comm: '', ...READ } },
    {
      name: 'a name that looks like the fields after it, with a newline and a byte that is no UTF-8',
      text: `8644 (a) R 1 (\n\xff\\\t) ${STAT_AFTER_COMM}`,
      expected: { comm: 'a) R 1 (\n\ufffd\\\t', ...READ },
    },
    {
      name: 'a name in UTF-8',
      text: `8644 (${Buffer.from('café').toString('latin1')}) ${STAT_AFTER_COMM}`,
      expected: { comm: 'café', ...READ },
    },
    {
      name: 'a line cut before the start time',
      text: '8644 (nginx) R 8640 8640 2920 0 -1 4194304',
      expected: undefined,
    },
    { name: 'a state that is no letter', text: `1 (a) 7${STAT_AFTER_COMM.slice(1)}`, expected: undefined },
    { name: 'a line without a name', text: `8644 ${STAT_AFTER_COMM}`, expected: undefined },
    { name: 'parentheses the wrong way round', text: `8644 )a( ${STAT_AFTER_COMM}`, expected: undefined },
    { name: 'an empty file', text: '', expected: undefined },
  ])('$name', ({ text, expected }) => {
    expect(parseStat(bytes(text))).toEqual(expected);
  });

  test('finds the fields after any name', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (comm) => {
        const line = Buffer.concat([bytes('1 ('), comm, bytes(`) ${STAT_AFTER_COMM}`)]);
        expect(parseStat(line)).toEqual({ comm: Buffer.from(comm).toString('utf8'), ...READ });
      }),
    );
  });

  test('never throws on any bytes', () => {
    fc.assert(fc.property(anyBytes, (any) => void parseStat(any)));
  });
});

describe('parseStatus', () => {
  const NOTHING = {
    uid: null,
    uids: null,
    umask: null,
    residentMemoryBytes: null,
  };

  test.each([
    {
      name: 'a process: the effective user, memory in bytes',
      text: STATUS,
      expected: {
        uid: 0,
        uids: [1000, 0, 1000, 1000],
        umask: '0022',
        residentMemoryBytes: 1_777_664,
      },
    },
    {
      name: 'a kernel thread has no memory, and on an old kernel no umask',
      text: 'Name:\tkthreadd\nState:\tS (sleeping)\nTgid:\t2\nUid:\t0\t0\t0\t0\nThreads:\t1\n',
      expected: { ...NOTHING, uid: 0, uids: [0, 0, 0, 0] },
    },
    {
      name: 'a zombie has no memory and no umask either',
      text: 'Name:\ta\nState:\tZ (zombie)\nTgid:\t8685\nUid:\t33\t33\t33\t33\nThreads:\t1\n',
      expected: { ...NOTHING, uid: 33, uids: [33, 33, 33, 33] },
    },
    {
      name: 'a name cannot pass for another line',
      text: STATUS.replace('cat', 'x\\nUid:\t7\t7\t7\t7\rUmask:\t0777'),
      expected: {
        uid: 0,
        uids: [1000, 0, 1000, 1000],
        umask: '0022',
        residentMemoryBytes: 1_777_664,
      },
    },
    {
      name: 'values that are none',
      text: 'Name:\ta\nUmask:\t0o22\nState:\tS (sleeping)\nTgid:\t-1\nUid:\troot\nVmRSS:\tmany kB\nThreads:\t\nKthread:\t0',
      expected: NOTHING,
    },
    { name: 'an empty file', text: '', expected: NOTHING },
  ])('$name', ({ text, expected }) => {
    expect(parseStatus(bytes(text))).toEqual(expected);
  });

  test('never throws on any bytes', () => {
    fc.assert(fc.property(anyBytes, (any) => void parseStatus(any)));
  });
});
