import { describe, expect, it } from 'vitest';
import { PendingConnections } from '../../src/unusual/pending.ts';

interface Noted {
  readonly openedAt: number;
  readonly note: string;
}

const notesOf = (connections: readonly Noted[]): string[] => connections.map(({ note }) => note);

describe('pending connections', () => {
  it('are returned once, by key', () => {
    const pending = new PendingConnections<string, Noted>();
    pending.add('192.0.2.0/24', 'curl', { openedAt: 1, note: 'one' });
    pending.add('192.0.2.0/24', 'ssh', { openedAt: 2, note: 'two' });
    pending.add('198.51.100.0/24', 'curl', { openedAt: 3, note: 'three' });
    expect(notesOf(pending.take('192.0.2.0/24'))).toEqual(['one', 'two']);
    expect(notesOf(pending.take('192.0.2.0/24'))).toEqual([]);
    expect(notesOf(pending.take('198.51.100.0/24'))).toEqual(['three']);
  });

  it('stay until they are resolved', () => {
    const pending = new PendingConnections<string, Noted>();
    pending.add('192.0.2.0/24', 'curl', { openedAt: 1, note: 'one' });
    pending.add('192.0.2.0/24', 'ssh', { openedAt: 2, note: 'two' });
    pending.resolve('192.0.2.0/24', ({ note }) => note === 'two');
    expect(notesOf(pending.take('192.0.2.0/24'))).toEqual(['one']);
  });

  it('with the same name are one entry, the earliest, in any order', () => {
    const pending = new PendingConnections<string, Noted>();
    for (const openedAt of [20, 10, 30])
      pending.add('192.0.2.0/24', 'curl', { openedAt, note: `opened at ${openedAt}` });
    expect(notesOf(pending.take('192.0.2.0/24'))).toEqual(['opened at 10']);
  });

  it('are at most 10,000, and the oldest is dropped first', () => {
    const pending = new PendingConnections<string, Noted>();
    pending.add('oldest', 'curl', { openedAt: 0, note: 'one' });
    for (let i = 0; i < 10_000; i++) pending.add('recent', `process ${i}`, { openedAt: i, note: '' });
    expect(notesOf(pending.take('oldest'))).toEqual([]);
    expect(pending.take('recent')).toHaveLength(10_000);
  });

  it('of one tenant with many are dropped, not those of others', () => {
    const pending = new PendingConnections<string, Noted>();
    pending.add('192.0.2.0/24', 'curl', { openedAt: 0, note: 'victim' }, 'nginx.service');
    for (let i = 0; i < 30_000; i++) pending.add(`bucket ${i}`, 'sh', { openedAt: i, note: '' }, 'uid:1000');
    expect(notesOf(pending.take('192.0.2.0/24'))).toEqual(['victim']);
    expect(pending.take('bucket 1')).toEqual([]);
    expect(pending.take('bucket 29999')).toHaveLength(1);
  });
});
