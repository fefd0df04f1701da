import type { Timer } from '../common/clock.ts';
import { formatRedisUrl, type RedisServer } from './redis-url.ts';
import { SqliteStore } from './sqlite.ts';
import type { Store } from './contract.ts';

/** Where state is stored: a shared server if configured, else a directory, else nowhere. */
export interface StorageConfig {
  readonly storagePath: string | null;
  readonly storageServer: RedisServer | null;
}

interface StoreContext {
  readonly clock: Timer;
  /** Receives one line when the store starts or stops failing. */
  readonly report: (message: string) => void;
  /** Called when the store may have lost data or missed writes. */
  readonly onIncomplete?: () => void;
}

/**
 * Opens the configured store and loads only its own modules. A store that cannot be used now is not `up` and retries.
 */
export async function openStore(
  choice: StorageConfig,
  { clock, report, onIncomplete: lacks = () => undefined }: StoreContext,
): Promise<Store | null> {
  const { storagePath, storageServer } = choice;
  if (storageServer) {
    const { RedisStore } = await import('./redis.ts');
    return RedisStore.open({ server: storageServer, clock, report, onIncomplete: lacks });
  }
  if (storagePath === null) return null;
  return SqliteStore.open({
    directory: storagePath,
    now: () => clock.now(),
    report,
    onIncomplete: lacks,
    after: (ms, run) => clock.after(ms, run),
  });
}

/** Like `openStore`, but creates no files. For readers. */
export async function openExistingStore(choice: StorageConfig, surroundings: StoreContext): Promise<Store | null> {
  const { storagePath, storageServer } = choice;
  if (!storageServer && (storagePath === null || !SqliteStore.existsIn(storagePath))) return null;
  return openStore(choice, surroundings);
}

/** Returns the location without credentials, for display. */
export function formatStorage({ storagePath, storageServer }: StorageConfig): string | null {
  return storageServer ? formatRedisUrl(storageServer) : storagePath;
}
