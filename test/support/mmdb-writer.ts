import { isIPv4, parseCidr } from '../../src/common/address.ts';

type Value = string | number | { readonly [key: string]: Value };
type Child = Node | number | null;
type Node = [Child, Child];

/** The differences between the files of real providers. */
export interface MmdbShape {
  readonly recordSize?: 24 | 28 | 32;
  /** 4: a tree for IPv4 alone. */
  readonly ipVersion?: 4 | 6;
  /** A text; anything else is damage. */
  readonly databaseType?: Value;
}

/**
 * Writes a database in MaxMind's format, version 2.0 (https://maxmind.github.io/MaxMind-DB/): a record for each block, the
 * longer block before the shorter one. IPv4 blocks lie below ::/96, as in real files.
 */
export function writeMmdb(
  records: readonly (readonly [block: string, record: Value])[],
  { recordSize = 24, ipVersion = 6, databaseType = 'GeoLite2-ASN' }: MmdbShape = {},
): Buffer {
  const root: Node = [null, null];
  const values: Buffer[] = [];
  let size = 0;
  const blocks = records.map(([block, record]) => ({ path: pathOf(block, ipVersion), record }));
  for (const { path, record } of blocks.sort((a, b) => a.path.length - b.path.length)) {
    const value = encode(record);
    plant(root, path, size);
    values.push(value);
    size += value.length;
  }
  const nodes: Node[] = [];
  const number = (node: Node): void => {
    nodes.push(node);
    for (const child of node) if (Array.isArray(child)) number(child);
  };
  number(root);
  const numbers = new Map(nodes.map((node, i) => [node, i]));
  const pointer = (child: Child): number =>
    Array.isArray(child) ? (numbers.get(child) ?? 0) : child === null ? nodes.length : nodes.length + 16 + child;
  const tree = nodes.map(([left, right]) => packNode(pointer(left), pointer(right), recordSize));
  const metadata = {
    node_count: nodes.length,
    record_size: recordSize,
    ip_version: ipVersion,
    database_type: databaseType,
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_789_000_000,
  };
  const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1');
  return Buffer.concat([...tree, Buffer.alloc(16), ...values, marker, encode(metadata)]);
}

function pathOf(block: string, ipVersion: 4 | 6): number[] {
  const cidr = parseCidr(block);
  if (!cidr) throw new SyntaxError(`Cannot read block "${block}"`);
  const { address, bits } = cidr;
  const path = Array.from({ length: bits }, (_, i) => ((address[i >>> 5] ?? 0) >>> (31 - (i & 31))) & 1);
  if (!isIPv4(address)) return path;
  return [...new Array<number>(ipVersion === 4 ? 0 : 96).fill(0), ...path.slice(96)];
}

function plant(root: Node, path: readonly number[], value: number): void {
  let node = root;
  for (const bit of path.slice(0, -1)) {
    const child = node[bit];
    const next: Node = Array.isArray(child) ? child : [child ?? null, child ?? null];
    node[bit] = next;
    node = next;
  }
  node[path.at(-1) ?? 0] = value;
}

function packNode(left: number, right: number, recordSize: number): Buffer {
  const hex = (pointer: number): string => pointer.toString(16).padStart(recordSize / 4, '0');
  if (recordSize !== 28) return Buffer.from(hex(left) + hex(right), 'hex');
  return Buffer.from(hex(left).slice(1) + hex(left).slice(0, 1) + hex(right), 'hex');
}

function encode(value: Value): Buffer {
  if (typeof value === 'string') return Buffer.concat([control(2, Buffer.byteLength(value)), Buffer.from(value)]);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return Buffer.concat([control(6, 4), bytes]);
  }
  const entries = Object.entries(value);
  return Buffer.concat([control(7, entries.length), ...entries.flatMap(([key, of]) => [encode(key), encode(of)])]);
}

function control(type: number, size: number): Buffer {
  if (size < 29) return Buffer.of((type << 5) | size);
  if (size < 285) return Buffer.of((type << 5) | 29, size - 29);
  return Buffer.of((type << 5) | 30, (size - 285) >>> 8, (size - 285) & 255);
}
