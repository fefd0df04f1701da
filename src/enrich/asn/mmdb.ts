import { Reader, type Response } from 'mmdb-lib';
import type { Cache } from 'mmdb-lib/lib/types.js';
import { formatAddress, ipv4, isIPv4 } from '../../common/address.ts';
import { cleanLabel } from '../../common/sanitize.ts';
import type { Address } from '../../model.ts';
import { isReservedAsn } from './cache.ts';
import { loadedBytesMost, openFile, type AsnRecord, type Lookup } from './file-database.ts';
import { checkValueSize, ValueTooLarge } from './mmdb-limits.ts';

/** How many ranges from the start of each address family are checked for an ASN. */
const PROBES = 1_000;
const IPV6_START: Address = [0x20000000, 0, 0, 0];

/** What comes before the metadata, which is at most 128 KiB long. */
const METADATA_MARKER = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1');
const METADATA_BYTES = 131_072;
const SEPARATOR_BYTES = 16;

/** GeoLite2-ASN, GeoIP2-ISP, DB-IP and ip-location-db; IPinfo; others. */
const ASN_KEYS = ['autonomous_system_number', 'asn', 'as_number'];
const NAME_KEYS = ['autonomous_system_organization', 'as_name', 'name', 'as_organization'];

/** Reads a file in MaxMind DB format. Rejects with the reason if the format is wrong or the file contains no ASNs. */
export async function readMmdb(file: string, most = loadedBytesMost()): Promise<Buffer<ArrayBuffer>> {
  const handle = await openFile(file, most);
  try {
    const bytes = await handle.readFile();
    parseMmdb(bytes);
    return bytes;
  } finally {
    await handle.close();
  }
}

/**
 * Parses an ASN database in MaxMind DB format (https://maxmind.github.io/MaxMind-DB/) with records of GeoLite2-ASN,
 * DB-IP, IPinfo or ip-location-db. Throws if the format is wrong or the records have no ASN, as in a city database.
 * An address is unknown if it has no record, or if its record has no ASN, is damaged or too large.
 */
export function parseMmdb(bytes: Buffer): Lookup {
  const { look, type, tooLarge } = openMmdb(bytes);
  const isUsable = holdsAsn(look);
  if (tooLarge[0]) throw tooLarge[0];
  if (isUsable) return lookupWith(look);
  const shown = typeof type === 'string' ? JSON.stringify(cleanLabel(type)) : 'unknown';
  throw new Error(`contains no ASNs (database type: ${shown})`);
}

/** Looks up addresses in a file that `parseMmdb` has accepted. */
export function lookupMmdb(bytes: Buffer): Lookup {
  return lookupWith(openMmdb(bytes).look);
}

type Look = (address: Address) => { readonly record: unknown; readonly bits: number };

function lookupWith(look: Look): Lookup {
  return (address) => {
    const { record, bits } = look(address);
    return parseRecord(record, bits);
  };
}

/** `tooLarge` has the first error of a record that was not decoded. */
function openMmdb(bytes: Buffer): { look: Look; type: unknown; tooLarge: readonly ValueTooLarge[] } {
  /** The record that is about to be decoded is checked first. */
  let isChecked = false;
  const cache: Cache = {
    get: (offset) => {
      if (!isChecked) checkValueSize(bytes, Number(offset), reader.metadata.searchTreeSize + SEPARATOR_BYTES);
      isChecked = true;
      return undefined;
    },
    set: () => undefined,
  };
  const reader = openReader(bytes, cache);
  const tooLarge: ValueTooLarge[] = [];
  const look: Look = (address) => {
    // In an IPv4 tree, the first 32 bits of an IPv6 address would match an unrelated record.
    if (!isIPv4(address) && reader.metadata.ipVersion === 4) return { record: null, bits: 0 };
    isChecked = false;
    try {
      const [record, bits] = reader.getWithPrefixLength(formatAddress(address));
      return { record, bits: isIPv4(address) ? bits + 96 : bits };
    } catch (error) {
      if (error instanceof ValueTooLarge && tooLarge.length === 0) tooLarge.push(error);
      return { record: null, bits: 128 };
    }
  };
  return { look, type: reader.metadata.databaseType, tooLarge };
}

function openReader(bytes: Buffer, cache: Cache): Reader<Response> {
  try {
    const start = Math.max(0, bytes.length - METADATA_BYTES);
    const marker = bytes.subarray(start).lastIndexOf(METADATA_MARKER);
    if (marker < 0) throw new Error('no metadata');
    const metadata = start + marker + METADATA_MARKER.length;
    checkValueSize(bytes, metadata, metadata);
    return new Reader(bytes, { cache });
  } catch (error) {
    throw new Error('not an MMDB file', { cause: error });
  }
}

function holdsAsn(look: Look): boolean {
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

/** Returns the address after a block of length `bits`; undefined at the end of the address family. */
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

/** GeoIP2-Enterprise and similar databases keep the AS fields in `traits`. */
function parseRecord(record: unknown, bits: number): AsnRecord | undefined {
  const whole = Object(record) as Record<string, unknown>;
  return parseFields(whole, bits) ?? parseFields(Object(whole['traits']) as Record<string, unknown>, bits);
}

function parseFields(fields: Record<string, unknown>, bits: number): AsnRecord | undefined {
  const asn = ASN_KEYS.map((key) => parseAsn(fields[key])).find((number) => number !== undefined);
  if (asn === undefined) return undefined;
  if (isReservedAsn(asn)) return { asns: [], name: null, asCountry: null, bits };
  const name = NAME_KEYS.map((key) => fields[key]).find((text) => typeof text === 'string' && text !== '');
  return { asns: [asn], name: (typeof name === 'string' && cleanLabel(name).trim()) || null, asCountry: null, bits };
}

/** Parses 1221, "1221" or "AS1221". */
function parseAsn(value: unknown): number | undefined {
  if (typeof value !== 'number' && typeof value !== 'string') return undefined;
  const [, digits] = /^(?:AS)?(\d{1,10})$/i.exec(String(value)) ?? [];
  return digits !== undefined && Number(digits) < 2 ** 32 ? Number(digits) : undefined;
}
