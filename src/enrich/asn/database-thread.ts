import { Worker } from 'node:worker_threads';
import { memoryLimit } from '../../common/memory-limit.ts';
import type { DatabaseContent, DatabaseFile } from './database-worker.ts';
import type { Lookup } from './file-database.ts';
import { OperatorTable } from './ip2asn-tsv.ts';
import { lookupMmdb } from './mmdb.ts';

/** Far above what real files need on a slow disk. A table of 700,000 ranges and 110,000 operators needs less than 32 MiB. */
const LIMITS: ThreadLimits = {
  withinMs: 120_000,
  heapMiB: Math.min(256, Math.max(64, Math.floor(memoryLimit() / 4 / 1024 ** 2))),
};

/** The bounds of a thread that reads a database. Buffers of the file are not part of the heap. */
export interface ThreadLimits {
  readonly withinMs: number;
  readonly heapMiB: number;
}

/** Reads and checks a database in a thread of its own. Rejects with the reason if the file is invalid or exceeds the limits. */
export async function loadDatabase(
  database: DatabaseFile,
  { withinMs, heapMiB }: ThreadLimits = LIMITS,
): Promise<Lookup> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./database-worker.${extension}`, import.meta.url), {
    workerData: database,
    resourceLimits: { maxOldGenerationSizeMb: heapMiB },
  });
  const { promise, resolve, reject } = Promise.withResolvers<DatabaseContent>();
  const timer = setTimeout(() => reject(new Error(`it takes longer than ${withinMs / 1000} s`)), withinMs);
  worker.once('message', resolve);
  worker.once('error', (error: NodeJS.ErrnoException) =>
    reject(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? new Error(`it needs more than ${heapMiB} MiB`) : error),
  );
  worker.once('exit', () => reject(new Error('the thread that reads it ended')));
  try {
    const content = await promise;
    switch (content.format) {
      case 'mmdb':
        return lookupMmdb(Buffer.from(content.bytes.buffer, content.bytes.byteOffset, content.bytes.length));
      case 'tsv': {
        const table = new OperatorTable(content.columns);
        return (address) => table.find(address);
      }
      case 'none':
        throw new Error(content.reason);
    }
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
