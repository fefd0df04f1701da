import { expect, test } from 'vitest';
import { bytesOf, secondsOf } from '../../src/common/units.ts';

test.each([
  [0, '0 B'],
  [0.4, '0 B'],
  [1023, '1023 B'],
  [1023.6, '1.0 KiB'],
  [1024, '1.0 KiB'],
  [1_048_575, '1.0 MiB'],
  [1_258_291, '1.2 MiB'],
  [2 ** 40, '1.0 TiB'],
  [2 ** 62, '4096.0 PiB'],
])('%d bytes are %s', (bytes, expected) => {
  expect(bytesOf(bytes)).toBe(expected);
});

test.each([
  [0, '0 µs'],
  [0.000085, '85 µs'],
  [0.0012, '1.2 ms'],
  [0.00999, '10 ms'],
  [0.0124, '12 ms'],
  [0.25, '250 ms'],
  [3.41, '3.4 s'],
  [120, '120 s'],
])('%d seconds are %s', (seconds, expected) => {
  expect(secondsOf(seconds)).toBe(expected);
});
