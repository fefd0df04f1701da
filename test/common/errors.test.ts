import { expect, it } from 'vitest';
import { reasonOf } from '../../src/common/errors.ts';

it.each([
  [Object.assign(new Error('ENOENT: no such file'), { errno: -2 }), 'no such file or directory'],
  [new AggregateError([Object.assign(new Error('connect'), { errno: -111 }), new Error('b')]), 'connection refused'],
  ['a text', 'a text'],
  [
    new Error(
      '401DAF3D647F0000:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:a.c:918:\n',
    ),
    'tlsv13 alert certificate required',
  ],
  [new Error('error:0480006C:PEM routines::no start line'), 'no start line'],
  [new Error('self-signed certificate in certificate chain'), 'self-signed certificate in certificate chain'],
])('gives the reason of %s in words', (error, reason) => {
  expect(reasonOf(error)).toBe(reason);
});
