import { TextDecoder } from 'node:util';

/** A line without its line feed. If `isTooLong`, `text` is only its beginning. */
export interface TextLine {
  readonly text: string;
  readonly isTooLong: boolean;
}

/** Maximum line length. A row of ss with ten thousand holders is shorter. */
export const MAX_LINE_LENGTH = 1 << 20;
/** Length kept of a longer line. */
const KEPT_LENGTH = 1000;

/**
 * Splits bytes into batches of lines. The encoding is UTF-8, or UTF-16 of Windows with or without byte order mark. Invalid UTF-8,
 * such as a Windows code page, becomes U+FFFD. Memory is bounded by the chunk size and the maximum line length.
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TextLine[]> {
  let decoder: TextDecoder | null = null;
  let head = new Uint8Array(0);
  const cutter = new Cutter();
  for await (const chunk of chunks) {
    let bytes = chunk;
    if (!decoder) {
      head = joined(head, chunk);
      if (head.length < 4) continue;
      decoder = decoderFor(head);
      bytes = head;
    }
    yield cutter.cut(decoder.decode(bytes, { stream: true }));
  }
  yield cutter.cut(decoder ? decoder.decode() : decoderFor(head).decode(head));
  yield cutter.rest();
}

/** Decodes a complete text: UTF-8, or UTF-16 of Windows with or without byte order mark. */
export function decodeText(bytes: Uint8Array): string {
  return decoderFor(bytes).decode(bytes);
}

/** Without byte order mark, a zero byte indicates UTF-16: the text starts with ASCII in every language. */
function decoderFor([a, b]: Uint8Array): TextDecoder {
  if ((a === 0xff && b === 0xfe) || (a !== 0 && b === 0)) return new TextDecoder('utf-16le');
  if ((a === 0xfe && b === 0xff) || (a === 0 && b !== 0 && b !== undefined)) return new TextDecoder('utf-16be');
  return new TextDecoder();
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}

/** Line ends: of every system, and of a text in which only carriage returns end lines. */
const LINE_FEED = '\n';
const CARRIAGE_RETURN = '\r';

/** Splits a complete text into lines. */
export function splitLines(text: string): string[] {
  const whole = text.replace(/^\ufeff/, '');
  const lines = whole.split(lineEndOf(whole) ?? LINE_FEED);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/** How lines end: by a carriage return only if there is no line feed; null if the text has neither. */
function lineEndOf(text: string): string | null {
  if (text.includes(LINE_FEED)) return LINE_FEED;
  return text.trimEnd().includes(CARRIAGE_RETURN) ? CARRIAGE_RETURN : null;
}

/** Splits chunks of text into lines. */
class Cutter {
  #held: string[] = [];
  #length = 0;
  #lineEnd: string | null = null;

  cut(text: string): TextLine[] {
    this.#lineEnd ??= lineEndOf(text);
    const lines: TextLine[] = [];
    const pieces = text.split(this.#lineEnd ?? LINE_FEED);
    for (const [i, piece] of pieces.entries()) {
      this.#hold(piece);
      if (i < pieces.length - 1) lines.push(this.#take());
    }
    return lines;
  }

  /** The last line, if it has no line feed. */
  rest(): TextLine[] {
    return this.#length > 0 ? [this.#take()] : [];
  }

  #hold(piece: string): void {
    if (this.#length <= MAX_LINE_LENGTH) this.#held.push(piece);
    this.#length += piece.length;
    if (this.#length > MAX_LINE_LENGTH) this.#held = [this.#held.join('').slice(0, KEPT_LENGTH)];
  }

  #take(): TextLine {
    const line = { text: this.#held.join(''), isTooLong: this.#length > MAX_LINE_LENGTH };
    this.#held = [];
    this.#length = 0;
    return line;
  }
}
