import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RulesFile } from '../../src/config/rules-file.ts';
import { ManualTime } from '../support/manual-time.ts';

const POLL_MS = 1_000;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-rules-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const rules = (name: string): string => `networks: [{ name: ${name}, cidrs: [192.0.2.0/24] }]\n`;

/** A watched file, and what each change led to: the name of its network, or why it stays as it was. */
class Watched {
  readonly found: string[] = [];
  readonly #time = new ManualTime();
  readonly #file: RulesFile;

  constructor(path: string) {
    const file = (this.#file = new RulesFile(path, this.#time));
    file.watch(() => this.found.push(file.reload() ?? file.current.networks[0]?.name ?? 'no rules'));
  }

  /** Lets this many polls happen, if the file is watched. */
  async poll(times: number): Promise<void> {
    for (let i = 0; i < times && this.#time.waits.length > 0; i++) {
      this.#time.pass(POLL_MS);
      while (this.#time.waits.length === 0) await nextTurn();
    }
  }

  get isWatched(): boolean {
    return this.#time.waits.length > 0;
  }

  close(): void {
    this.#file.close();
  }
}

/** A folder as the kubelet makes it for a ConfigMap: peerscope.yaml -> ..data/peerscope.yaml, and ..data -> ..VERSION. */
function publish(version: string, text: string): void {
  mkdirSync(join(folder, `..${version}`));
  const file = join(folder, `..${version}`, 'peerscope.yaml');
  writeFileSync(file, text);
  utimesSync(file, 0, 0);
  symlinkSync(`..${version}`, join(folder, '..data_tmp'));
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
}

const path = (): string => join(folder, 'peerscope.yaml');
const write = (text: string) => (): void => writeFileSync(path(), text);

test.each<{ title: string; change: () => void; expected: readonly (string | RegExp)[] }>([
  { title: 'no change', change: () => undefined, expected: [] },
  { title: 'another text', change: write(rules('after')), expected: ['after'] },
  { title: 'a text of the same length', change: write(rules('later_')), expected: ['later_'] },
  { title: 'an empty file', change: write(''), expected: ['no rules'] },
  {
    title: 'a file that replaces the first',
    change: () => {
      writeFileSync(`${path()}.new`, rules('after'));
      renameSync(`${path()}.new`, path());
    },
    expected: ['after'],
  },
  {
    title: 'an invalid text',
    change: write('networks: wrong\n'),
    expected: [/^Cannot read configuration ".*": networks/],
  },
  { title: 'a removed file', change: () => rmSync(path()), expected: [/no such file or directory/] },
  {
    title: 'a link to another file',
    change: () => {
      writeFileSync(join(folder, 'other.yaml'), rules('linked'));
      rmSync(path());
      symlinkSync('other.yaml', path());
    },
    expected: ['linked'],
  },
  {
    title: 'a pipe, which is not read',
    change: () => {
      rmSync(path());
      execFileSync('mkfifo', [path()]);
    },
    expected: [],
  },
])('$title leads to $expected, once', async ({ change, expected }) => {
  writeFileSync(path(), rules('before'));
  const watched = new Watched(path());
  await watched.poll(2);
  change();
  await watched.poll(6);
  expect(watched.found).toEqual(
    expected.map((one): unknown => (typeof one === 'string' ? one : expect.stringMatching(one))),
  );
  watched.close();
  expect(watched.isWatched).toBe(false);
});

test('an update of a ConfigMap is found, whatever the times of its files', async () => {
  publish('1', rules('first'));
  symlinkSync('..data/peerscope.yaml', path());
  const watched = new Watched(path());
  publish('2', rules('second'));
  await watched.poll(2);
  publish('3', rules('third'));
  await watched.poll(2);
  expect(watched.found).toEqual(['second', 'third']);
  watched.close();
});

test('a file that is being written is read once it rests', async () => {
  writeFileSync(path(), rules('before'));
  const watched = new Watched(path());
  for (const text of ['', 'networks: [{', rules('after')]) {
    writeFileSync(path(), text);
    await watched.poll(1);
    expect(watched.found).toEqual([]);
  }
  await watched.poll(1);
  expect(watched.found).toEqual(['after']);
  watched.close();
});

test('a list of suspects that changes, or is there at last, is read with the file', async () => {
  const list = join(folder, 'list.txt');
  const named = (name: string): string => `${rules(name)}suspects: [list.txt]\n`;
  writeFileSync(path(), rules('before'));
  const watched = new Watched(path());
  writeFileSync(path(), named('with-list'));
  await watched.poll(3);
  expect(watched.found).toEqual([expect.stringMatching(/"list.txt": no such file or directory$/)]);
  writeFileSync(list, 'AS64500\n');
  await watched.poll(3);
  writeFileSync(list, 'wrong\n');
  await watched.poll(3);
  writeFileSync(list, 'AS64501\n');
  await watched.poll(6);
  expect(watched.found.slice(1)).toEqual(['with-list', expect.stringMatching(/not an AS number$/), 'with-list']);
  watched.close();
});

test('a file that is valid again is read', async () => {
  writeFileSync(path(), rules('before'));
  const watched = new Watched(path());
  writeFileSync(path(), 'wrong: 1\n');
  await watched.poll(2);
  writeFileSync(path(), rules('before'));
  await watched.poll(2);
  expect(watched.found).toEqual([expect.stringContaining('unknown key'), 'before']);
  watched.close();
});

test('a device is not watched', () => {
  expect(new Watched('/dev/null').isWatched).toBe(false);
});
