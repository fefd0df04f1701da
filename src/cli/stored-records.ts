import type { Timer } from '../common/clock.ts';
import { withoutControls } from '../common/sanitize.ts';
import type { Store, StoredRecord } from '../store/contract.ts';
import { formatStorage, openExistingStore, type StorageConfig } from '../store/open.ts';
import { UNIT_STORAGE } from '../store/sqlite-reader.ts';
import { SqliteStore } from '../store/sqlite.ts';

/** Where the store of the exporter is. */
export interface ExporterStorage extends StorageConfig {
  /** Whether a folder was given. */
  readonly isStorageGiven: boolean;
}

interface Writer {
  write(text: string): unknown;
}

/**
 * Opens the store that exporters use (that of the systemd unit, unless another is given), runs `work`, and closes the store. Returns 1 after a message on `stderr` if there is no store, or
 * if it fails. `task` completes "Cannot …".
 */
export async function withStore(
  given: ExporterStorage,
  { task, stderr, clock }: { readonly task: string; readonly stderr: Writer; readonly clock: Timer },
  work: (store: Store) => Promise<number>,
): Promise<number> {
  const report = (message: string): void => void stderr.write(`${withoutControls(message)}\n`);
  const isUnit = !given.isStorageGiven && !given.storageServer && SqliteStore.existsIn(UNIT_STORAGE);
  const storage = isUnit ? { ...given, storagePath: UNIT_STORAGE } : given;
  const store = await openExistingStore(storage, { clock, report });
  if (!store) {
    const place = formatStorage(storage);
    const reason = place === null ? 'no store is configured' : `"${place}" has no store`;
    report(`Cannot ${task}: ${reason}; --storage.path or --storage.url must be that of the exporter`);
    return 1;
  }
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** Reads all records of a store whose keys begin with one of `prefixes`; null if it fails. */
export async function readAllRecords(store: Store, prefixes: readonly string[]): Promise<StoredRecord[] | null> {
  const records: StoredRecord[] = [];
  let page = await store.readRecords(null);
  while (page) {
    records.push(...page.records.filter(({ key }) => prefixes.some((prefix) => key.startsWith(prefix))));
    if (page.isLast) return records;
    page = await store.readRecords(page.next);
  }
  return null;
}
