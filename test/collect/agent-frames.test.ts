import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeRequests, FrameDecoder } from '../../src/collect/agent-frames.ts';
import { joined } from '../support/diag-messages.ts';
import { frame } from '../support/fake-agent.ts';

/** Decodes chunks to frames in words, and says where the decoder stopped. */
function decode(
  chunks: readonly Uint8Array[],
  littleEndian = true,
): { frames: string[]; invalidLength: number | null } {
  const frames: string[] = [];
  const decoder = new FrameDecoder(littleEndian, ({ kind, value, nsid, payload }) =>
    frames.push(`${kind} ${value} ${nsid} ${Buffer.from(payload).toString('hex')}`),
  );
  for (const chunk of chunks) decoder.push(chunk);
  return { frames, invalidLength: decoder.invalidLength };
}

describe('FrameDecoder', () => {
  const FRAMES = fc.array(
    fc.record({
      kind: fc.nat({ max: 65_535 }),
      value: fc.nat({ max: 65_535 }),
      nsid: fc.integer({ min: -1, max: 2 ** 31 - 1 }),
      payload: fc.uint8Array({ maxLength: 60 }),
    }),
    { maxLength: 6 },
  );

  test('any split of a stream into chunks gives the same frames', () => {
    fc.assert(
      fc.property(FRAMES, fc.array(fc.nat({ max: 40 })), (sent, cuts) => {
        const stream = joined(...sent.map(({ kind, value, nsid, payload }) => frame(kind, payload, value, nsid)));
        const chunks: Uint8Array[] = [];
        let at = 0;
        for (const cut of cuts) chunks.push(stream.slice(at, (at += cut)));
        chunks.push(stream.slice(at));
        const expected = sent.map(
          ({ kind, value, nsid, payload }) => `${kind} ${value} ${nsid} ${Buffer.from(payload).toString('hex')}`,
        );
        expect(decode(chunks)).toEqual({ frames: expected, invalidLength: null });
        expect(decode([stream]).frames).toEqual(expected);
      }),
    );
  });

  test('the largest payload fits, whole and in parts', () => {
    const stream = frame(3, new Uint8Array(65_536).fill(7), 0, 5);
    expect(decode([stream]).frames).toHaveLength(1);
    expect(decode([stream.slice(0, 13), stream.slice(13, 40_000), stream.slice(40_000)]).frames).toHaveLength(1);
  });

  test.each([
    { name: 'one byte over 64 KiB', length: 65_537 },
    { name: '1 GiB', length: 1 << 30 },
    { name: 'all bits set', length: 0xffffffff },
  ])('nothing is decoded after a length of $name', ({ length }) => {
    const good = frame(3, Uint8Array.of(1));
    const bad = new Uint8Array(12);
    new DataView(bad.buffer).setUint32(0, length, true);
    const stream = joined(good, bad, good);
    const expected = { frames: ['3 0 -1 01'], invalidLength: length };
    expect(decode([stream])).toEqual(expected);
    expect(decode([...stream].map((byte) => Uint8Array.of(byte)))).toEqual(expected);
  });

  test('a big-endian host', () => {
    const header = Uint8Array.of(0, 0, 0, 1, 0, 2, 0, 10, 0xff, 0xff, 0xff, 0xff, 9);
    expect(decode([header], false).frames).toEqual(['2 10 -1 09']);
  });
});

test.each([
  { littleEndian: true, expected: '01010a00000000000102000001020000' },
  { littleEndian: false, expected: '0101000a000000000102000000000201' },
])('requests, little-endian $littleEndian', ({ littleEndian, expected }) => {
  const bytes = encodeRequests(
    [
      { kind: 1, family: 10 },
      { kind: 2, pid: 513 },
    ],
    littleEndian,
  );
  expect(Buffer.from(bytes).toString('hex')).toBe(expected);
});
