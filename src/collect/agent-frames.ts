/** The wire between the socket agent (native/sockets.c) and this program: version 1, in the byte order of the host. */
export const WIRE_VERSION = 1;

/** Kinds of frames. */
export const HELLO = 1;
export const DUMP = 2;
export const EVENT = 3;
export const OVERRUN = 4;
export const NSID = 5;
export const FAILED = 6;

/** Kinds of requests. */
export const REQUEST_DUMP = 1;
export const REQUEST_NSID = 2;

const HEADER = 12;
const LARGEST_PAYLOAD = 65_536;

/** A frame. Its payload is valid until the function that gets it returns. */
export interface Frame {
  readonly kind: number;
  /** The family of a dump; the kind of a request that failed. */
  readonly value: number;
  /** The number of the namespace of an event; -1 for the agent's own. */
  readonly nsid: number;
  readonly payload: Uint8Array;
}

/** Splits a stream into frames, however it is cut into chunks. Holds at most one frame. */
export class FrameDecoder {
  /** The length of a frame that is too long; nothing after it is decoded. */
  invalidLength: number | null = null;
  readonly #littleEndian: boolean;
  readonly #onFrame: (frame: Frame) => void;
  /** The start of a frame whose rest has not arrived. */
  #partial = new Uint8Array(0);
  #held = 0;

  constructor(littleEndian: boolean, onFrame: (frame: Frame) => void) {
    this.#littleEndian = littleEndian;
    this.#onFrame = onFrame;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && this.invalidLength === null) {
      if (this.#held === 0) {
        const size = this.#sizeAt(chunk, at);
        if (size > 0 && size <= chunk.length - at) {
          this.#emit(chunk, at, size);
          at += size;
          continue;
        }
      }
      at += this.#hold(chunk, at);
    }
  }

  /** Copies what is missing of the header, then of the payload, and returns how many bytes it took. */
  #hold(chunk: Uint8Array, at: number): number {
    if (this.#partial.length === 0) this.#partial = new Uint8Array(HEADER + LARGEST_PAYLOAD);
    const size = this.#held < HEADER ? HEADER : this.#sizeAt(this.#partial, 0);
    const taken = Math.min(Math.max(0, size - this.#held), chunk.length - at);
    this.#partial.set(chunk.subarray(at, at + taken), this.#held);
    this.#held += taken;
    if (this.#held >= HEADER && this.#held === this.#sizeAt(this.#partial, 0)) {
      this.#emit(this.#partial, 0, this.#held);
      this.#held = 0;
    }
    return taken;
  }

  /** The size of the frame at a position; 0 if its header is not complete. */
  #sizeAt(bytes: Uint8Array, at: number): number {
    const held = bytes === this.#partial ? this.#held : bytes.length - at;
    if (held < HEADER) return 0;
    const length = new DataView(bytes.buffer, bytes.byteOffset + at, HEADER).getUint32(0, this.#littleEndian);
    if (length <= LARGEST_PAYLOAD) return HEADER + length;
    this.invalidLength = length;
    return 0;
  }

  #emit(bytes: Uint8Array, at: number, size: number): void {
    const header = new DataView(bytes.buffer, bytes.byteOffset + at, HEADER);
    this.#onFrame({
      kind: header.getUint16(4, this.#littleEndian),
      value: header.getUint16(6, this.#littleEndian),
      nsid: header.getInt32(8, this.#littleEndian),
      payload: bytes.subarray(at + HEADER, at + size),
    });
  }
}

/** Requests, one after another. */
export function encodeRequests(
  requests: readonly { readonly kind: number; readonly family?: number; readonly pid?: number }[],
  littleEndian: boolean,
): Uint8Array {
  const bytes = new Uint8Array(requests.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, { kind, family = 0, pid = 0 }] of requests.entries()) {
    view.setUint8(i * 8, WIRE_VERSION);
    view.setUint8(i * 8 + 1, kind);
    view.setUint16(i * 8 + 2, family, littleEndian);
    view.setUint32(i * 8 + 4, pid, littleEndian);
  }
  return bytes;
}
