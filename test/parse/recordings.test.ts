import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { decodeText } from '../../src/parse/line-splitter.ts';
import { parseText, type Parsed } from '../../src/parse/text-reader.ts';

const TEXTS = join(import.meta.dirname, '..', 'fixtures', 'text');
const parsed = (file: string): Parsed => parseText(decodeText(readFileSync(join(TEXTS, file))));
const without = (rows: readonly Row[], keys: readonly (keyof Row)[]): unknown[] =>
  rows.map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => !keys.some((one) => one === key))));

/** What -e, -i and -o add. */
const DETAILS: readonly (keyof Row)[] = [
  ...(['uid', 'inode', 'cgroup', 'timer', 'timer_seconds', 'timer_retransmits'] as const),
  ...(['sent_bytes', 'received_bytes', 'acknowledged_bytes', 'retransmitted_bytes', 'retransmits'] as const),
  ...(['round_trip_seconds', 'min_round_trip_seconds', 'congestion_control', 'congestion_window'] as const),
];

describe('netstat in another language', () => {
  it.each(globSync('languages/*.out', { cwd: TEXTS }).sort())('%s has the rows of the C locale', (file) => {
    const { rows, malformed } = parsed(file);
    const [, options = ''] = /-(\w+)\.out$/.exec(file) ?? [];
    expect(malformed).toEqual([]);
    expect(rows).toHaveLength(21);
    // The recordings were made one after the other. A name in another encoding than UTF-8 is unknown.
    const expected = parsed(`languages/C-${options}.out`).rows;
    const other: (keyof Row)[] = file.includes('EUC-JP') ? ['timer_seconds', 'timer'] : ['timer_seconds'];
    expect(without(rows, other)).toEqual(without(expected, other));
  });

  it('has the owner, user and inode', () => {
    const row = parsed('languages/cs_CZ-tunwaeepoW.out').rows[0];
    expect(row).toMatchObject({ state: 'listen', uid: 0, inode: 1_291_093, pid: 16_536, process: 'python3' });
  });
});

describe('ss with other options', () => {
  const { rows: all } = parsed('ss/tunwap.out');
  it.each<[file: string, rows: readonly Row[]]>([
    ['tunwapH', all],
    ['tunwape', all],
    ['tunwapo', all],
    ['tunwapT', all],
    ['tunwapeoim', all],
    ['tunwapOeoim', all],
    ['tapi', all.filter(({ transport }) => transport === 'tcp')],
    ['lntp', all.filter(({ state }) => state === 'listen')],
    ['4tunap', all.filter(({ family, transport }) => family === 4 && transport !== 'raw')],
    ['6tunap', all.filter(({ family, transport }) => family === 6 && transport !== 'raw')],
  ])('has the same rows with -%s', (options, expected) => {
    const { rows, malformed } = parsed(`ss/${options}.out`);
    expect(malformed).toEqual([]);
    expect(without(rows, DETAILS)).toEqual(without(expected, DETAILS));
  });
});

describe('lsof', () => {
  const brief = ({ transport, family, local_address, local_port, ...row }: Row): unknown => [
    [transport, family, local_address, local_port, row.remote_address, row.remote_port],
    [row.state, row.pid, row.process],
  ];
  const sorted = (rows: readonly Row[]): unknown[] => rows.map((row) => JSON.stringify(brief(row))).sort();

  it.each(['i', 'F', 'F0', 'FpcLfPtnT'])('-%s has the sockets of ss that a process holds', (options) => {
    const { rows, malformed, dialect } = parsed(`lsof/${options}.out`);
    const held = parsed('ss/tunwap.out').rows.filter(({ pid, transport }) => pid !== null && transport !== 'raw');
    expect(dialect).toBe('lsof');
    expect(malformed).toEqual([]);
    expect(sorted(rows.filter(({ transport }) => transport !== 'udplite'))).toEqual(sorted(held));
  });
});
