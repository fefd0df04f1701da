import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { parseBound, RotatedFile } from '../../src/cli/rotated-file.ts';
import { UsageError } from '../../src/common/errors.ts';
import { ENVIRONMENT } from '../support/exporter.ts';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-rotate-'));
afterAll(() => rmSync(folder, { recursive: true }));
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
let files = 0;
const newPath = (): string => join(folder, `log-${files++}`);
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

describe.skipIf(process.platform !== 'linux')('a rotated file', () => {
  it('and its former file have the newest lines, and never more bytes than the bound', () => {
    const lines = fc.array(fc.integer({ min: 1, max: 600_000 }), { maxLength: 20 });
    fc.assert(
      fc.property(
        fc.array(lines, { maxLength: 8 }),
        fc.nat(2_000),
        fc.constantFrom('w', 'a'),
        (scans, before, mode) => {
          const path = newPath();
          writeFileSync(path, 'x'.repeat(before));
          const descriptor = openSync(path, mode);
          const file = RotatedFile.open('1MiB', descriptor);
          let written = mode === 'a' ? 'x'.repeat(before) : '';
          scans.forEach((lengths, scan) => {
            const text = lengths.map((length, i) => `${scan} ${i} ${'é'.repeat(length / 4)}\n`).join('');
            file.write(text);
            written += text;
            expect(sizeOf(path) + sizeOf(`${path}.1`)).toBeLessThanOrEqual(1 << 20);
          });
          const kept = (sizeOf(`${path}.1`) > 0 ? readFileSync(`${path}.1`, 'utf8') : '') + readFileSync(path, 'utf8');
          expect(written.endsWith(kept)).toBe(true);
          expect(kept === written || kept.length > 100_000).toBe(true);
          rmSync(path);
          rmSync(`${path}.1`, { force: true });
        },
      ),
      { numRuns: 30 },
    );
  });

  it('begins with the given line, keeps its mode and says that it is new', () => {
    const path = newPath();
    const descriptor = openSync(path, 'w', 0o640);
    const file = RotatedFile.open('1MiB', descriptor);
    const line = `${'x'.repeat(300_000)}\n`;
    expect(file.write(`head\n${line}`, 'head\n')).toBe(false);
    expect(file.write(line, 'head\n')).toBe(true);
    expect(readFileSync(path, 'utf8').slice(0, 6)).toBe('head\nx');
    expect(statSync(path).mode & 0o777).toBe(statSync(`${path}.1`).mode & 0o777);
  });

  it('does not replace a file of another', () => {
    const path = newPath();
    const file = RotatedFile.open('1MiB', openSync(path, 'w'));
    file.write('x'.repeat(500_000));
    renameSync(path, `${path}-moved`);
    expect(() => file.write('x'.repeat(500_000))).toThrow(/^Cannot rotate ".*": no such file or directory$/);
  });

  it.each(['100', '0MiB', '1023KiB', '100MB', '1.5GiB', '-1MiB', '', '1 MiB'])('has no bound of %j', (text) => {
    expect(() => parseBound(text)).toThrow(UsageError);
    expect(() => parseBound(text)).toThrow(/must be a size of at least 1MiB, such as 100MiB$/);
  });

  it.each([
    ['1MiB', 1 << 20],
    ['1024KiB', 1 << 20],
    ['2GiB', 2 ** 31],
  ])('has the bound %s', (text, bytes) => {
    expect(parseBound(text)).toBe(bytes);
  });
});

describe.skipIf(process.platform !== 'linux')('watch --rotate', () => {
  const watch = (stdout: number | 'pipe', ...args: string[]): { status: number | null; stderr: string } =>
    spawnSync(
      process.execPath,
      [MAIN, 'watch', 'list', `--path.procfs=${TREE}`, '--asn.provider=none', '-i', '0.01', ...args],
      { env: ENVIRONMENT, stdio: ['ignore', stdout, 'pipe'], encoding: 'utf8', timeout: 50_000 },
    );

  it.each([
    ['jsonl', 60],
    ['csv', 200],
  ])('keeps a bound of %s', { timeout: 60_000 }, (output, scans) => {
    const path = newPath();
    const descriptor = openSync(path, 'w');
    const { status } = watch(descriptor, '-o', output, '-c', String(scans), '--rotate=1MiB');
    closeSync(descriptor);
    expect(status).toBe(0);
    expect(sizeOf(path)).toBeGreaterThan(0);
    expect(sizeOf(`${path}.1`)).toBeGreaterThan(400_000);
    expect(sizeOf(path) + sizeOf(`${path}.1`)).toBeLessThanOrEqual(1 << 20);
    if (output === 'csv') expect(readFileSync(path, 'utf8')).toMatch(/^at,transport,/);
  });

  it('needs a file', () => {
    const { status, stderr } = watch('pipe', '-o', 'jsonl', '-c', '1', '--rotate=1MiB');
    expect(stderr).toBe('Cannot use --rotate "1MiB": standard output must be a file\n');
    expect(status).toBe(2);
  });
});
