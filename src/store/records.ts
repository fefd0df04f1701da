import type { StoredRecord } from './contract.ts';

/** The longest key and text of a record that is written or read. */
export const RECORD_KEY_BYTES = 1_024;
export const RECORD_TEXT_BYTES = 16_384;
/** How long a store keeps a record after its last write. */
export const RECORD_TTL_MS = 90 * 86_400_000;
/** The maximum number of records. */
export const MAX_RECORDS = 200_000;
/** The maximum number of records in a page. */
export const PAGE = 1_000;

/** Where a read continues: the name of its phase, and a place in it. */
export function encodeCursor(phase: string, ...place: readonly (string | number)[]): string {
  return JSON.stringify([phase, ...place]);
}

/** Decodes the place of a cursor; null if it is not of this phase. */
export function decodeCursor(text: string | null, phase: string, length: number): readonly (string | number)[] | null {
  try {
    const value: unknown = text === null ? null : JSON.parse(text);
    if (!Array.isArray(value) || value.length !== length + 1 || value[0] !== phase) return null;
    const place: unknown[] = value.slice(1);
    return place.every((field) => typeof field === 'string' || Number.isFinite(field)) ? (place as string[]) : null;
  } catch {
    return null;
  }
}

/** Whether a record has a valid key and is not too long. */
export function isStorable({ key, text }: StoredRecord): boolean {
  const isShort = Buffer.byteLength(key) <= RECORD_KEY_BYTES && Buffer.byteLength(text) <= RECORD_TEXT_BYTES;
  return isShort && /^[a-z]/.test(key) && text !== '';
}

/** Splits the valid records into batches of at most this many records and about this many bytes. */
export function* batches(records: readonly StoredRecord[], most: number, bytes: number): Generator<StoredRecord[]> {
  let batch: StoredRecord[] = [];
  let size = 0;
  for (const record of records) {
    if (!isStorable(record)) continue;
    batch.push(record);
    size += Buffer.byteLength(record.key) + Buffer.byteLength(record.text);
    if (batch.length < most && size < bytes) continue;
    yield batch;
    [batch, size] = [[], 0];
  }
  if (batch.length > 0) yield batch;
}
