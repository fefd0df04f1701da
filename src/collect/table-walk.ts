import { closeSync, readSync } from 'node:fs';
import { parseSocketRows, type SocketRows } from './net-tcp-udp-raw.ts';

/** A read() of a seq_file returns at most one page. */
const PAGE = 4096;
const NEWLINE = 0x0a;

/**
 * A read of a socket table in pieces. The kernel finds the place of each page by counting from the start of the table (UDP, raw), or of a list
 * in it (listeners that share a port): a table of 64,000 UDP sockets takes seconds, and time grows with the square of its length.
 * The place is a byte offset, so that a read can end, and continue later with another descriptor: an open one would keep a network namespace
 * alive after its last process.
 */
export class TableWalk {
  /** The offset of the first row that was not passed on. */
  position: number;
  /** Malformed lines so far. */
  malformed = 0;
  readonly #fd: number;
  readonly #littleEndian: boolean;
  readonly #family: 4 | 6;
  /** Whether the rest of a line comes next: the header, or a row that moved since the last piece. */
  #skips = true;

  constructor(fd: number, table: number, littleEndian: boolean, position: number) {
    this.#fd = fd;
    this.#littleEndian = littleEndian;
    this.#family = table & 1 ? 6 : 4;
    // The newline before the row shows that the row begins there.
    this.position = Math.max(0, position - 1);
  }

  /** Passes rows on in batches, at least those of one page, until `isOver` returns true. Returns true after the last row. Throws as readSync(). */
  next(buffer: Buffer, rows: SocketRows, isOver: () => boolean, onRows: (rows: SocketRows) => void): boolean {
    let held = 0;
    let ended = false;
    for (let over = false; !ended && !over;) {
      while (buffer.length - held >= PAGE && !over) {
        const read = readSync(this.#fd, buffer, held, buffer.length - held, this.position + held);
        ended = read === 0;
        held += read;
        over = ended || isOver();
      }
      if (ended && held > 0 && buffer[held - 1] !== NEWLINE) buffer[held++] = NEWLINE;
      held = this.#passOn(buffer, held, rows, onRows);
    }
    return ended;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Passes on the complete rows, and moves the rest to the start of the buffer. Returns the length of the rest. */
  #passOn(buffer: Buffer, held: number, rows: SocketRows, onRows: (rows: SocketRows) => void): number {
    let start = 0;
    if (this.#skips) {
      const newline = buffer.subarray(0, held).indexOf(NEWLINE);
      start = newline < 0 ? held : newline + 1;
      this.#skips = newline < 0;
    }
    rows.clear();
    const parsed = parseSocketRows(buffer, start, held, this.#family, this.#littleEndian, rows);
    this.malformed += rows.malformed;
    if (rows.count > 0) onRows(rows);
    buffer.copyWithin(0, parsed, held);
    this.position += parsed;
    const rest = held - parsed;
    if (buffer.length - rest >= PAGE) return rest;
    // A line that is longer than the buffer.
    this.malformed++;
    this.#skips = true;
    this.position += rest;
    return 0;
  }
}
