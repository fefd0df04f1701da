import { afterAll, describe, expect, it, test } from 'vitest';
import { Bcrypt } from '../../src/web/bcrypt.ts';
import { parseCredentials, Passwords, type Verdict } from '../../src/web/basic-auth.ts';

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

describe('parseCredentials', () => {
  test.each([
    ['no header', undefined, undefined],
    ['another scheme', 'Bearer YTpi', undefined],
    ['nothing after the scheme', 'Basic ', undefined],
    ['invalid base64', 'Basic a:b', undefined],
    ['text without a colon', basic('alice'), undefined],
    ['a user and a password', basic('alice:secret'), { user: 'alice', password: 'secret' }],
    ['a scheme in capitals', basic('alice:secret').replace('Basic', 'BASIC'), { user: 'alice', password: 'secret' }],
    ['colons in the password', basic('alice:a:b:'), { user: 'alice', password: 'a:b:' }],
    ['a password in invalid UTF-8', `Basic ${Buffer.from('alice:\xe4', 'latin1').toString('base64')}`, undefined],
    ['no password', basic('alice:'), { user: 'alice', password: '' }],
    ['UTF-8 and line breaks', basic('müller:ä\nö'), { user: 'müller', password: 'ä\nö' }],
  ])('%s', (_, header, expected) => {
    expect(parseCredentials(header)).toEqual(expected);
  });
});

describe('the bcrypt thread', () => {
  const bcrypt = new Bcrypt();
  afterAll(() => bcrypt.close());

  // The hashes were made by crypt(3).
  const tail = 'abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';
  const umlauts = '$2y$05$abcdefghijklmnopqrstuuA6JBcgvy7g1EtRdiotxT9K.qEtj1kQS';
  it.each([
    [`$2a$04$${tail}`, 'correct horse', true],
    [`$2b$04$${tail}`, 'correct horse', true],
    [`$2y$04$${tail}`, 'correct horse', true],
    [`$2y$04$${tail}`, 'correct horse ', false],
    [umlauts, 'pässwörd:mit:Doppelpunkt', true],
    [umlauts, '', false],
  ])('compares %s with "%s"', async (hash, password, expected) => {
    expect(await bcrypt.compare({ password, hash })).toBe(expected);
  });

  it.each(['has ended', 'is ending'])('starts again when the previous thread %s', async (when) => {
    const comparison = { password: 'correct horse', hash: `$2y$04$${tail}` };
    await bcrypt.compare(comparison);
    const ended = bcrypt.close();
    if (when === 'has ended') await ended;
    expect(await bcrypt.compare(comparison)).toBe(true);
    await ended;
  });

  it('rejects the comparison during which it ends', async () => {
    const comparison = bcrypt.compare({ password: 'a', hash: `$2y$16$${tail}` });
    const rejected = expect(comparison).rejects.toThrow('the thread that compares passwords ended');
    await bcrypt.close();
    await rejected;
  });
});

describe('passwords', () => {
  const USERS = new Map([
    ['alice', 'hash of secret'],
    ['bob', 'hash of other'],
  ]);

  /** Comparisons that end at `finish`, and what was compared. */
  function start(): { passwords: Passwords; compared: string[]; finish: () => void } {
    const compared: string[] = [];
    const waiting: (() => void)[] = [];
    const passwords = new Passwords((password, hash) => {
      compared.push(`${password} with ${hash}`);
      return new Promise((resolve) => waiting.push(() => resolve(hash === `hash of ${password}`)));
    });
    return { passwords, compared, finish: () => waiting.shift()?.() };
  }

  /** The verdict after at most one comparison. */
  async function verdictOf(
    { passwords, finish }: ReturnType<typeof start>,
    credentials: string,
    users: ReadonlyMap<string, string> = USERS,
  ): Promise<Verdict> {
    const verdict = passwords.check(users, basic(credentials));
    await turn();
    finish();
    return verdict;
  }

  it('are compared once each, right or wrong', async () => {
    const run = start();
    for (let i = 0; i < 3; i++) {
      expect(await verdictOf(run, 'alice:secret')).toBe('granted');
      expect(await verdictOf(run, 'alice:other')).toBe('denied');
    }
    expect(run.compared).toEqual(['secret with hash of secret', 'other with hash of secret']);
  });

  it('of an unknown user are compared as often, and always denied', async () => {
    const run = start();
    expect(await verdictOf(run, 'eve:secret')).toBe('denied');
    expect(await verdictOf(run, 'eve:other')).toBe('denied');
    expect(await verdictOf(run, 'eve:other')).toBe('denied');
    expect(run.compared.map((text) => text.replace(/ with .*/, ''))).toEqual(['secret', 'other']);
    expect(new Set(run.compared.map((text) => text.replace(/.* with /, ''))).size).toBe(1);
  });

  it('are denied without a comparison when the header is missing', async () => {
    const { passwords, compared } = start();
    expect(await passwords.check(USERS, undefined)).toBe('denied');
    expect(compared).toEqual([]);
  });

  it('are cached for the hash that they were compared with', async () => {
    const run = start();
    expect(await verdictOf(run, 'alice:secret')).toBe('granted');
    expect(await verdictOf(run, 'alice:secret', new Map([['alice', 'hash of new']]))).toBe('denied');
    expect(await verdictOf(run, 'alice:secret', new Map([['bob', 'hash of secret']]))).toBe('denied');
    expect(await verdictOf(run, 'alice:secret')).toBe('granted');
    expect(run.compared).toHaveLength(3);
  });

  it('are compared one at a time, equal ones together, with at most nine in the queue', async () => {
    const { passwords, compared, finish } = start();
    const check = (password: string): Promise<Verdict> => passwords.check(USERS, basic(`alice:${password}`));
    const first = [check('secret'), check('secret'), ...Array.from({ length: 8 }, (_, i) => check(`wrong ${i}`))];
    await turn();
    expect(compared).toEqual(['secret with hash of secret']);
    expect(await Promise.all([check('wrong 8'), check('wrong 9')])).toEqual(['busy', 'busy']);
    for (let i = 0; i < 9; i++) {
      finish();
      await turn();
    }
    expect(await Promise.all(first)).toEqual(['granted', 'granted', ...Array<Verdict>(8).fill('denied')]);
    expect(compared).toHaveLength(9);
    expect(await verdictOf({ passwords, compared, finish }, 'alice:wrong 9')).toBe('denied');
  });

  it('that are right stay cached during thousands of wrong ones', async () => {
    const run = start();
    expect(await verdictOf(run, 'alice:secret')).toBe('granted');
    for (let i = 0; i < 3_000; i++) expect(await verdictOf(run, `alice:${i}`)).toBe('denied');
    const before = run.compared.length;
    expect(await verdictOf(run, 'alice:secret')).toBe('granted');
    expect(await verdictOf(run, 'alice:2999')).toBe('denied');
    expect(run.compared).toHaveLength(before);
    expect(await verdictOf(run, 'alice:0')).toBe('denied');
    expect(run.compared, 'the oldest was evicted').toHaveLength(before + 1);
  });

  it('that cannot be compared do not affect later ones', async () => {
    let fails = true;
    const passwords = new Passwords(() => (fails ? Promise.reject(new Error('no thread')) : Promise.resolve(true)));
    const failing = passwords.check(USERS, basic('alice:secret'));
    await expect(failing).rejects.toThrow('no thread');
    fails = false;
    expect(await passwords.check(USERS, basic('alice:secret'))).toBe('granted');
  });
});

/** Runs everything that is ready. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
