import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RegexpBudget, exponentOf } from '../../src/common/regexp-budget.ts';

/** A pattern, and a text on which it would take longer than the world lasts. */
const ENDLESS: readonly (readonly [pattern: RegExp, text: string])[] = [
  [/^(a+)+$/u, `${'a'.repeat(100)}b`],
  [/^(?:a|a)*$/u, `${'a'.repeat(100)}b`],
  [/^(?:a?){50}a{50}$/u, `${'a'.repeat(80)}b`],
  [/(x+x+)+y/u, 'x'.repeat(100)],
  [/^(?<a>.*)\k<a>*(?:\k<a>|b)*c$/u, 'b'.repeat(4_000)],
  [/.*.*.*.*.*=/u, 'x'.repeat(32_768)],
];

describe('a match', () => {
  it.each(ENDLESS)('of %s is aborted if it would not end', (pattern, text) => {
    const patterns = new RegexpBudget(() => performance.now());
    expect(patterns.match(pattern, text)).toBe(null);
    expect(patterns.skipped).toBe(1);
    // The next is as if nothing had been.
    expect(patterns.match(/^(?<name>(b+)+)$/u, 'bbb')?.groups).toEqual({ name: 'bbb' });
    expect(patterns.skipped).toBe(1);
  });

  it('that may be slow is skipped after slow matches took half a second of a scan', () => {
    const patterns = new RegexpBudget(() => performance.now());
    const [[pattern, text] = [/a/, '']] = ENDLESS;
    for (let i = 0; i < 1_000; i++) patterns.match(pattern, text);
    expect(patterns.skipped).toBe(1_000);
    expect(patterns.match(/^(b+)+$/u, 'b')).toBe(null);
    expect(patterns.match(/^b+$/u, 'b')?.[0]).toBe('b');
    patterns.begin();
    expect(patterns.skipped).toBe(0);
    expect(patterns.match(/^(b+)+$/u, 'b')?.[0]).toBe('b');
  });

  it('returns what the pattern itself finds, with and without the watchdog', () => {
    const patterns = new RegexpBudget(() => performance.now());
    const pattern = fc.constantFrom(
      /^(a+)+$/u,
      /(?<x>a|b)+c/u,
      /^a*b/u,
      /b(?=c)/u,
      /^\/usr\/(?<name>[a-z]+)$/u,
      /(a)\1/u,
    );
    fc.assert(
      fc.property(pattern, fc.stringMatching(/^(?:\/usr\/)?[abc]{0,8}$/), (pattern, text) => {
        expect(patterns.match(pattern, text)).toEqual(pattern.exec(text));
      }),
    );
    expect(patterns.skipped).toBe(0);
  });
});

describe('the steps of a pattern grow with this exponent of the length', () => {
  it.each([
    ['^python3', 0],
    ['python3', 1],
    ['^/usr/bin/[a-z+*]+$', 1],
    ['(?<script>[a-z]+)\\.py', 2],
    ['^a*?b', 1],
    ['-Dapp=(\\S+).*-Denv=(\\S+)', 4],
    ['^a|b', 2],
    ['^[(+)*]\\)+$', 1],
    ['^a{2,5}', 1],
    ['(?:ab)?', Infinity],
    ['^(a+)+$', Infinity],
    ['(?<a>x)\\k<a>', Infinity],
    ['(x)\\1', Infinity],
  ])('%s: %d', (source, power) => {
    expect(exponentOf(new RegExp(source, 'u').source)).toBe(power);
  });
});
