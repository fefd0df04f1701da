import { describe, expect, it } from 'vitest';
import { parseOrder } from '../../../src/cli/terminal/sort.ts';
import type { Row } from '../../../src/model.ts';

const row = (values: Partial<Row>): Row => values as Row;
const sorted = (text: string, key: keyof Row, values: readonly unknown[]): unknown[] =>
  values
    .map((value) => row({ [key]: value }))
    .sort(parseOrder(text))
    .map((one) => one[key]);

describe('the sort order', () => {
  it.each<[text: string, key: keyof Row, values: unknown[], expected: unknown[]]>([
    ['remote_port', 'remote_port', [443, 22, null, 9], [9, 22, 443, null]],
    ['remote_port:desc', 'remote_port', [443, 22, null, 9], [443, 22, 9, null]],
    [
      'remote_address',
      'remote_address',
      ['10.0.0.10', '9.9.9.9', '2001:db8::1', null],
      ['9.9.9.9', '10.0.0.10', '2001:db8::1', null],
    ],
    ['recv-q', 'receive_queue', [3, 1, 2], [1, 2, 3]],
    ['Local', 'local_address', ['10.0.0.10', '9.9.9.9'], ['9.9.9.9', '10.0.0.10']],
    ['PEER', 'as_name', ['b', null, 'a'], ['a', 'b', null]],
    ['process', 'process', ['b', null, 'a', 'B'], ['B', 'a', 'b', null]],
    ['pids', 'pids', [[10], [], [9, 11], [9]], [[], [9], [9, 11], [10]]],
  ])('%s', (text, key, values, expected) => expect(sorted(text, key, values)).toEqual(expected));

  it('by two fields compares the first before the second', () => {
    const rows = [row({ process: 'b', pid: 1 }), row({ process: 'a', pid: 1 }), row({ process: 'a', pid: 2 })];
    expect(rows.sort(parseOrder('process, pid:desc')).map(({ process, pid }) => `${process} ${pid}`)).toEqual([
      'a 2',
      'a 1',
      'b 1',
    ]);
  });

  it.each(['', 'nonsense', 'pid:up', 'pid,,state', 'pid:desc:asc'])('rejects %j', (text) =>
    expect(() => parseOrder(text)).toThrow(
      /^Cannot use --sort ".*": ".*" must be a heading of the table or one of transport, .*, optionally followed by :desc$/,
    ),
  );
});
