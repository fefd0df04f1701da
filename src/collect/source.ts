import type { Command, Commands } from './ss-netstat.ts';
import { Procfs } from './procfs.ts';

/** What a user may ask rows to come from; null leaves it to the platform: procfs on Linux, its own commands elsewhere. */
export type SourceName = 'procfs' | Command | null;

/** Opens where the rows come from. Rejects with an Error of one clear line when procfs cannot be read. */
export async function openSource(name: SourceName, root: string): Promise<Procfs | Commands> {
  const chosen = name ?? (process.platform === 'linux' ? 'procfs' : 'ss');
  if (chosen === 'procfs') return new Procfs(root);
  const { Commands } = await import('./ss-netstat.ts');
  return new Commands(chosen);
}
