import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLog, RepeatLimiter, type Log } from '../../src/common/log.ts';

const NEW_YEAR = Date.UTC(2026, 0, 1);

/** What a log in this format writes. */
function written(format: 'json' | 'text', act: (log: Log) => void): string {
  let text = '';
  const destination = { write: (line: string) => (text += line) };
  act(createLog({ level: 'info', format }, destination, () => NEW_YEAR));
  return text;
}

const start = (log: Log): void =>
  log.info(
    { address: '[::]:10043', path: '/srv/a b', query: 'a=1', empty: '', limit: 1000, tls: false, store: null },
    'listening',
  );

it('writes a line of JSON', () => {
  expect(written('json', start)).toBe(
    '{"level":"info","time":"2026-01-01T00:00:00.000Z","address":"[::]:10043","path":"/srv/a b","query":"a=1","empty":"",' +
      '"limit":1000,"tls":false,"store":null,"msg":"listening"}\n',
  );
});

it('writes a line of text and quotes values of several words', () => {
  expect(written('text', start)).toBe(
    '2026-01-01T00:00:00.000Z INFO  listening address=[::]:10043 path="/srv/a b" query="a=1" empty="" limit=1000 tls=false store=null\n',
  );
});

it('writes a message without fields and keeps percent signs', () => {
  const act = (log: Log): void => log.error('90 %s full');
  expect(written('text', act)).toBe('2026-01-01T00:00:00.000Z ERROR 90 %s full\n');
  expect(written('json', act)).toBe('{"level":"error","time":"2026-01-01T00:00:00.000Z","msg":"90 %s full"}\n');
});

it('writes nothing below its level', () => {
  expect(written('text', (log) => log.debug('a detail'))).toBe('');
});

describe('hostile text', () => {
  const name = 'a"\n2026 FATAL forged\u001b[2J\u009b2J\u2028\u202e\u007f';

  it('cannot start a line or move the cursor in text', () => {
    expect(written('text', (log) => log.warn({ name }, name))).toBe(
      '2026-01-01T00:00:00.000Z WARN  ' +
        'a"\\u000a2026 FATAL forged\\u001b[2J\\u009b2J\\u2028\\u202e\\u007f ' +
        'name="a\\"\\n2026 FATAL forged\\u001b[2J\\u009b2J\\u2028\\u202e\\u007f"\n',
    );
  });

  it('round-trips through JSON on one line without control characters', () => {
    const text = fc.oneof(
      fc.array(fc.nat(0xffff)).map((units) => String.fromCharCode(...units).toWellFormed()),
      fc.constant(name),
    );
    fc.assert(
      fc.property(text, text, (value, message) => {
        const json = written('json', (log) => log.warn({ value }, message));
        expect(JSON.parse(json)).toMatchObject({ value, msg: message });
        for (const line of [json, written('text', (log) => log.warn({ value }, message))]) {
          expect(line).toMatch(/^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]*\n$/u);
        }
      }),
    );
  });
});

describe('a repeated failure', () => {
  it('is logged at once, then once a minute with a count', () => {
    let now = 5_000;
    const text = written('text', (log) => {
      const failures = new RepeatLimiter(log, () => now);
      for (const at of [5_000, 5_001, 64_999, 65_000, 65_001, 125_000, 400_000]) {
        now = at;
        failures.warn('store', { at }, 'cannot store');
      }
    });
    expect(text.split('\n').map((line) => line.slice(25))).toEqual([
      'WARN  cannot store at=5000',
      'WARN  cannot store at=65000 repeated=3',
      'WARN  cannot store at=125000 repeated=2',
      'WARN  cannot store at=400000 repeated=1',
      '',
    ]);
  });

  it('logs its recovery once per logged failure', () => {
    let now = 0;
    const text = written('text', (log) => {
      const failures = new RepeatLimiter(log, () => now);
      failures.recovered('store', {}, 'never failed');
      for (const at of [1, 2, 3, 60_001]) {
        now = at;
        failures.warn('store', { at }, 'cannot store');
        for (const message of ['works again', 'works still']) failures.recovered('store', { at }, message);
      }
    });
    expect(text.split('\n').map((line) => line.slice(25))).toEqual([
      'WARN  cannot store at=1',
      'INFO  works again at=1',
      'WARN  cannot store at=60001 repeated=3',
      'INFO  works again at=60001',
      '',
    ]);
  });

  it('does not silence other failures', () => {
    const text = written('text', (log) => {
      const failures = new RepeatLimiter(log, () => 0);
      for (const key of ['store', 'whois', 'store']) failures.warn(key, {}, key);
    });
    expect(text.split('\n').map((line) => line.slice(25))).toEqual(['WARN  store', 'WARN  whois', '']);
  });
});
