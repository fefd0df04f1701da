import type { FileHandle } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { compareAddresses, isIPv4, maskAddress, parseAddress } from '../../common/address.ts';
import { cleanLabel, escapeControls } from '../../common/sanitize.ts';
import type { Address } from '../../model.ts';
import { isReservedAsn } from './cache.ts';
import { FILE_BYTES_MOST, loadedBytesMost, openFile, type AsnRecord } from './file-database.ts';

const LINE_LENGTH = 4096;
/** About ten times what a complete table has. */
const RANGES_MOST = 8_000_000;
const NAMES_MOST = 1_000_000;
const NAMES_BYTES_MOST = 64 * 1024 * 1024;
/** A table has a tenth of its length when compressed. */
const RATIO_MOST = 100;
const RATIO_FROM_BYTES = 1024 * 1024;

/** Reads a table of iptoasn.com, plain or gzip. Rejects with the reason if the format is wrong. */
export async function readTsv(file: string): Promise<OperatorTable> {
  const handle = await openFile(file);
  try {
    const source = handle.createReadStream({ start: 0, autoClose: false });
    const gunzip = createGunzip();
    const parse = (text: AsyncIterable<Uint8Array>): Promise<OperatorTable> => parseTsv(text);
    return await ((await isGzip(handle))
      ? pipeline(source, gunzip, (text) => limitExpansion(text, () => gunzip.bytesWritten), parse)
      : pipeline(source, parse));
  } finally {
    await handle.close();
  }
}

/** Passes decompressed bytes on. Throws if they are many more than the compressed bytes that were read. */
async function* limitExpansion(text: AsyncIterable<Uint8Array>, read: () => number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of text) {
    bytes += chunk.length;
    if (bytes > FILE_BYTES_MOST) throw new Error(`longer than ${FILE_BYTES_MOST} bytes when decompressed`);
    if (bytes > RATIO_FROM_BYTES && bytes > RATIO_MOST * read())
      throw new Error(`more than ${RATIO_MOST} times longer when decompressed`);
    yield chunk;
  }
}

/** RFC 1952 section 2.3.1. */
async function isGzip(handle: FileHandle): Promise<boolean> {
  const { buffer } = await handle.read(Buffer.alloc(2), 0, 2, 0);
  return buffer[0] === 0x1f && buffer[1] === 0x8b;
}

/**
 * Parses the format of `ip2asn-combined.tsv` (https://iptoasn.com): first address, last address, ASN, country and AS
 * name, separated by tabs, in ascending order within each address family. ASN 0 means not announced. Rejects at the
 * first invalid line, and if the table is empty or cut.
 */
export async function parseTsv(
  chunks: AsyncIterable<Uint8Array>,
  mostBytes = loadedBytesMost() / 2,
): Promise<OperatorTable> {
  const decoder = new TextDecoder();
  const table = new TableBuilder(mostBytes);
  let rest = '';
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) table.add(line);
    if (rest.length > LINE_LENGTH) throw new SyntaxError(`a line is longer than ${LINE_LENGTH} characters`);
  }
  if (rest !== '') throw new SyntaxError('the last line is incomplete');
  return table.build();
}

/** Sorted address ranges of one family with the index of their operator: 12 bytes per range for IPv4, 36 for IPv6. */
class Ranges {
  readonly #words: 1 | 4;
  readonly #stride: number;
  #rows: Uint32Array<ArrayBuffer>;
  #length: number;

  /** `rows` are those of other ranges. */
  constructor(words: 1 | 4, rows = new Uint32Array(0)) {
    this.#words = words;
    this.#stride = 2 * words + 1;
    this.#rows = rows;
    this.#length = rows.length / this.#stride;
  }

  get length(): number {
    return this.#length;
  }

  get rows(): Uint32Array<ArrayBuffer> {
    return this.#rows;
  }

