import type { Address, Cidr } from '../model.ts';

const V4_PREFIX = 0xffff;

/** Returns true if an address is IPv4 (stored as ::ffff:a.b.c.d). */
export function isIPv4(address: Address): boolean {
  return address[0] === 0 && address[1] === 0 && address[2] === V4_PREFIX;
}

/** Returns the IPv4 address with these 32 bits. */
export function ipv4(bits: number): Address {
  return [0, 0, V4_PREFIX, bits >>> 0];
}

/**
 * Parses an IPv4 or IPv6 address (RFC 4291 section 2.2; IPv4 in four decimal parts without leading zeros). An
 * IPv4-mapped IPv6 address becomes the IPv4 address. Returns undefined for anything else, including a zone ("%eth0").
 */
export function parseAddress(text: string): Address | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(':')) {
    const bits = parseDottedQuad(text);
    return bits === undefined ? undefined : ipv4(bits);
  }
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '', true) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const word = (i: number): number => (((groups[i] ?? 0) << 16) | (groups[i + 1] ?? 0)) >>> 0;
  return [word(0), word(2), word(4), word(6)];
}

/** Parses colon-separated 16-bit groups. The last group may be a dotted quad at the end of the text. */
function parseGroups(text: string, mayEndInQuad: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [i, part] of parts.entries()) {
    if (mayEndInQuad && i === parts.length - 1 && part.includes('.')) {
      const bits = parseDottedQuad(part);
      if (bits === undefined) return undefined;
      groups.push(bits >>> 16, bits & 0xffff);
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

function parseDottedQuad(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  let bits = 0;
  for (const part of match.slice(1)) {
    const byte = Number(part);
    if (byte > 255 || (part.length > 1 && part.startsWith('0'))) return undefined;
    bits = bits * 256 + byte;
  }
  return bits;
}

/** Formats an address in canonical form: RFC 5952 for IPv6, dotted quad for IPv4. */
export function formatAddress(address: Address): string {
  const [a, b, c, d] = address;
  if (isIPv4(address)) return `${d >>> 24}.${(d >>> 16) & 255}.${(d >>> 8) & 255}.${d & 255}`;
  const groups = [a, b, c, d].flatMap((word) => [word >>> 16, word & 0xffff]);
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) [start, length] = [i, end - i];
  }
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`;
}

/** Formats an address and port: "192.0.2.1:443" or "[2001:db8::1]:443". */
export function formatEndpoint(address: Address, port: number): string {
  return isIPv4(address) ? `${formatAddress(address)}:${port}` : `[${formatAddress(address)}]:${port}`;
}

/** Clears all bits of an address after the first `bits` bits (0-128). */
export function maskAddress(address: Address, bits: number): Address {
  const word = (i: number): number => {
    const kept = Math.min(32, Math.max(0, bits - i * 32));
    return kept === 0 ? 0 : ((address[i] ?? 0) & (0xffffffff << (32 - kept))) >>> 0;
  };
  return [word(0), word(1), word(2), word(3)];
}

/** Returns true if two addresses are equal. */
export function sameAddress(a: Address, b: Address): boolean {
  return a[3] === b[3] && a[0] === b[0] && a[1] === b[1] && a[2] === b[2];
}

/** Compares addresses by their 128 bits. */
export function compareAddresses(a: Address, b: Address): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3];
}

/** Returns true if a block contains an address. An IPv6 block, including "::/0", contains no IPv4 address. */
export function cidrContains(cidr: Cidr, address: Address): boolean {
  if (cidr.bits < 96 && isIPv4(address)) return false;
  const whole = cidr.bits >>> 5;
  const rest = cidr.bits & 31;
  if (rest > 0 && ((cidr.address[whole] ?? 0) ^ (address[whole] ?? 0)) >>> (32 - rest) !== 0) return false;
  for (let i = whole - 1; i >= 0; i--) if (cidr.address[i] !== address[i]) return false;
  return true;
}

/**
 * Parses a block such as "10.0.0.0/8" or "2001:db8::/32". An address alone is a block of one. Rejects bits set after
 * the prefix, because "10.1.2.3/8" is more likely a mistake. Returns undefined if invalid.
 */
export function parseCidr(text: string): Cidr | undefined {
  const [base = '', length, ...rest] = text.split('/');
  const address = parseAddress(base);
  if (!address || rest.length > 0) return undefined;
  const offset = base.includes(':') ? 0 : 96;
  if (length !== undefined && !/^(0|[1-9]\d{0,2})$/.test(length)) return undefined;
  const bits = length === undefined ? 128 : Number(length) + offset;
  if (bits > 128 || !sameAddress(maskAddress(address, bits), address)) return undefined;
  return { address, bits };
}

/** Formats a block in canonical form. */
export function formatCidr(cidr: Cidr): string {
  const offset = isIPv4(cidr.address) && cidr.bits >= 96 ? 96 : 0;
  return `${formatAddress(cidr.address)}/${cidr.bits - offset}`;
}
