import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { equalCounts, mayHoldRows, parseSockstat, type SocketCounts } from '../../src/collect/sockstat.ts';
import { TABLES } from '../../src/collect/net-tcp-udp-raw.ts';

const recorded = (name: string): string =>
  readFileSync(new URL(`../fixtures/proc-net/${name}`, import.meta.url), 'utf8');

const EMPTY = `sockets: used 1
TCP: inuse 0 orphan 0 tw 0 alloc 110158 mem 1048
UDP: inuse 0 mem 0
UDPLITE: inuse 0
RAW: inuse 0
FRAG: inuse 0 memory 0
`;
const EMPTY6 = 'TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n';

describe('parseSockstat', () => {
  const COUNTED = { tcp: 22, udp: 4, udplite: 1, raw: 2 };

  test.each([
    {
      name: 'a namespace with a socket of every kind',
      sockstat: recorded('sockstat'),
      sockstat6: recorded('sockstat6'),
      expected: { inuse: { ...COUNTED, tcp6: 6, udp6: 1, udplite6: 1, raw6: 1 }, timeWait: 3 },
    },
    {
      name: 'IPv6 is off',
      sockstat: recorded('sockstat'),
      sockstat6: null,
      expected: { inuse: { ...COUNTED, tcp6: 0, udp6: 0, udplite6: 0, raw6: 0 }, timeWait: 3 },
    },
    {
      name: 'sockstat6 could not be read',
      sockstat: recorded('sockstat'),
      sockstat6: '',
      expected: { inuse: COUNTED, timeWait: 3 },
    },
    {
      name: 'a kernel without UDP-Lite',
      sockstat: EMPTY.replace('UDPLITE: inuse 0\n', ''),
      sockstat6: null,
      expected: { inuse: { tcp: 0, udp: 0, raw: 0, tcp6: 0, udp6: 0, udplite6: 0, raw6: 0 }, timeWait: 0 },
    },
    { name: 'no sockstat', sockstat: null, sockstat6: EMPTY6, expected: null },
    { name: 'no count of TIME_WAIT', sockstat: 'TCP: inuse 3 orphan 0 mem 7\n', sockstat6: EMPTY6, expected: null },
    { name: 'counts that are none', sockstat: 'TCP: inuse x tw -1\n', sockstat6: EMPTY6, expected: null },
  ])('$name', ({ sockstat, sockstat6, expected }) => {
    expect(parseSockstat(sockstat, sockstat6)).toEqual(expected);
  });

  test('never throws on any text', () => {
    const line = fc
      .tuple(fc.constantFrom('TCP:', 'TCP6:', 'UDP:', ''), fc.array(fc.constantFrom('inuse', 'tw', '1', '-1', 'x')))
      .map(([name, counts]) => [name, ...counts].join(' '));
    const text = fc.option(fc.array(fc.oneof(line, fc.string())).map((lines) => lines.join('\n')));
    fc.assert(fc.property(text, text, (sockstat, sockstat6) => void parseSockstat(sockstat, sockstat6)));
  });
});

describe('mayHoldRows', () => {
  const read = (sockstat: string | null, sockstat6: string | null): string[] => {
    const counters = parseSockstat(sockstat, sockstat6);
    return TABLES.filter((table) => mayHoldRows(counters, table));
  };

  test.each([
    {
      name: 'every table that has sockets is read',
      sockstat: recorded('sockstat'),
      sockstat6: recorded('sockstat6'),
      expected: [...TABLES],
    },
    { name: 'an empty namespace is not read', sockstat: EMPTY, sockstat6: EMPTY6, expected: [] },
    { name: 'nor is one without IPv6', sockstat: EMPTY, sockstat6: null, expected: [] },
    {
      name: 'TIME_WAIT is counted for both families together',
      sockstat: EMPTY.replace('tw 0', 'tw 1'),
      sockstat6: EMPTY6,
      expected: ['tcp', 'tcp6'],
    },
    {
      name: 'UDP over IPv6 alone',
      sockstat: EMPTY,
      sockstat6: EMPTY6.replace('UDP6: inuse 0', 'UDP6: inuse 2'),
      expected: ['udp6'],
    },
    {
      name: 'what the kernel does not count is read',
      sockstat: EMPTY.replace('UDPLITE: inuse 0\n', ''),
      sockstat6: EMPTY6,
      expected: ['udplite'],
    },
    {
      name: 'all of IPv6 is read when its counters are unreadable',
      sockstat: EMPTY,
      sockstat6: '',
      expected: ['tcp6', 'udp6', 'udplite6', 'raw6'],
    },
    { name: 'everything is read without counters', sockstat: null, sockstat6: null, expected: [...TABLES] },
  ])('$name', ({ sockstat, sockstat6, expected }) => {
    expect(read(sockstat, sockstat6)).toEqual(expected);
  });

  test('no table of the recorded namespace that has rows is left out', () => {
    const counters = parseSockstat(recorded('sockstat'), recorded('sockstat6'));
    const withRows = TABLES.filter((table) => recorded(table).trimEnd().split('\n').length > 1);
    expect(withRows.length).toBeGreaterThan(0);
    for (const table of withRows) expect(mayHoldRows(counters, table)).toBe(true);
  });
});

test('counts are equal only if both are known and every table has the same number', () => {
  const counts = (tcp: number, timeWait: number): SocketCounts => ({ inuse: { tcp }, timeWait });
  const pairs = [
    [counts(1, 2), counts(1, 2), true],
    [counts(1, 2), counts(2, 2), false],
    [counts(1, 2), counts(1, 3), false],
    [counts(1, 2), { inuse: { tcp: 1, udplite: 0 }, timeWait: 2 }, false],
    [null, null, false],
    [counts(1, 2), null, false],
  ] as const;
  for (const [one, other, expected] of pairs) {
    expect(equalCounts(one, other)).toBe(expected);
    expect(equalCounts(other, one)).toBe(expected);
  }
});