  /** Without the room for later rows. */
  get bytes(): number {
    return this.#length * this.#stride * Uint32Array.BYTES_PER_ELEMENT;
  }

  /** Returns false if a range does not follow all earlier ranges. */
  add(first: Address, last: Address, operator: number): boolean {
    if (this.#length > 0 && this.#compare(this.#length - 1, this.#words, first) >= 0) return false;
    const at = this.#length * this.#stride;
    if (at === this.#rows.length) this.#resize(Math.max(1024, Math.ceil(this.#length * 1.25)));
    const unused = 4 - this.#words;
    this.#rows.set(first.slice(unused), at);
    this.#rows.set(last.slice(unused), at + this.#words);
    this.#rows[at + 2 * this.#words] = operator;
    this.#length++;
    return true;
  }

  trim(): void {
    this.#resize(this.#length);
  }

  find(address: Address): { first: Address; last: Address; operator: number } | undefined {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(middle, 0, address) <= 0) low = middle + 1;
      else high = middle;
    }
    const row = low - 1;
    if (row < 0 || this.#compare(row, this.#words, address) < 0) return undefined;
    const operator = this.#rows[row * this.#stride + 2 * this.#words] ?? 0;
    return { first: this.#address(row, 0), last: this.#address(row, this.#words), operator };
  }

  /** Compares the address at word `offset` of a row with another address. */
  #compare(row: number, offset: number, address: Address): number {
    const at = row * this.#stride + offset;
    const unused = 4 - this.#words;
    for (let word = 0; word < this.#words; word++) {
      const difference = (this.#rows[at + word] ?? 0) - (address[unused + word] ?? 0);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  #address(row: number, offset: number): Address {
    const at = row * this.#stride + offset;
    const word = (i: number): number => this.#rows[at + i] ?? 0;
    return this.#words === 1 ? [0, 0, 0xffff, word(0)] : [word(0), word(1), word(2), word(3)];
  }

  #resize(length: number): void {
    const rows = new Uint32Array(length * this.#stride);
    rows.set(this.#rows.subarray(0, this.#length * this.#stride));
    this.#rows = rows;
  }
}

class TableBuilder {
  readonly #mostBytes: number;
  readonly #v4 = new Ranges(1);
  readonly #v6 = new Ranges(4);
  readonly #operators: Buffer[] = [];
  readonly #operatorOf = new Map<string, number>();
  #operatorBytes = 0;
  #line = 0;

  /** Arrays grow in steps, and are copied at each. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  add(line: string): void {
    this.#line++;
    const [firstText = '', lastText = '', asnText = '', country, name] = line.split('\t', 5);
    const first = parseAddress(firstText);
    const last = parseAddress(lastText);
    if (!first || !last || country === undefined || name === undefined || !isAsn(asnText))
      throw this.#wrong(line, 'is not a tab-separated first address, last address, ASN, country and name');
    const isV4 = isIPv4(first);
    if (isV4 !== isIPv4(last) || compareAddresses(first, last) > 0)
      throw this.#wrong(line, 'is not a valid address range');
    const operator = this.#operator(asnText, line.slice(firstText.length + lastText.length + 2).trimEnd());
    if (this.#v4.length + this.#v6.length >= RANGES_MOST) throw new Error(`more than ${RANGES_MOST} address ranges`);
    if (!(isV4 ? this.#v4 : this.#v6).add(first, last, operator)) throw this.#wrong(line, 'is not in ascending order');
    if (this.#v4.bytes + this.#v6.bytes + this.#operatorBytes > this.#mostBytes)
      throw new Error(`it needs more than ${Math.floor(this.#mostBytes)} bytes of memory`);
  }

  build(): OperatorTable {
    if (this.#v4.length + this.#v6.length === 0) throw new SyntaxError('the file is empty');
    this.#v4.trim();
    this.#v6.trim();
    let end = 0;
    const ends = Uint32Array.from(this.#operators, ({ length }) => (end += length));
    const operators = new Uint8Array(end);
    let at = 0;
    for (const operator of this.#operators) {
      operators.set(operator, at);
      at += operator.length;
    }
    return new OperatorTable({ v4: this.#v4.rows, v6: this.#v6.rows, operators, ends });
  }

  /**
   * Returns the index of the last three columns. An AS usually has the same text in each line, so only its latest
   * text is compared.
   */
  #operator(asn: string, columns: string): number {
    const bytes = Buffer.from(columns);
    const known = this.#operatorOf.get(asn);
    if (known !== undefined && this.#operators[known]?.equals(bytes)) return known;
    this.#operatorBytes += bytes.length;
    if (this.#operators.length >= NAMES_MOST || this.#operatorBytes > NAMES_BYTES_MOST)
      throw new Error(`more than ${NAMES_MOST} AS names, or more than ${NAMES_BYTES_MOST} bytes of them`);
    const operator = this.#operators.push(bytes) - 1;
    this.#operatorOf.set(asn, operator);
    return operator;
  }

  #wrong(line: string, reason: string): SyntaxError {
    return new SyntaxError(`line ${this.#line} ${escapeControls(JSON.stringify(line.slice(0, 60)))} ${reason}`);
  }
}

function isAsn(text: string): boolean {
  return /^\d{1,10}$/.test(text) && Number(text) < 2 ** 32;
}

/** The arrays of a table, which can be sent to another thread. */
export interface TableColumns {
  readonly v4: Uint32Array<ArrayBuffer>;
  readonly v6: Uint32Array<ArrayBuffer>;
  readonly operators: Uint8Array<ArrayBuffer>;
  readonly ends: Uint32Array<ArrayBuffer>;
}

/** The complete table in a few large arrays, to keep memory close to the data size. */
export class OperatorTable {
  readonly columns: TableColumns;
  readonly #v4: Ranges;
  readonly #v6: Ranges;
  readonly #operators: Buffer;
  readonly #ends: Uint32Array;

  constructor(columns: TableColumns) {
    const { v4, v6, operators, ends } = columns;
    this.columns = columns;
    this.#v4 = new Ranges(1, v4);
    this.#v6 = new Ranges(4, v6);
    this.#operators = Buffer.from(operators.buffer, operators.byteOffset, operators.length);
    this.#ends = ends;
  }

  /** The size of the arrays. */
  get bytes(): number {
    const { v4, v6, operators, ends } = this.columns;
    return v4.byteLength + v6.byteLength + operators.byteLength + ends.byteLength;
  }

  find(address: Address): AsnRecord | undefined {
    const range = (isIPv4(address) ? this.#v4 : this.#v6).find(address);
    if (!range) return undefined;
    const { first, last, operator } = range;
    const columns = this.#operators.toString('utf8', this.#ends[operator - 1] ?? 0, this.#ends[operator]);
    const [asnText, country = '', name = ''] = columns.split('\t', 3);
    const bits = coveredBits(address, first, last);
    const asn = Number(asnText);
    if (isReservedAsn(asn)) return { asns: [], name: null, asCountry: null, bits };
    return {
      asns: [asn],
      name: cleanLabel(name).trim() || null,
      asCountry: /^[A-Z]{2}$/.test(country) ? country : null,
      bits,
    };
  }
}

/** Returns the prefix length of the largest block around an address within a range. */
function coveredBits(address: Address, first: Address, last: Address): number {
  for (let bits = isIPv4(address) ? 96 : 0; bits < 128; bits++)
    if (compareAddresses(maskAddress(address, bits), first) >= 0 && compareAddresses(lastOf(address, bits), last) <= 0)
      return bits;
  return 128;
}

function lastOf(address: Address, bits: number): Address {
  const mask = maskAddress([0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], bits);
  const word = (i: number): number => ((address[i] ?? 0) | ~(mask[i] ?? 0)) >>> 0;
  return [word(0), word(1), word(2), word(3)];
}
