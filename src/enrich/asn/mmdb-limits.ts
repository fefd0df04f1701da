/** Far above real records, which have up to 20 values. */
const VALUES_MOST = 512;
const BYTES_MOST = 65_536;
const DEPTH_MOST = 16;

const [POINTER, TEXT, MAP, ARRAY, BOOLEAN] = [1, 2, 7, 11, 14];
/** What is added to a pointer of each size. */
const POINTER_BASES = [0, 2_048, 526_336, 0];

/** The value is too large to be decoded. */
export class ValueTooLarge extends Error {
  constructor() {
    super(`a record has more than ${VALUES_MOST} values, ${BYTES_MOST} bytes or ${DEPTH_MOST} levels`);
  }
}

/**
 * Throws if a value of a MaxMind DB would be large when decoded (https://maxmind.github.io/MaxMind-DB/#data-section). Pointers make an
 * exponential value of a few hundred bytes, or one without an end. Throws RangeError for a value that ends outside of the file.
 */
export function checkValueSize(bytes: Buffer, offset: number, base: number): void {
  let values = 0;
  let size = 0;
  /** Returns the offset after the value. */
  const walk = (at: number, depth: number): number => {
    if (++values > VALUES_MOST || depth > DEPTH_MOST) throw new ValueTooLarge();
    const control = bytes.readUInt8(at);
    let next = at + 1;
    let type = control >> 5;
    if (type === POINTER) {
      const more = ((control >> 3) & 3) + 1;
      const high = more === 4 ? 0 : (control & 7) * 2 ** (8 * more);
      walk(base + high + bytes.readUIntBE(next, more) + (POINTER_BASES[more - 1] ?? 0), depth + 1);
      return next + more;
    }
    if (type === 0) type = bytes.readUInt8(next++) + 7;
    let length = control & 31;
    if (length > 28) {
      const more = length - 28;
      length = bytes.readUIntBE(next, more) + ([29, 285, 65_821][more - 1] ?? 0);
      next += more;
    }
    if (type === BOOLEAN) return next;
    if (type === MAP || type === ARRAY) {
      const members = type === MAP ? 2 * length : length;
      for (let i = 0; i < members; i++) next = walk(next, depth + 1);
      return next;
    }
    size += type === TEXT ? 2 * length : length;
    if (size > BYTES_MOST) throw new ValueTooLarge();
    return next + length;
  };
  walk(offset, 0);
}
