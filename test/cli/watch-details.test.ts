import { expect, it } from 'vitest';
import { detailLines } from '../../src/cli/watch-details.ts';

it.each<[what: string, object: object, width: number, lines: string[]]>([
  ['aligns values', { pid: 7, local_port: 22 }, 80, ['pid         7', 'local port  22']],
  ['leaves out what is unknown', { pid: null, process: '', pids: [], exe: undefined }, 80, []],
  ['keeps zero and false', { pid: 0, exe_deleted: false }, 80, ['pid          0', 'exe deleted  false']],
  ['joins simple lists', { parents: ['sh', 'init'] }, 80, ['parents  sh, init']],
  ['opens objects', { states: { listen: 2 } }, 80, ['states listen  2']],
  ['numbers lists of objects', { owners: [{ pid: 1 }, null, { pid: 2 }] }, 80, ['owners 1 pid  1', 'owners 3 pid  2']],
  ['replaces control characters', { cmdline: 'a\x1b[2Jb' }, 80, ['cmdline  a\ufffd[2Jb']],
  ['wraps', { cmdline: 'one two three four five six' }, 30, ['cmdline  one two three four', '         five six']],
  ['puts values below names if narrow', { cmdline: 'one two' }, 10, ['cmdline', '    one', '    two']],
  ['of nothing is nothing', {}, 80, []],
])('%s', (_what, object, width, lines) => {
  expect(detailLines(object, width)).toEqual(lines);
});
