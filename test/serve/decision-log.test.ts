import { expect, test } from 'vitest';
import { DecisionLog } from '../../src/serve/decision-log.ts';
import { encodeDecision } from '../../src/unusual/records.ts';

const OWNER = { namespace: 'shop', workload: 'web' };
const START = Date.parse('2026-11-30T20:00:00Z');

test('logs each decision since the start once, with who, when and why', () => {
  const lines: unknown[] = [];
  const log = new DecisionLog({ info: (...line: unknown[]) => void lines.push(line) }, START);
  const record = (at: number, isAccepted: boolean, why = ''): { key: string; text: string } =>
    encodeDecision(OWNER, 'AS64501', { isAccepted, at, by: 'alice@host', why });
  log.accept([record(START - 1, true), record(START, true, 'we moved'), { key: 'workload:1:[]', text: '{}' }]);
  log.accept([record(START, true, 'we moved'), record(START + 1000, false)]);
  const fields = { ...OWNER, what: 'AS64501', by: 'alice@host' };
  expect(lines).toEqual([
    [{ ...fields, at: '2026-11-30T20:00:00.000Z', why: 'we moved' }, 'declared normal'],
    [{ ...fields, at: '2026-11-30T20:00:01.000Z' }, 'declared not normal'],
  ]);
});

test.each(['1e300', '1e16', '-1', 'null', '"x"'])('ignores a decision of the store at %s', (at) => {
  const lines: unknown[] = [];
  const log = new DecisionLog({ info: (...line: unknown[]) => void lines.push(line) }, START);
  log.accept([{ key: 'decision:1:["shop","web","AS64501"]', text: `[true,${at},"alice"]` }]);
  expect(lines).toEqual([]);
});
