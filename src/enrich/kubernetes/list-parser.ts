import { ByteCollector } from '../../common/byte-collector.ts';

const [QUOTE, BACKSLASH, BRACKET, BRACKET_END, BRACE, BRACE_END, COMMA, SPACE] = Buffer.from('"\\[]{}, ');
/** The text of a member of the list before its items, without white space. */
const ITEMS = '"items":';

/**
 * Parses a list of the Kubernetes API as a stream. Passes each item to `take`, so that at most one item is held as
 * text. Returns the list without items. Throws if the text is not JSON, or if an item or the rest exceeds
 * `mostBytes`.
 */
export async function readList(
  body: AsyncIterable<Buffer>,
  mostBytes: number,
  take: (item: unknown) => void,
): Promise<unknown> {
  const text = new ListText(mostBytes, (item) => take(parse(item)));
  for await (const chunk of body) text.push(chunk);
  return parse(text.takeAround());
}

function parse(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString()) as unknown;
  } catch {
    throw new Error('the list is not JSON');
  }
}

/** Splits the text of a list into its items and the rest. */
class ListText {
  readonly #mostBytes: number;
  readonly #take: (item: Buffer) => void;
  readonly #around = new ByteCollector();
  readonly #item = new ByteCollector();
  #depth = 0;
  #isInItems = false;
  /** The start of the current member, without white space outside of strings, as far as it can be `ITEMS`. */
  #member = '';
  #isInString = false;
  #isEscaped = false;

  constructor(mostBytes: number, take: (item: Buffer) => void) {
    this.#mostBytes = mostBytes;
    this.#take = take;
  }

  takeAround(): Buffer {
    return this.#around.take();
  }

  push(chunk: Buffer): void {
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] ?? 0;
      if (this.#isInString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (byte === BACKSLASH) this.#isEscaped = true;
        else if (byte === QUOTE) this.#isInString = false;
        this.#extendMember(byte);
      } else if (byte === QUOTE) {
        this.#isInString = true;
        this.#extendMember(byte);
      } else if (byte === BRACE || byte === BRACKET) {
        const startsItems = this.#depth === 1 && byte === BRACKET && this.#member === ITEMS;
        this.#member = '';
        if (this.#depth++ === 2 && this.#isInItems) from = i;
        if (!startsItems || this.#isInItems) continue;
        this.#keep(this.#around, chunk.subarray(from, i + 1));
        this.#isInItems = true;
        from = i + 1;
      } else if (byte === BRACE_END || byte === BRACKET_END) {
        this.#depth--;
        if (!this.#isInItems || this.#depth > 2) continue;
        if (this.#depth === 2) {
          this.#keep(this.#item, chunk.subarray(from, i + 1));
          this.#take(this.#item.take());
        } else this.#isInItems = false;
        from = this.#isInItems ? i + 1 : i;
      } else if (byte === COMMA) this.#member = '';
      else if ((SPACE ?? 0) < byte) this.#extendMember(byte);
    }
    if (!this.#isInItems) this.#keep(this.#around, chunk.subarray(from));
    else if (this.#depth > 2) this.#keep(this.#item, chunk.subarray(from));
  }

  #extendMember(byte: number): void {
    if (this.#depth === 1 && this.#member.length <= ITEMS.length) this.#member += String.fromCharCode(byte);
  }

  #keep(where: ByteCollector, text: Buffer): void {
    where.add(text);
    if (where.length > this.#mostBytes) throw new Error(`the list has an object longer than ${this.#mostBytes} bytes`);
  }
}

/** Readers for untyped API objects. A missing value or a value of another type is empty. */

export type ApiObject = Readonly<Record<string, unknown>>;

export function objectIn(value: unknown): ApiObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as ApiObject) : {};
}

export function listIn(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [];
}

export function textIn(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function numberIn(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : null;
}
