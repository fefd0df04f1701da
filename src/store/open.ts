import type { Timer } from '../common/clock.ts';
import { nameRedis, type RedisServer } from './redis-url.ts';
import { SqliteStore } from './sqlite.ts';
import type { Store } from './contract.ts';

/** Where what was learned is kept: on a server that a cluster shares, else in a folder, else nowhere. */
export interface StorageChoice {
  readonly storagePath: string | null;
  readonly storageServer: RedisServer | null;
}

interface Surroundings {
  readonly clock: Timer;
  /** Takes one line whenever it begins or ends to fail. */
  readonly report: (message: string) => void;
  /** Hears that the store may lack what it was given, because it lost it or was away. */
  readonly lacks?: () => void;
}

/** Opens the store, and loads only what that one needs. A store that cannot be used now is not `up`, and is tried again. */
export async function openStore(
  choice: StorageChoice,
  { clock, report, lacks = () => undefined }: Surroundings,
): Promise<Store | null> {
  const { storagePath, storageServer } = choice;
  if (storageServer) {
    const { RedisStore } = await import('./redis.ts');
    return RedisStore.open({ server: storageServer, clock, report, lacks });
  }
  if (storagePath === null) return null;
  return SqliteStore.open({
    folder: storagePath,
    now: () => clock.now(),
    report,
    lacks,
    after: (ms, run) => clock.after(ms, run),
  });
}

/** As `openStore`, for who only reads: makes no file. */
export async function findStore(choice: StorageChoice, surroundings: Surroundings): Promise<Store | null> {
  const { storagePath, storageServer } = choice;
  if (!storageServer && (storagePath === null || !SqliteStore.mayBeIn(storagePath))) return null;
  return openStore(choice, surroundings);
}

/** The place as people name it, without user and password. */
export function nameStorage({ storagePath, storageServer }: StorageChoice): string | null {
  return storageServer ? nameRedis(storageServer) : storagePath;
}
