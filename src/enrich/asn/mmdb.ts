import { Reader, type Response } from 'mmdb-lib';
import { formatAddress, ipv4, isIPv4 } from '../../common/address.ts';
import { cleanLabel } from '../../common/sanitize.ts';
import type { Address } from '../../model.ts';
import { isReservedAsn } from './cache.ts';
import { openFile, type Finding, type Lookup } from './file-database.ts';

/** So many ranges from the start of each family are looked at for an ASN. */
const PROBES = 1_000;
const IPV6_START: Address = [0x20000000, 0, 0, 0];

/** GeoLite2-ASN, GeoIP2-ISP, DB-IP and ip-location-db; IPinfo; others. */
const ASN_KEYS = ['autonomous_system_number', 'asn', 'as_number'];
const NAME_KEYS = ['autonomous_system_organization', 'as_name', 'name', 'as_organization'];

/** Reads a file in MaxMind's format; rejects with the reason where it is none, or holds no ASNs. */
export async function loadMmdb(file: string): Promise<Lookup> {
  const handle = await openFile(file);
  try {
    return parseMmdb(await handle.readFile());
  } finally {
    await handle.close();
  }
}

/**
 * Reads an ASN database in MaxMind's format (https://maxmind.github.io/MaxMind-DB/) with the records of GeoLite2-ASN, DB-IP,
 * IPinfo or ip-location-db. Throws for bytes of another format, and for a database whose records name no ASN, such as one of
 * cities. An address without a record, or whose record names no ASN or is damaged, is one of which nothing is known.
 */
export function parseMmdb(bytes: Buffer): Lookup {
  const reader = openReader(bytes);
  const look = (address: Address): { record: unknown; bits: number } => {
    // In a tree for IPv4 the first 32 bits of an IPv6 address would find a stranger's record.
    if (!isIPv4(address) && reader.metadata.ipVersion === 4) return { record: null, bits: 0 };
    try {
      const [record, bits] = reader.getWithPrefixLength(formatAddress(address));
      return { record, bits: isIPv4(address) ? bits + 96 : bits };
    } catch {
      return { record: null, bits: 128 };
    }
  };
  const lookup: Lookup = (address) => {
    const { record, bits } = look(address);
    return parseRecord(record, bits);
  };
  if (!holdsAsn(look)) {
    const type: unknown = reader.metadata.databaseType;
    const said =
      typeof type === 'string' ? `its type is ${JSON.stringify(cleanLabel(type))}` : 'it does not say its type';
    throw new Error(`it holds no ASNs (${said})`);
  }
  return lookup;
}

function openReader(bytes: Buffer): Reader<Response> {
  try {
    return new Reader(bytes);
  } catch (error) {
    throw new Error('it is no MMDB file', { cause: error });
  }
}

function holdsAsn(look: (address: Address) => { record: unknown; bits: number }): boolean {
  return [ipv4(0), IPV6_START].some((start) => {
    let address: Address | undefined = start;
    for (let probe = 0; address && probe < PROBES; probe++) {
      const { record, bits } = look(address);
      if (parseRecord(record, bits)) return true;
      address = nextBlock(address, bits);
    }
    return false;
  });
}

/** The address after the block of so many bits that begins at an address; undefined after the last of its family. */
function nextBlock(address: Address, bits: number): Address | undefined {
  const words = [...address];
  const lowest = isIPv4(address) ? 3 : 0;
  let step = 2 ** ((128 - bits) % 32);
  for (let word = Math.ceil(bits / 32) - 1; word >= lowest; word--) {
    const sum = (words[word] ?? 0) + step;
    words[word] = sum % 2 ** 32;
    if (sum < 2 ** 32) return [words[0] ?? 0, words[1] ?? 0, words[2] ?? 0, words[3] ?? 0];
    step = 1;
  }
  return undefined;
}

/** GeoIP2-Enterprise, and others after it, have the fields of an AS in `traits`. */
function parseRecord(record: unknown, bits: number): Finding | undefined {
  const whole = Object(record) as Record<string, unknown>;
  return parseFields(whole, bits) ?? parseFields(Object(whole['traits']) as Record<string, unknown>, bits);
}

function parseFields(fields: Record<string, unknown>, bits: number): Finding | undefined {
  const asn = ASN_KEYS.map((key) => parseAsn(fields[key])).find((number) => number !== undefined);
  if (asn === undefined) return undefined;
  if (isReservedAsn(asn)) return { asns: [], name: null, asCountry: null, bits };
  const name = NAME_KEYS.map((key) => fields[key]).find((text) => typeof text === 'string' && text !== '');
  return { asns: [asn], name: (typeof name === 'string' && cleanLabel(name).trim()) || null, asCountry: null, bits };
}

/** 1221, "1221" or "AS1221". */
function parseAsn(value: unknown): number | undefined {
  if (typeof value !== 'number' && typeof value !== 'string') return undefined;
  const [, digits] = /^(?:AS)?(\d{1,10})$/i.exec(String(value)) ?? [];
  return digits !== undefined && Number(digits) < 2 ** 32 ? Number(digits) : undefined;
}
