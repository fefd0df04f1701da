import { withoutControls } from '../common/sanitize.ts';

const LF = 10;
const MINUS = 45;
/** Each far above what a server has to say: answers of a few hundred bytes, a queue of a thousand names, the nodes of a cluster. */
const LINE_MOST = 4_096;
const TEXT_MOST = 65_536;
const LIST_MOST = 20_000;
const DEPTH_MOST = 8;
/** In so many replies, which is how many are asked for together. */
const BYTES_MOST = 2 * 1024 * 1024;
const TOGETHER = 1_000;
const REPLY = /^(?:[+-][^\r\n]*|:[+-]?\d{1,19}|\$(-1|\d{1,10})|\*(-1|\d{1,10}))\r\n$/;

/**
 * Judges the bytes of a Redis server (RESP2) before a client library sees them: each must be part of a reply that was asked for, well
 * formed, and within bounds. It keeps nothing but an unfinished line.
 */
export class RedisReplies {
  #due = 0;
  #done = 0;
  #bytes = 0;
  /** The beginning of a line whose end is still to come. */
  #line: Buffer = Buffer.alloc(0);
  /** How many bytes of a text are still to come before the end of its line; null outside of a text. */
  #text: number | null = null;
  /** How many members each open list still lacks, the innermost last. */
  readonly #open: number[] = [];

  /** One more reply is due. */
  ask(): void {
    this.#due++;
  }

  /** Gives what is judged of the bytes that came, unfinished lines held back; throws where it is bad, and all is over then. */
  pass(chunk: Buffer): Buffer {
    const bytes = this.#line.length > 0 ? Buffer.concat([this.#line, chunk]) : chunk;
    let at = 0;
    while (at < bytes.length) {
      if (this.#text) {
        const taken = Math.min(this.#text, bytes.length - at);
        this.#text -= taken;
        at += this.#spend(taken);
        continue;
      }
      const end = bytes.indexOf(LF, at) + 1;
      const line = bytes.subarray(at, end || bytes.length);
      // Whoever turns clients away says why before they ask.
      if (this.#due === 0)
        throw new Error(
          line[0] === MINUS ? show(line.subarray(1, LINE_MOST)) : 'the server sent a reply that nobody asked for',
        );
      if (line.length > LINE_MOST) throw new Error(`the server sent a line longer than ${LINE_MOST} bytes`);
      if (end === 0) break;
      at += this.#spend(line.length);
      this.#takeLine(line.toString('latin1'));
    }
    this.#line = bytes.subarray(at);
    return bytes.subarray(0, at);
  }

  #spend(bytes: number): number {
    this.#bytes += bytes;
    if (this.#bytes > BYTES_MOST)
      throw new Error(`the server sent more than ${BYTES_MOST} bytes for what it was asked together`);
    return bytes;
  }

  #takeLine(line: string): void {
    if (this.#text === 0) {
      this.#text = null;
      if (line !== '\r\n') throw new Error('the server sent a text that is longer than it said');
      this.#endReply();
      return;
    }
    const parts = REPLY.exec(line);
    if (!parts) throw new Error(`the server does not speak as Redis does: ${show(Buffer.from(line, 'latin1'))}`);
    const [, text = '-1', list = '-1'] = parts;
    if (Number(text) > TEXT_MOST) throw new Error(`the server sent a text longer than ${TEXT_MOST} bytes`);
    if (Number(list) > LIST_MOST) throw new Error(`the server sent a list longer than ${LIST_MOST}`);
    if (text !== '-1') this.#text = Number(text);
    else if (Number(list) <= 0) this.#endReply();
    else if (this.#open.push(Number(list)) > DEPTH_MOST)
      throw new Error(`the server sent lists deeper than ${DEPTH_MOST}`);
  }

  /** A member of a list ends it where it is the last one. */
  #endReply(): void {
    for (let lacks = this.#open.pop(); lacks !== undefined; lacks = this.#open.pop())
      if (lacks > 1) {
        this.#open.push(lacks - 1);
        return;
      }
    this.#due--;
    this.#done++;
    if (this.#due === 0 || this.#done === TOGETHER) [this.#done, this.#bytes] = [0, 0];
  }
}

function show(line: Buffer): string {
  return withoutControls(line.toString().trim());
}
