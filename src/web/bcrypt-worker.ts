import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';

/** A password to compare with a hash. The answer is a boolean; the caller sends one comparison at a time. */
export interface Comparison {
  readonly password: string;
  readonly hash: string;
}

parentPort?.on('message', ({ password, hash }: Comparison) => {
  parentPort?.postMessage(compareSync(password, hash));
});
