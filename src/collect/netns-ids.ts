import { isIPv4 } from '../common/address.ts';
import type { Address } from '../model.ts';
import type { ScannedNamespaces } from './namespace-tables.ts';

/** The nsid of events of the own namespace. */
export const OWN_NSID = -1;

/** Answers that are kept within a scan or between two. */
const MAX_ANSWERS = 65_536;

type KnownNamespaces = Pick<ScannedNamespaces, 'numbers' | 'isOwn'>;

/**
 * Which network namespace an nsid names. The kernel gives a namespace an nsid of its own in each other namespace (man 8 ip-netns), so
 * the exporter cannot ask for the ids of another process; it learns them from the local addresses of ended connections, if one
 * namespace alone has the address, or from the kernel where the agent runs beside it.
 *
 * A namespace keeps its nsid. After it has gone, another may get it: between scans a local address that the namespace does not have
 * is therefore not assigned. If the scan finds that the namespace still exists, the address is foreign (a transparent proxy).
 */
export class NetnsIds {
  readonly #namespaces: KnownNamespaces;
  readonly #byNsid = new Map<number, number>();
  readonly #nsidOf = new Map<number, number>();
  #present: ReadonlySet<number> = new Set();
  #isScanning = false;
  /** The answers since the scan began or ended, by nsid and address. */
  readonly #answers = new Map<number | string, number | null>();

  constructor(namespaces: KnownNamespaces) {
    this.#namespaces = namespaces;
  }

  /** Begins to match in a scan. `own` is the number of the namespace that the events come from; namespaces that are gone are forgotten. */
  begin(own: number | null): void {
    this.#isScanning = true;
    this.#answers.clear();
    // A number that the last scan did not find may name another namespace by now.
    for (const [nsid, number] of this.#byNsid) if (!this.#present.has(number)) this.#forget(nsid);
    this.#present = new Set(this.#namespaces.numbers());
    this.#forget(OWN_NSID);
    if (own !== null) this.#set(OWN_NSID, own);
  }

  /** Ends it: from here on, a namespace may have gone and its nsid may name another one. */
  end(): void {
    this.#isScanning = false;
    this.#answers.clear();
  }

  /** The number of the namespace of a socket that ended; null if it is not known. */
  namespaceOf(nsid: number, local: Address): number | null {
    const known = this.#byNsid.get(nsid) ?? null;
    if (nsid === OWN_NSID || isLoopback(local) || isUnspecified(local)) return known;
    const key = isIPv4(local) ? nsid * 0x100000000 + local[3] : `${nsid} ${local.join(' ')}`;
    let answer = this.#answers.get(key);
    if (answer !== undefined) return answer;
    if (this.#answers.size >= MAX_ANSWERS) this.#answers.clear();
    answer = this.#find(nsid, local, known);
    this.#answers.set(key, answer);
    return answer;
  }

  /** Says whether the events of a namespace can be distinguished from others. */
  covers(number: number): boolean {
    return this.#nsidOf.has(number);
  }

  /** Takes in the nsids that the kernel gave for namespaces, by number of the namespace. */
  learn(nsids: ReadonlyMap<number, number>): void {
    for (const [number, nsid] of nsids) this.#set(nsid, number);
  }

  #find(nsid: number, local: Address, known: number | null): number | null {
    const isPresent = known !== null && this.#present.has(known);
    if (isPresent && (this.#isScanning || this.#namespaces.isOwn(known)(local))) return known;
    if (isPresent) return null;
    const found = this.#soleOwnerOf(local);
    if (found === null) return known !== null && this.#namespaces.isOwn(known)(local) ? known : null;
    const other = this.#nsidOf.get(found);
    if (other !== undefined && other !== nsid) {
      // One of the two has a connection with an address of the other: learn both again.
      this.#forget(other);
      return null;
    }
    this.#set(nsid, found);
    return found;
  }

  #soleOwnerOf(local: Address): number | null {
    const own = this.#byNsid.get(OWN_NSID);
    let found: number | null = null;
    for (const number of this.#present) {
      if (number === own || !this.#namespaces.isOwn(number)(local)) continue;
      if (found !== null) return null;
      found = number;
    }
    return found;
  }

  #set(nsid: number, number: number): void {
    this.#forget(nsid);
    const before = this.#nsidOf.get(number);
    if (before !== undefined) this.#byNsid.delete(before);
    this.#byNsid.set(nsid, number);
    this.#nsidOf.set(number, nsid);
    this.#answers.clear();
  }

  #forget(nsid: number): void {
    const number = this.#byNsid.get(nsid);
    if (number === undefined) return;
    this.#byNsid.delete(nsid);
    this.#nsidOf.delete(number);
    this.#answers.clear();
  }
}

function isUnspecified([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && d === 0 && (c === 0 || c === 0xffff);
}

function isLoopback([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && ((c === 0xffff && d >>> 24 === 127) || (c === 0 && d === 1));
}
