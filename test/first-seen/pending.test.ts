import { describe, expect, it } from 'vitest';
import { ClosedMeetings } from '../../src/first-seen/pending.ts';

interface Told {
  readonly openedAt: number;
  readonly note: string;
}

const notesOf = (told: readonly Told[]): string[] => told.map(({ note }) => note);

describe('meetings that wait', () => {
  it('are handed out once, to who knows what they wait for', () => {
    const meetings = new ClosedMeetings<string, Told>();
    meetings.add('192.0.2.0/24', 'curl', { openedAt: 1, note: 'one' });
    meetings.add('192.0.2.0/24', 'ssh', { openedAt: 2, note: 'two' });
    meetings.add('198.51.100.0/24', 'curl', { openedAt: 3, note: 'three' });
    expect(notesOf(meetings.take('192.0.2.0/24'))).toEqual(['one', 'two']);
    expect(notesOf(meetings.take('192.0.2.0/24'))).toEqual([]);
    expect(notesOf(meetings.take('198.51.100.0/24'))).toEqual(['three']);
  });

  it('go on waiting while nobody takes them', () => {
    const meetings = new ClosedMeetings<string, Told>();
    meetings.add('192.0.2.0/24', 'curl', { openedAt: 1, note: 'one' });
    meetings.add('192.0.2.0/24', 'ssh', { openedAt: 2, note: 'two' });
    meetings.offer('192.0.2.0/24', ({ note }) => note === 'two');
    expect(notesOf(meetings.take('192.0.2.0/24'))).toEqual(['one']);
  });

  it('of one name count as the earliest, in whatever order they came', () => {
    const meetings = new ClosedMeetings<string, Told>();
    for (const openedAt of [20, 10, 30])
      meetings.add('192.0.2.0/24', 'curl', { openedAt, note: `opened at ${openedAt}` });
    expect(notesOf(meetings.take('192.0.2.0/24'))).toEqual(['opened at 10']);
  });

  it('are 10,000 at most, and what was waited for longest goes first', () => {
    const meetings = new ClosedMeetings<string, Told>();
    for (let i = 0; i < 9_998; i++) meetings.add('recent', `process ${i}`, { openedAt: i, note: '' });
    expect(meetings.take('recent')).toHaveLength(9_998);
    meetings.add('oldest', 'curl', { openedAt: 0, note: 'one' });
    meetings.add('oldest', 'ssh', { openedAt: 0, note: 'two' });
    for (let i = 0; i < 9_999; i++) meetings.add('recent', `process ${i}`, { openedAt: i, note: '' });
    expect(notesOf(meetings.take('oldest'))).toEqual([]);
    expect(meetings.take('recent')).toHaveLength(9_999);
  });
});
