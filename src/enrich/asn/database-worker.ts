import { parentPort, workerData } from 'node:worker_threads';
import type { DatabaseFormat } from '../../common/asn-providers.ts';
import { reasonOf } from '../../common/errors.ts';
import { readMmdb } from './mmdb.ts';
import { readTsv, type TableColumns } from './ip2asn-tsv.ts';

/** The file to read. */
export interface DatabaseFile {
  readonly format: DatabaseFormat;
  readonly file: string;
}

/** What was read, ready for lookups; the reason if that failed. */
export type DatabaseContent =
  | { readonly format: 'mmdb'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly format: 'tsv'; readonly columns: TableColumns }
  | { readonly format: 'none'; readonly reason: string };

async function read({ format, file }: DatabaseFile): Promise<DatabaseContent> {
  try {
    switch (format) {
      case 'mmdb':
        return { format, bytes: await readMmdb(file) };
      case 'tsv':
        return { format, columns: (await readTsv(file)).columns };
    }
  } catch (error) {
    return { format: 'none', reason: reasonOf(error) };
  }
}

/** The memory of the content moves to the other thread. */
function buffersOf(content: DatabaseContent): ArrayBuffer[] {
  if (content.format === 'mmdb') return [content.bytes.buffer];
  if (content.format === 'none') return [];
  const { v4, v6, operators, ends } = content.columns;
  return [v4.buffer, v6.buffer, operators.buffer, ends.buffer];
}

const content = await read(workerData as DatabaseFile);
parentPort?.postMessage(content, buffersOf(content));
