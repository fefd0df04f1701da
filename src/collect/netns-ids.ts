import type { Address } from '../model.ts';
import type { ScannedNamespaces } from './namespace-tables.ts';

/** The nsid of events of the own namespace. */
export const OWN_NSID = -1;

/**
 * Which network namespace an nsid names. The kernel gives a namespace an nsid of its own in each other namespace (man 8 ip-netns), so
 * the exporter cannot ask for the ids of another process; it learns them from the local addresses of ended connections, which one
 * namespace alone has, or from the kernel where the agent runs beside it. An nsid is used again after its namespace has gone: a local
 * address that the namespace does not have ends what was learned.
 */
export class NetnsIds {
  readonly #known: Pick<ScannedNamespaces, 'numbers' | 'isOwn'>;
  readonly #byNsid = new Map<number, number>();
  #fromKernel: ReadonlyMap<number, number> = new Map();
  #checked = new Map<string, number | null>();

  constructor(known: Pick<ScannedNamespaces, 'numbers' | 'isOwn'>) {
    this.#known = known;
  }

  /** Begins a scan. Namespaces that are gone are forgotten; `own` is the number of the namespace that the events come from. */
  begin(own: number | null): void {
    const present = new Set(this.#known.numbers());
    for (const [nsid, number] of this.#byNsid) if (!present.has(number)) this.#byNsid.delete(nsid);
    this.#fromKernel = new Map([...this.#fromKernel].filter(([, number]) => present.has(number)));
    if (own === null) this.#byNsid.delete(OWN_NSID);
    else this.#byNsid.set(OWN_NSID, own);
    this.#checked = new Map();
  }

  /** The number of the namespace of a socket that ended; null if it is not known. */
  namespaceOf(nsid: number, local: Address): number | null {
    if (nsid === OWN_NSID) return this.#byNsid.get(OWN_NSID) ?? null;
    const told = this.#fromKernel.get(nsid);
    if (told !== undefined) return told;
    if (isLoopback(local) || isUnspecified(local)) return this.#byNsid.get(nsid) ?? null;
    const key = `${nsid} ${local.join(' ')}`;
    let number = this.#checked.get(key);
    if (number === undefined) this.#checked.set(key, (number = this.#learn(nsid, local)));
    return number;
  }

  /** Says whether the events of a namespace can be told from others. */
  covers(number: number): boolean {
    return this.#byNsid.values().some((known) => known === number) || [...this.#fromKernel.values()].includes(number);
  }

  /** Takes in the nsids that the kernel gave for namespaces, by number of the namespace. */
  learn(nsids: ReadonlyMap<number, number>): void {
    this.#fromKernel = new Map([...this.#fromKernel, ...[...nsids].map(([number, nsid]) => [nsid, number] as const)]);
  }

  #learn(nsid: number, local: Address): number | null {
    const before = this.#byNsid.get(nsid);
    if (before !== undefined && this.#known.isOwn(before)(local)) return before;
    this.#byNsid.delete(nsid);
    const own = this.#byNsid.get(OWN_NSID);
    let found: number | null = null;
    for (const number of this.#known.numbers()) {
      if (number === own || !this.#known.isOwn(number)(local)) continue;
      if (found !== null) return null;
      found = number;
    }
    if (found !== null) this.#byNsid.set(nsid, found);
    return found;
  }
}

function isUnspecified([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && d === 0 && (c === 0 || c === 0xffff);
}

function isLoopback([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && ((c === 0xffff && d >>> 24 === 127) || (c === 0 && d === 1));
}
