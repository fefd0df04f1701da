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

  it('are compared one at a time, equal ones together', async () => {
    const { passwords, compared, finish } = start();
    const check = (password: string): Promise<Verdict> => passwords.check(USERS, basic(`alice:${password}`));
    const all = [check('secret'), check('secret'), ...Array.from({ length: 8 }, (_, i) => check(`wrong ${i}`))];
    await turn();
    expect(compared).toEqual(['secret with hash of secret']);
    for (let i = 0; i < 9; i++) {
      finish();
      await turn();
    }
    expect(await Promise.all(all)).toEqual(['granted', 'granted', ...Array<Verdict>(8).fill('denied')]);
    expect(compared).toHaveLength(9);
  });

  /** Guesses of the client 10.0.0.1, which waits for its answers or not. */
  const guess = (passwords: Passwords, count: number, isGone: () => boolean): Promise<Verdict>[] =>
    Array.from({ length: count }, (_, i) =>
      passwords.check(USERS, basic(`alice:guess ${i}`), { client: '10.0.0.1', isGone }),
    );

  it.each<{ title: string; client: string; guesses: number; isGone: boolean; turns: number }>([
    { title: 'of another client', client: '10.0.0.2', guesses: 500, isGone: false, turns: 3 },
    {
      title: 'of another client, although the queue is full',
      client: '10.0.0.2',
      guesses: 600,
      isGone: false,
      turns: 3,
    },
    { title: 'of the same client, sent again,', client: '10.0.0.1', guesses: 500, isGone: false, turns: 3 },
    {
      title: 'of the same client, among thousands that it left',
      client: '10.0.0.1',
      guesses: 5_000,
      isGone: true,
      turns: 513,
    },
  ])('$title are compared in turn while others are guessed', async ({ client, guesses, isGone, turns }) => {
    const { passwords, compared, finish } = start();
    void guess(passwords, guesses, () => isGone);
    // The time of this scraper runs out: its next scrape finds the verdict.
    void passwords.check(USERS, basic('alice:secret'), { client, isGone: () => true });
    void guess(passwords, isGone ? 1_000 : 0, () => true);
    const again = passwords.check(USERS, basic('alice:secret'), { client, isGone: () => false });
    await turn();
    for (let i = 0; i < turns; i++) {
      finish();
      await turn();
    }
    expect(await again).toBe('granted');
    expect(compared.indexOf('secret with hash of secret')).toBe(turns - 1);
  });

  it('of more clients than can wait are answered with busy', async () => {
    const { passwords, finish } = start();
    const verdicts = guess(passwords, 600, () => false);
    await turn();
    for (let i = 0; i < 600; i++) {
      finish();
      await turn();
    }
    const found = await Promise.all(verdicts);
    expect(found.filter((verdict) => verdict === 'denied')).toHaveLength(513);
    expect(found.filter((verdict) => verdict === 'busy')).toHaveLength(87);
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
