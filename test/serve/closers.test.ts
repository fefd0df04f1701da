import { expect, it } from 'vitest';
import { Closers, ClosersTogether, type Closable } from '../../src/serve/closers.ts';

/** A part that logs its begin and end of `close`, and rejects with `error`. */
function part(name: string, log: string[], error?: string): Closable {
  return {
    close: async () => {
      log.push(`${name} begins`);
      await new Promise(setImmediate);
      log.push(`${name} ends`);
      if (error !== undefined) throw new Error(error);
    },
  };
}

it('parts close in reverse, one after the other', async () => {
  const log: string[] = [];
  const closers = new Closers();
  closers.add(part('first', log));
  expect(closers.add(null)).toBeNull();
  closers.add(part('last', log));
  await closers.close();
  await closers.close();
  expect(log).toEqual(['last begins', 'last ends', 'first begins', 'first ends']);
});

it('parts that close together do so at the same time', async () => {
  const log: string[] = [];
  const closers = new Closers();
  const together = closers.add(new ClosersTogether());
  together.add(part('a', log));
  closers.add(part('later', log));
  together.add(part('b', log));
  await closers.close();
  expect(log).toEqual(['later begins', 'later ends', 'a begins', 'b begins', 'a ends', 'b ends']);
});

it('an error keeps no other part from closing', async () => {
  const log: string[] = [];
  const closers = new Closers();
  closers.add(part('first', log));
  closers.add(part('second', log, 'second failed'));
  closers.add(part('third', log, 'third failed'));
  await expect(closers.close()).rejects.toThrow('third failed');
  expect(log.filter((line) => line.endsWith('ends'))).toEqual(['third ends', 'second ends', 'first ends']);
});
