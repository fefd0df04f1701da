import { closeSync, openSync, readSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { ASKED, DONE, LENGTH, MOST, READING, STATE, type SharedRead } from './shared-read.ts';

/** The length of the content of a file, at most as much as fits; -1 if it cannot be read. */
function read(path: string, bytes: Uint8Array): number {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    let length = 0;
    for (let got = 1; got > 0 && length < bytes.length; length += got)
      got = readSync(fd, bytes, length, bytes.length - length, null);
    return length;
  } catch {
    return -1;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Answers one question after another. It ends with the thread that asks. */
function answer({ control, bytes }: SharedRead): never {
  const report = (state: number): void => {
    Atomics.store(control, STATE, state);
    Atomics.notify(control, STATE);
  };
  for (;;) {
    while (Atomics.load(control, STATE) !== ASKED) Atomics.wait(control, STATE, Atomics.load(control, STATE));
    const path = Buffer.from(bytes.subarray(0, Atomics.load(control, LENGTH))).toString();
    report(READING);
    Atomics.store(control, LENGTH, read(path, bytes.subarray(0, Atomics.load(control, MOST))));
    report(DONE);
  }
}

answer(workerData as SharedRead);
