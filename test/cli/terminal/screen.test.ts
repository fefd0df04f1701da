import { closeSync, openSync } from 'node:fs';
import { WriteStream } from 'node:tty';
import { expect, it } from 'vitest';
import { Screen } from '../../../src/cli/terminal/screen.ts';

it('closes quietly if the terminal is gone', () => {
  const fd = openSync('/dev/null', 'r');
  const written: string[] = [];
  const write = (text: string): boolean => written.push(text) > 0;
  const stdout = Object.assign(Object.create(WriteStream.prototype) as WriteStream, { fd, write });
  const screen = new Screen({ stdin: null, stdout }, { key: () => undefined, resized: () => undefined });
  expect(written).toHaveLength(1);
  expect(() => screen.close()).not.toThrow();
  closeSync(fd);
});
