import { SYSTEM_CLOCK } from '../common/clock.ts';
import { withoutControls } from '../common/sanitize.ts';

const LF = 10;
const MINUS = 45;
/**
 * All limits are far above real replies: texts of a few hundred bytes, a queue of a thousand names, the nodes of a
 * cluster.
 */
const LINE_MOST = 4_096;
const TEXT_MOST = 65_536;
const LIST_MOST = 20_000;
const DEPTH_MOST = 8;
/** The limit for TOGETHER replies, the number of commands sent together. */
const BYTES_MOST = 2 * 1024 * 1024;
const TOGETHER = 1_000;
/** How long a reply may take. Commands fail earlier, but remain in the memory of the client library. */
const REPLY_MS = 10_000;
const REPLY = /^(?:[+-][^\r\n]*|:[+-]?\d{1,19}|\$(-1|\d{1,10})|\*(-1|\d{1,10}))\r\n$/;

/**
 * Validates the bytes of a Redis server (RESP2) before the client library sees them. Each reply must be expected,
 * well formed and within limits. Buffers only an incomplete line.
 */
export class ReplyGuard {
  /** Monotonic milliseconds. */
  readonly #now: () => number;
  /** How many expected replies began to be due when, oldest first. */
  readonly #since: { readonly at: number; count: number }[] = [];
  #due = 0;
  #done = 0;
  #bytes = 0;
  /** The start of an incomplete line. */
  #line: Buffer = Buffer.alloc(0);
  /** Remaining bytes of a bulk string; null outside of one. */
  #text: number | null = null;
  /** Remaining members of each open array, innermost last. */
  readonly #open: number[] = [];

  constructor(now: () => number = () => SYSTEM_CLOCK.monotonic()) {
    this.#now = now;
  }

  /** Registers one expected reply. Throws if an earlier one is overdue: the client library would keep all commands until then. */
  expect(): void {
    const now = this.#now();
    const [oldest] = this.#since;
    if (oldest && now - oldest.at > REPLY_MS) throw new Error(`the server sent no reply within ${REPLY_MS / 1000} s`);
    const last = this.#since.at(-1);
    if (last?.at === now) last.count++;
    else this.#since.push({ at: now, count: 1 });
    this.#due++;
  }

  /**
   * Returns the validated bytes and holds back an incomplete line. Throws if a reply is invalid; the connection must
   * then be closed.
   */
  check(chunk: Buffer): Buffer {
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
      // A server that rejects a client may report the reason before the first command.
      if (this.#due === 0)
        throw new Error(line[0] === MINUS ? show(line.subarray(1, LINE_MOST)) : 'the server sent an unexpected reply');
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
      throw new Error(`the server sent more than ${BYTES_MOST} bytes for one group of commands`);
    return bytes;
  }

  #takeLine(line: string): void {
    if (this.#text === 0) {
      this.#text = null;
      if (line !== '\r\n') throw new Error('the server sent a string longer than announced');
      this.#endReply();
      return;
    }
    const parts = REPLY.exec(line);
    if (!parts) throw new Error(`the server sent an invalid reply: ${show(Buffer.from(line, 'latin1'))}`);
    const [, text = '-1', list = '-1'] = parts;
    if (Number(text) > TEXT_MOST) throw new Error(`the server sent a string longer than ${TEXT_MOST} bytes`);
    if (Number(list) > LIST_MOST) throw new Error(`the server sent an array longer than ${LIST_MOST}`);
    if (text !== '-1') this.#text = Number(text);
    else if (Number(list) <= 0) this.#endReply();
    else if (this.#open.push(Number(list)) > DEPTH_MOST)
      throw new Error(`the server sent arrays nested deeper than ${DEPTH_MOST}`);
  }

  /** Ends a reply. The last member of an array also ends the array. */
  #endReply(): void {
    for (let lacks = this.#open.pop(); lacks !== undefined; lacks = this.#open.pop())
      if (lacks > 1) {
        this.#open.push(lacks - 1);
        return;
      }
    const [oldest] = this.#since;
    if (oldest && --oldest.count === 0) this.#since.shift();
    this.#due--;
    this.#done++;
    if (this.#due === 0 || this.#done === TOGETHER) [this.#done, this.#bytes] = [0, 0];
  }
}

function show(line: Buffer): string {
  return withoutControls(line.toString().trim());
}
