import { expect, it } from 'vitest';
import { ObjectChanges } from '../../src/cli/object-changes.ts';

const AT = Date.parse('2026-09-15T08:00:00Z');
const row = (port: number, fields: object = {}): object => ({
  ...{ transport: 'tcp', local_address: '192.0.2.5', local_port: port, remote_address: '192.0.2.6', remote_port: 443 },
  ...fields,
});

it.each<[what: string, scans: (readonly object[])[], changes: object[]]>([
  ['everything at first', [[row(1), row(2)]], [row(1), row(2)]],
  ['nothing', [[row(1)], [row(1)]], []],
  ['a new row', [[row(1)], [row(1), row(2)]], [row(2)]],
  ['a changed row', [[row(1)], [row(1, { sent_bytes: 9 })]], [row(1, { sent_bytes: 9 })]],
  ['a row that is gone', [[row(1), row(2)], [row(2)]], [{ gone: true, ...row(1) }]],
  ['a row that lost its inode', [[row(1, { inode: 5 })], [row(1, { inode: null })]], [row(1, { inode: null })]],
  ['one of two equal rows that is gone', [[row(1), row(1)], [row(1)]], [{ gone: true, ...row(1) }]],
  [
    'a group',
    [[{ process: 'a', connections: 1 }], [{ process: 'a', connections: 2 }]],
    [{ process: 'a', connections: 2 }],
  ],
])('prints %s', (_what, scans, changes) => {
  const printer = new ObjectChanges();
  const text = scans.map((objects) => printer.text(objects, AT)).at(-1) ?? '';
  const lines = text.split('\n').slice(0, -1);
  expect(lines.map((line) => JSON.parse(line) as object)).toEqual(
    changes.map((change) => ({ at: '2026-09-15T08:00:00.000Z', ...change })),
  );
});
