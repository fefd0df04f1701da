import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  listenerWhat,
  operatorWhat,
  parseExpectations,
  parseSuspects,
  parseWhat,
  portWhat,
  withoutRelease,
} from '../../../src/unusual/grammar/what.ts';

describe('an expected value', () => {
  test.each([
    ['AS64500', 'AS64500'],
    ['as64500', 'AS64500'],
    ['AS14618', 'AS16509'],
    ['tcp/5432', 'tcp/5432'],
    ['tcp/40000', 'tcp/ephemeral'],
    ['udp/ephemeral', 'udp/ephemeral'],
    ['shop/ledger', 'shop/ledger'],
    ['process/nc', 'process/nc'],
    ['process/app-1.4.2.jar', 'process/app.jar'],
    ['process/memfd:x', 'process/memfd:x'],
    ['listen/tcp/8080', 'listen/tcp/8080'],
    ['listen/udp/ephemeral', 'listen/udp/ephemeral'],
    ['192.0.2.7', '192.0.2.7'],
    ['2001:DB8::1', '2001:db8::1'],
    ['fan_out/peers', 'fan_out/peers'],
    ['volume/AS14618', 'volume/AS16509'],
    ['volume/public', 'volume/public'],
  ])('%s is %s', (text, value) => {
    expect(parseWhat(text)).toBe(value);
    expect(parseWhat(value)).toBe(value);
  });

  test.each([
    ['metadata', 'calls to the metadata service are always reported'],
    ['shop/*', 'wildcards are not allowed'],
    ['tcp/?', 'wildcards are not allowed'],
    ['AS0', 'not an AS number'],
    ['AS4294967296', 'not an AS number'],
    ['tcp/0', 'must be like tcp/5432 or tcp/ephemeral'],
    ['tcp/65536', 'must be like tcp/5432 or tcp/ephemeral'],
    ['tcp/http', 'must be like tcp/5432 or tcp/ephemeral'],
    ['listen/8080', 'must be like listen/tcp/8080'],
    ['process/', 'must be like process/nc'],
    ['volume/shop', 'must be like volume/AS64500'],
    ['ledger', 'must be like AS64500, tcp/5432, shop/ledger, process/nc or listen/udp/ephemeral'],
    ['process/\u001b[2J', 'no value has control characters'],
    ['shop/\u202eledger', 'no value has control characters'],
    ['a/b/c', 'must be like AS64500, tcp/5432, shop/ledger, process/nc or listen/udp/ephemeral'],
  ])('%j is refused', (text, reason) => {
    expect(parseWhat(text)).toEqual({ problem: `Cannot read expected value "${text}": ${reason}` });
  });

  test('is one of a list, and one that is not valid does not spoil the others', () => {
    const { values, problems } = parseExpectations(' AS64500, tcp/5432,,shop/* ');
    expect([...values]).toEqual(['AS64500', 'tcp/5432']);
    expect(problems).toEqual(['Cannot read expected value "shop/*": wildcards are not allowed']);
  });

  test('accepts what is published, for each operator, port and listener', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 32 - 1 }),
        fc.integer({ min: 1, max: 65_535 }),
        fc.constantFrom('tcp', 'udp', 'udplite'),
        (asn, port, transport) => {
          for (const what of [operatorWhat(asn), portWhat(transport, port), listenerWhat(transport, port)])
            expect(parseWhat(what)).toBe(what);
        },
      ),
    );
  });
});

test.each([
  ['app-1.4.2.jar', 'app.jar'],
  ['app-1.4.3-SNAPSHOT.jar', 'app.jar'],
  ['app-2.0.0-rc1.jar', 'app.jar'],
  ['app_v12.py', 'app.py'],
  ['python3.12', 'python'],
  ['python3', 'python'],
  ['python', 'python'],
  ['php-fpm8.2', 'php-fpm'],
  ['java-17', 'java'],
  ['node', 'node'],
  ['server-20260901', 'server'],
  ['api-3f9c2ab', 'api'],
  ['com.example.Main', 'com.example.Main'],
  ['k3s', 'k3s'],
  ['bzip2', 'bzip2'],
  ['x11vnc', 'x11vnc'],
  ['worker-15-3f9c2ab', 'worker'],
  ['job-2-SNAPSHOT', 'job'],
  ['decade', 'decade'],
  ['1.2.3', '1.2.3'],
  ['', ''],
])('a process %s is %s in every release', (name, expected) => {
  expect(withoutRelease(name)).toBe(expected);
});

test('a name without its release is never empty, and stays the same', () => {
  const part = fc.constantFrom('app', '-1', '.2', '-v3', '_3f9c2ab', '-snapshot', '.jar', '-rc1', 'python', '3', '@7');
  const text = fc.string({ minLength: 1, maxLength: 128 });
  fc.assert(
    fc.property(
      fc.oneof(
        text,
        fc.array(part, { minLength: 1 }).map((parts) => parts.join('')),
      ),
      (name) => {
        const shorter = withoutRelease(name);
        expect(shorter).not.toBe('');
        expect(withoutRelease(shorter)).toBe(shorter);
      },
    ),
  );
});

describe('a list of suspect operators', () => {
  test.each([
    ['AS64500\n64501 # a comment\r\n; only a comment\n\nas64502 ; EXAMPLE', ['AS64500', 'AS64501', 'AS64502']],
    ['{"asn":64500,"rir":"ripencc","domain":"example.org"}\n{"type":"metadata","timestamp":1}', ['AS64500']],
    ['', []],
  ])('%j', (text, operators) => {
    expect(parseSuspects(text)).toEqual({ operators: new Set(operators), problems: [] });
  });

  test('names the lines that are no AS number', () => {
    expect(parseSuspects('AS64500\n192.0.2.1\nAS4294967296')).toEqual({
      operators: new Set(['AS64500']),
      problems: [
        'Cannot read suspect operator "192.0.2.1" in line 2: not an AS number',
        'Cannot read suspect operator "AS4294967296" in line 3: not an AS number',
      ],
    });
  });
});
