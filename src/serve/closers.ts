/** A part of a run that has to be closed at its end. */
export interface Closable {
  close(): void | Promise<void>;
}

/** Closes parts in the reverse of the order in which they were opened. */
export class Closers {
  readonly #parts: Closable[] = [];

  /** Adds a part that was opened, and returns it; null stands for a part that is off. */
  add<Part extends Closable | null>(part: Part): Part {
    if (part) this.#parts.push(part);
    return part;
  }

  /** Closes every part, each after the one before it has closed; then throws the first error. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (let part = this.#parts.pop(); part; part = this.#parts.pop()) {
      try {
        await part.close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** Parts that close at the same time. */
export class ClosersTogether implements Closable {
  readonly #parts: Closable[] = [];

  add<Part extends Closable | null>(part: Part): Part {
    if (part) this.#parts.push(part);
    return part;
  }

  async close(): Promise<void> {
    await Promise.all(this.#parts.map(async (part) => part.close()));
  }
}
