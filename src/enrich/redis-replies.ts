const LF = 10;
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
  #line = '';
  /** How many bytes of a text are still to come before the end of its line; null outside of a text. */
  #text: number | null = null;
  /** How many members each open list still lacks, the innermost last. */
  readonly #open: number[] = [];

  /** One more reply is due. */
  ask(): void {
    this.#due++;
  }

  /** Says what is wrong with the bytes that came, or null. What comes after a fault means nothing. */
  judge(bytes: Buffer): string | null {
    this.#bytes += bytes.length;
    if (this.#bytes > BYTES_MOST) return `the server sent more than ${BYTES_MOST} bytes for what it was asked together`;
    for (let at = 0; at < bytes.length;) {
      if (this.#text) {
        const taken = Math.min(this.#text, bytes.length - at);
        this.#text -= taken;
        at += taken;
        continue;
      }
      const end = bytes.indexOf(LF, at);
      const next = end === -1 ? bytes.length : end + 1;
      // Whoever turns clients away says why before they ask.
      if (this.#due === 0)
        return bytes[at] === 45 // -
          ? bytes.toString('utf8', at + 1, Math.min(next, at + LINE_MOST)).trim()
          : 'the server sent a reply that nobody asked for';
      if (this.#line.length + next - at > LINE_MOST) return `the server sent a line longer than ${LINE_MOST} bytes`;
      this.#line += bytes.toString('latin1', at, next);
      at = next;
      if (end === -1) break;
      const fault = this.#takeLine();
      if (fault !== null) return fault;
      if (this.#due === 0 || this.#done === TOGETHER) [this.#done, this.#bytes] = [0, bytes.length - at];
    }
    return null;
  }

  #takeLine(): string | null {
    const line = this.#line;
    this.#line = '';
    if (this.#text === 0) {
      this.#text = null;
      if (line !== '\r\n') return 'the server sent a text that is longer than it said';
      this.#endReply();
      return null;
    }
    const parts = REPLY.exec(line);
    if (!parts) return `the server does not speak as Redis does: ${Buffer.from(line, 'latin1').toString().trim()}`;
    const [, text = '-1', list = '-1'] = parts;
    if (Number(text) > TEXT_MOST) return `the server sent a text longer than ${TEXT_MOST} bytes`;
    if (Number(list) > LIST_MOST) return `the server sent a list longer than ${LIST_MOST}`;
    if (text !== '-1') this.#text = Number(text);
    else if (Number(list) <= 0) this.#endReply();
    else if (this.#open.push(Number(list)) > DEPTH_MOST) return `the server sent lists deeper than ${DEPTH_MOST}`;
    return null;
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
  }
}
