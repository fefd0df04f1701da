import { readFileSync, statSync } from 'node:fs';
import { cleanLabel } from './sanitize.ts';

/** Returns the name of a user by number, or null. */
export type UserNames = (uid: number) => string | null;

/** A longer user database is not read. */
const MAX_BYTES = 4 << 20;

/** Parses a user database (passwd(5)): "name:password:uid:…". The first name of a user wins. Invalid lines are skipped. */
export function parsePasswd(text: string): UserNames {
  const names = new Map<number, string>();
  for (const [, name = '', uid = ''] of text.matchAll(/^([^:\n#+-][^:\n]*):[^:\n]*:(\d{1,10}):/gm))
    if (!names.has(Number(uid))) names.set(Number(uid), cleanLabel(name));
  return (uid) => names.get(uid) ?? null;
}

/** Reads the user database of this host. If there is none, no user has a name. */
export function readPasswd(file = '/etc/passwd'): UserNames {
  try {
    return statSync(file).size > MAX_BYTES ? () => null : parsePasswd(readFileSync(file, 'utf8'));
  } catch {
    return () => null;
  }
}
