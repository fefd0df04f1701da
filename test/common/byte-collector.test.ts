import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ByteCollector } from '../../src/common/byte-collector.ts';

it('returns what was added, however it was split', () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 3_000 }), { maxLength: 20 });
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 5 }), (takes) => {
      const collector = new ByteCollector();
      for (const chunks of takes) {
        for (const chunk of chunks) collector.add(chunk);
        const whole = Buffer.concat(chunks);
        expect(collector.length).toBe(whole.length);
        expect(collector.take().equals(whole)).toBe(true);
        expect(collector.length).toBe(0);
      }
    }),
  );
});

it('keeps no chunk, and about as many bytes as were added', () => {
  const collector = new ByteCollector();
  for (let i = 0; i < 1_000_000; i++) collector.add(Buffer.of(i));
  const { buffer, length } = collector.take();
  expect(length).toBe(1_000_000);
  expect(buffer.byteLength).toBeLessThan(2_000_000);
  const large = new Uint8Array(1_000_000);
  collector.add(large.subarray(0, 1));
  expect(collector.take().buffer.byteLength).toBeLessThan(100_000);
});
