import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cleanLabel } from '../../src/common/sanitize.ts';

const CASES = [
  { name: 'a usual name stays', text: 'nginx', expected: 'nginx' },
  { name: 'nothing stays nothing', text: '', expected: '' },
  { name: 'blanks and quotes stay, at the ends too', text: ' a "b" \\ ', expected: ' a "b" \\ ' },
  { name: 'letters of any script and emoji stay', text: 'café Ω 数据 🦀', expected: 'café Ω 数据 🦀' },
  { name: 'C0 controls, newline and DEL are replaced', text: 'a\0b\nc\x1b[31md\x7f', expected: 'a�b�c�[31md�' },
  { name: 'C1 controls are replaced', text: 'a\x80b\x9b31m', expected: 'a�b�31m' },
  { name: 'line and paragraph separators are replaced', text: 'a\u2028b\u2029c', expected: 'a�b�c' },
  {
    name: 'controls of the writing direction are replaced',
    text: 'gpj\u202exe\u2066a\u2069\u200f\u061c',
    expected: 'gpj�xe�a���',
  },
  { name: 'half a surrogate pair is replaced', text: 'a\ud83db\udc00', expected: 'a�b�' },
  { name: 'the 129th character is cut', text: 'x'.repeat(129), expected: 'x'.repeat(128) },
  { name: 'characters count, not UTF-16 units', text: '🦀'.repeat(129), expected: '🦀'.repeat(128) },
];

test.each(CASES)('$name', ({ text, expected }) => {
  expect(cleanLabel(text)).toBe(expected);
});

test('turns any text into a label value and is idempotent', () => {
  const anyText = fc.array(fc.nat(0xffff), { maxLength: 300 }).map((units) => String.fromCharCode(...units));
  fc.assert(
    fc.property(anyText, (text) => {
      const label = cleanLabel(text);
      expect(label.isWellFormed()).toBe(true);
      expect(Array.from(label).length).toBeLessThanOrEqual(128);
      // C0, DEL and C1, line separators, bidirectional controls.
      expect(label).not.toMatch(/[^ -~\xa0-\u2027\u202f-\u{10ffff}]|[\u061c\u200e\u200f\u2066-\u2069]/u);
      expect(label === '').toBe(text === '');
      expect(cleanLabel(label)).toBe(label);
    }),
  );
});
