import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePasswd, readPasswd } from '../../src/common/etc-passwd.ts';

describe('user names', () => {
  const names = parsePasswd(
    [
      'root:x:0:0:root:/root:/bin/bash',
      '# comment:x:1:1::/:/bin/sh',
      'alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash',
      'toor:x:0:0::/root:/bin/sh',
      '+nis:x:7:7::/:',
      'evil\u001b[2J:x:8:8::/:',
      'short:x:9',
      'word:x:nine:9::/:',
      ':x:10:10::/:',
    ].join('\n'),
  );

  test.each([
    [0, 'root'],
    [1, null],
    [7, null],
    [8, 'evil�[2J'],
    [9, null],
    [10, null],
    [1000, 'alice'],
    [4_294_967_294, null],
  ])('user %d is %j', (uid, name) => {
    expect(names(uid)).toBe(name);
  });

  test('any text parses', () => {
    fc.assert(fc.property(fc.string(), fc.nat(), (text, uid) => void parsePasswd(text)(uid)));
  });

  test('without a user database, no user has a name', () => {
    expect(readPasswd('/dev/null/passwd')(0)).toBeNull();
  });
});
