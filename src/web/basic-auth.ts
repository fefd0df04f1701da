import { isUtf8 } from 'node:buffer';
import { createHmac, randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { TurnQueue } from '../common/turn-queue.ts';
import { Bcrypt } from './bcrypt.ts';
import { clientOf } from './limits.ts';
import { answer, type Middleware } from './middleware.ts';

/** The result of a check; `busy` when too many passwords are being checked. */
export type Verdict = 'granted' | 'denied' | 'busy';

/** How many checks may wait: as many as there can be clients, so that no waiting client is rejected. */
const MAX_QUEUED = 512;
/** Kept apart, so that denied passwords of an attack do not push out granted ones. */
const MAX_GRANTED = 100;
const MAX_DENIED = 1_000;
/** The delay of each answer to a wrong password: without it, thirty clients that guess passwords starve the main thread. */
const DENIAL_MS = 200;

/** Who asks for a check. */
export interface Asker {
  /** The clients take turns. */
  readonly client: string;
  readonly isGone: () => boolean;
}

interface Check extends Asker {
  /** Compares the password, or rejects the check with `busy`. */
  readonly start: () => Promise<void>;
  readonly drop: () => void;
}

/**
 * Checks passwords against bcrypt hashes, one at a time and each once: verdicts are cached under a keyed digest.
 * Unknown users take as long as known ones.
 *
 * Guesses of others delay a check and never prevent it. Clients take turns. A check continues when its client has gone, so a scraper
 * whose time runs out is let in at a later scrape. Only with 512 waiting, the newest of those without a client are dropped. Every other turn
 * is for passwords that were sent more than once: a scraper sends the same one at each scrape, while each guess is another one.
 */
export class Passwords {
  readonly #compare: (password: string, hash: string) => Promise<boolean>;
  readonly #key = randomBytes(32);
  readonly #granted = new Set<string>();
  readonly #denied = new Set<string>();
  readonly #pending = new Map<string, { readonly verdict: Promise<Verdict>; readonly check: Check }>();
  readonly #turns = new TurnQueue<Check>(MAX_QUEUED);
  /** Those in `#turns` that were asked for more than once. */
  readonly #repeated = new TurnQueue<Check>(MAX_QUEUED);
  #isComparing = false;

  constructor(compare: (password: string, hash: string) => Promise<boolean>) {
    this.#compare = compare;
  }

  /** Checks the Authorization header of a request against the bcrypt hashes of users. Rejects when the comparison failed. */
  async check(
    users: ReadonlyMap<string, string>,
    authorization: string | undefined,
    asker: Asker = { client: '', isGone: () => false },
  ): Promise<Verdict> {
    const credentials = parseCredentials(authorization);
    if (!credentials) return 'denied';
    const { user, password } = credentials;
    const hash = users.get(user);
    const digest = this.#digest(JSON.stringify([user, hash ?? null, password]));
    if (this.#granted.has(digest)) return 'granted';
    if (this.#denied.has(digest)) return 'denied';
    const pending = this.#pending.get(digest);
    if (pending) {
      if (this.#turns.has(pending.check)) this.#repeated.add(asker.client, pending.check);
      return pending.verdict;
    }
    const { promise: verdict, resolve, reject } = Promise.withResolvers<Verdict>();
    const start = async (): Promise<void> => {
      try {
        const isMatch = await this.#compare(password, hash ?? this.#decoyHash(users, user));
        const isGranted = isMatch && hash !== undefined;
        if (isGranted) remember(this.#granted, digest, MAX_GRANTED);
        else remember(this.#denied, digest, MAX_DENIED);
        resolve(isGranted ? 'granted' : 'denied');
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const check = { ...asker, start, drop: () => resolve('busy') };
    this.#pending.set(digest, { verdict, check });
    this.#enqueue(check);
    try {
      return await verdict;
    } finally {
      this.#pending.delete(digest);
    }
  }

  #enqueue(check: Check): void {
    if (this.#turns.size >= MAX_QUEUED) {
      const gone = this.#turns.newestOf(check.client).find(({ isGone }) => isGone());
      if (gone) this.#drop(gone);
    }
    const lost = this.#turns.add(check.client, check);
    if (lost) this.#drop(lost);
    if (!this.#isComparing) void this.#compareAll();
  }

  async #compareAll(): Promise<void> {
    this.#isComparing = true;
    for (let isOdd = true; this.#turns.size > 0; isOdd = !isOdd) {
      const check = (isOdd ? this.#repeated.next() : undefined) ?? this.#turns.next();
      if (!check) break;
      this.#turns.delete(check);
      this.#repeated.delete(check);
      await check.start();
    }
    this.#isComparing = false;
  }

  #drop(check: Check): void {
    this.#turns.delete(check);
    this.#repeated.delete(check);
    check.drop();
  }

  /** The hash to compare an unknown user with: one of the real ones, always the same, so that timing does not reveal the user. */
  #decoyHash(users: ReadonlyMap<string, string>, user: string): string {
    const hashes = [...users.values()];
    const choice = parseInt(this.#digest(user).slice(0, 8), 16) % hashes.length;
    return hashes[choice] ?? '';
  }

  #digest(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('hex');
  }
}

/** HTTP basic authentication; without configured users every request passes. */
export class BasicAuth {
  readonly #bcrypt = new Bcrypt();
  readonly #passwords = new Passwords((password, hash) => this.#bcrypt.compare({ password, hash }));

  middleware(users: () => ReadonlyMap<string, string>): Middleware {
    return async (request, response, next) => {
      const known = users();
      const { socket, headers } = request;
      const asker = { client: clientOf(socket), isGone: () => socket.destroyed };
      const verdict = known.size === 0 ? 'granted' : await this.#passwords.check(known, headers.authorization, asker);
      if (verdict === 'granted') next();
      else if (request.headers.authorization === undefined) deny(verdict, response);
      else setTimeout(deny, DENIAL_MS, verdict, response);
    };
  }

  async close(): Promise<void> {
    await this.#bcrypt.close();
  }
}

function deny(verdict: 'denied' | 'busy', response: ServerResponse): void {
  if (verdict === 'busy') answer(response, 503, 'Too many passwords are being checked.', { 'Retry-After': '1' });
  else answer(response, 401, 'Unauthorized.', { 'WWW-Authenticate': 'Basic realm="peerscope", charset="UTF-8"' });
}

function remember(verdicts: Set<string>, digest: string, limit: number): void {
  verdicts.add(digest);
  const [oldest] = verdicts;
  if (verdicts.size > limit && oldest !== undefined) verdicts.delete(oldest);
}

/** https://www.rfc-editor.org/rfc/rfc7617#section-2 */
export function parseCredentials(authorization: string | undefined): { user: string; password: string } | undefined {
  const [, encoded] = /^basic +([\w+/-]+=*) *$/i.exec(authorization ?? '') ?? [];
  const bytes = Buffer.from(encoded ?? '', 'base64');
  // Different invalid byte sequences would decode to the same password.
  if (!isUtf8(bytes)) return undefined;
  const [, user, password] = /^([^:]*):(.*)$/s.exec(bytes.toString('utf8')) ?? [];
  return user === undefined || password === undefined ? undefined : { user, password };
}
