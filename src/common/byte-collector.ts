const KEPT_BYTES = 65_536;

/**
 * Collects bytes in one buffer. A list of chunks would take more memory than their bytes: a chunk of one byte takes a hundred, and a part
 * of a chunk keeps all of it.
 */
export class ByteCollector {
  /** How many bytes were added since the last `take`. */
  length = 0;
  #buffer = Buffer.alloc(0);

  add(bytes: Uint8Array): void {
    const needed = this.length + bytes.length;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(1_024, 2 * this.#buffer.length, needed));
      this.#buffer.copy(larger, 0, 0, this.length);
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.length);
    this.length = needed;
  }

  /** Returns the bytes, and begins again. They are valid until the next `add`. */
  take(): Buffer {
    const bytes = this.#buffer.subarray(0, this.length);
    this.length = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = Buffer.alloc(0);
    return bytes;
  }
}
