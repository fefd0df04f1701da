import { isUtf8 } from 'node:buffer';
import { createHmac, randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { Bcrypt } from './bcrypt.ts';
import { answer, type Gate } from './middleware.ts';

/** What became of a user and a password: `busy` where too many others are being looked at. */
export type Verdict = 'granted' | 'refused' | 'busy';

/** How many may wait for one that is being compared: at bcrypt's usual cost that is about a second. */
const LONGEST_QUEUE = 8;
/** Refused ones are many only under attack, and must not push granted ones out. */
const MOST_GRANTED = 100;
const MOST_REFUSED = 1_000;
/** Who guesses waits so long for each answer: at once, thirty of them keep the main thread from everybody else. */
const REFUSAL_MS = 200;

/**
 * Checks users and passwords against bcrypt's hashes, one at a time and each once: verdicts are remembered under a keyed digest.
 * Unknown users take as long as known ones.
 */
export class Passwords {
  readonly #compare: (password: string, hash: string) => Promise<boolean>;
  readonly #key = randomBytes(32);
  readonly #granted = new Set<string>();
  readonly #refused = new Set<string>();
  readonly #pending = new Map<string, Promise<Verdict>>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(compare: (password: string, hash: string) => Promise<boolean>) {
    this.#compare = compare;
  }

  /** What the header of a request is worth where these users have these hashes. Rejects where nothing could be compared. */
  async check(users: ReadonlyMap<string, string>, authorization: string | undefined): Promise<Verdict> {
    const given = parseCredentials(authorization);
    if (!given) return 'refused';
    const { user, password } = given;
    const hash = users.get(user);
    const digest = this.#digest(JSON.stringify([user, hash ?? null, password]));
    if (this.#granted.has(digest)) return 'granted';
    if (this.#refused.has(digest)) return 'refused';
    const pending = this.#pending.get(digest);
    if (pending) return pending;
    if (this.#pending.size > LONGEST_QUEUE) return 'busy';
    const verdict = this.#next(password, hash ?? this.#standIn(users, user)).then((isRight) => {
      const isGranted = isRight && hash !== undefined;
      if (isGranted) remember(this.#granted, digest, MOST_GRANTED);
      else remember(this.#refused, digest, MOST_REFUSED);
      return isGranted ? 'granted' : 'refused';
    });
    this.#pending.set(digest, verdict);
    try {
      return await verdict;
    } finally {
      this.#pending.delete(digest);
    }
  }

  #next(password: string, hash: string): Promise<boolean> {
    const result = this.#last.then(() => this.#compare(password, hash));
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** The hash that an unknown user is compared with: always the same one of the real ones, so that its cost says nothing. */
  #standIn(users: ReadonlyMap<string, string>, user: string): string {
    const hashes = [...users.values()];
    const choice = parseInt(this.#digest(user).slice(0, 8), 16) % hashes.length;
    return hashes[choice] ?? '';
  }

  #digest(text: string): string {
    return createHmac('sha256', this.#key).update(text).digest('hex');
  }
}

/** Lets in those whom the configuration knows; where it names no users, everybody. */
export class BasicAuth {
  readonly #bcrypt = new Bcrypt();
  readonly #passwords = new Passwords((password, hash) => this.#bcrypt.compare({ password, hash }));

  gate(users: () => ReadonlyMap<string, string>): Gate {
    return async (request, response, next) => {
      const known = users();
      const verdict = known.size === 0 ? 'granted' : await this.#passwords.check(known, request.headers.authorization);
      if (verdict === 'granted') next();
      else if (request.headers.authorization === undefined) refuse(verdict, response);
      else setTimeout(refuse, REFUSAL_MS, verdict, response);
    };
  }

  async close(): Promise<void> {
    await this.#bcrypt.close();
  }
}

function refuse(verdict: 'refused' | 'busy', response: ServerResponse): void {
  if (verdict === 'busy') answer(response, 503, 'Too many passwords are being checked.', { 'Retry-After': '1' });
  else answer(response, 401, 'Unauthorized.', { 'WWW-Authenticate': 'Basic realm="peerscope", charset="UTF-8"' });
}

function remember(verdicts: Set<string>, digest: string, most: number): void {
  verdicts.add(digest);
  const [oldest] = verdicts;
  if (verdicts.size > most && oldest !== undefined) verdicts.delete(oldest);
}

/** https://www.rfc-editor.org/rfc/rfc7617#section-2 */
export function parseCredentials(authorization: string | undefined): { user: string; password: string } | undefined {
  const [, encoded] = /^basic +([\w+/-]+=*) *$/i.exec(authorization ?? '') ?? [];
  const bytes = Buffer.from(encoded ?? '', 'base64');
  // Decoded, all that is no UTF-8 would be the same password.
  if (!isUtf8(bytes)) return undefined;
  const [, user, password] = /^([^:]*):(.*)$/s.exec(bytes.toString('utf8')) ?? [];
  return user === undefined || password === undefined ? undefined : { user, password };
}
