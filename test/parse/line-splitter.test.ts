import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { linesOf, MAX_LINE_LENGTH } from '../../src/parse/line-splitter.ts';

async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    await Promise.resolve();
    yield bytes.subarray(at, at + size);
  }
}

async function read(bytes: Uint8Array, size = 1000): Promise<string[]> {
  const lines: string[] = [];
  for await (const batch of linesOf(chunksOf(bytes, size)))
    lines.push(...batch.map(({ text, isTooLong }) => (isTooLong ? `too long: ${text.length}` : text)));
  return lines;
}

const swapped = (bytes: Buffer): Buffer => Buffer.from(bytes).swap16();

describe('lines of bytes', () => {
  const TEXT = '\r\nAktive Verbindungen\r\nABHÖREN 1';
  const LINES = ['\r', 'Aktive Verbindungen\r', 'ABHÖREN 1'];
  it.each<[encoding: string, bytes: Buffer, lines: string[]]>([
    ['UTF-8', Buffer.from(TEXT), LINES],
    ['UTF-8 with a byte order mark', Buffer.from(`\ufeff${TEXT}`), LINES],
    ['UTF-16LE with a byte order mark', Buffer.from(`\ufeff${TEXT}`, 'utf16le'), LINES],
    ['UTF-16LE without a byte order mark', Buffer.from(TEXT, 'utf16le'), LINES],
    ['UTF-16BE with a byte order mark', swapped(Buffer.from(`\ufeff${TEXT}`, 'utf16le')), LINES],
    ['UTF-16BE without a byte order mark', swapped(Buffer.from(TEXT, 'utf16le')), LINES],
    ['a code page', Buffer.from(TEXT, 'latin1'), ['\r', 'Aktive Verbindungen\r', 'ABH\ufffdREN 1']],
    ['empty input', Buffer.alloc(0), []],
    ['one byte', Buffer.from('a'), ['a']],
    ['a line feed', Buffer.from('\n'), ['']],
    ['a last line feed', Buffer.from('a\n'), ['a']],
  ])('of %s are the same for any chunk size', async (_encoding, bytes, lines) => {
    expect(await read(bytes)).toEqual(lines);
    expect(await read(bytes, 1)).toEqual(lines);
  });

  it('equal split() for any chunk size', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 20 }), async (text, size) => {
        const whole = `Netid ${text}`;
        const lines = whole.split('\n');
        if (lines.at(-1) === '') lines.pop();
        expect(await read(Buffer.from(whole), size)).toEqual(lines);
      }),
    );
  });

  it('keep the beginning of a line that is too long, and the next line', async () => {
    const text = `${'x'.repeat(MAX_LINE_LENGTH)}\n${'y'.repeat(3 * MAX_LINE_LENGTH)}\nz`;
    expect(await read(Buffer.from(text), 65_536)).toEqual(['x'.repeat(MAX_LINE_LENGTH), 'too long: 1000', 'z']);
  });
});
