import { Commands, type Command } from './commands.ts';
import { Procfs } from './procfs.ts';

/** What a user may ask rows to come from; null leaves it to the platform: procfs on Linux, its own commands elsewhere. */
export type SourceName = 'procfs' | Command | null;

/** Opens where the rows come from. Throws an Error with one clear line when procfs cannot be read. */
export function openSource(name: SourceName, root: string): Procfs | Commands {
  const chosen = name ?? (process.platform === 'linux' ? 'procfs' : 'ss');
  return chosen === 'procfs' ? new Procfs(root) : new Commands(chosen);
}
