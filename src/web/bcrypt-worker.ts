import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';

/** One password to be compared with a hash; the answer is a boolean, in the order of the questions. */
export interface Comparison {
  readonly password: string;
  readonly hash: string;
}

parentPort?.on('message', ({ password, hash }: Comparison) => {
  parentPort?.postMessage(compareSync(password, hash));
});
