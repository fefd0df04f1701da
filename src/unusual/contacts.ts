import type { Owner } from './evidence.ts';
import { decodeRecord, type UnusualRecord } from './records.ts';
import { ownerJson, timeText } from './summary.ts';
import type { ThingKind, WorkloadMemory } from './workload-memory.ts';

/** That a workload was connected to an operator. Times are milliseconds since 1970. */
export interface Contact {
  readonly owner: Owner;
  /** Who opened the connections: the workload or the operator. */
  readonly direction: 'outbound' | 'inbound';
  readonly asn: number;
  readonly firstAt: number;
  readonly lastAt: number;
}

/** A part of all contacts, by owner, direction and ASN; `next` is the cursor of the next part, null after the last one. */
export interface ContactPage {
  readonly contacts: readonly Contact[];
  readonly next: string | null;
}

/** The keys of the records that have contacts begin with one of these. */
export const CONTACT_PREFIXES: readonly string[] = ['unusual:1:', 'first:1:'];

/** The kinds of things that are operators. */
const DIRECTIONS: Partial<Record<ThingKind, Contact['direction']>> = {
  operator: 'outbound',
  client: 'inbound',
  administrator: 'inbound',
};

/** Collects contacts; of several times of one contact, the first and the last count. */
export class Contacts {
  readonly #contacts = new Map<string, Contact>();

  /** Adds a record of a store, or a first-seen time of peerscope 0.1 as `{key, text: time}`; ignores all others. */
  addRecord(record: UnusualRecord, latest: number, lastAt = 0): void {
    const decoded = decodeRecord(record, latest);
    if (!decoded?.entry) return;
    const { owner, kind, what, entry } = decoded;
    this.add(owner, kind, what, { firstAt: entry.firstAt, lastAt: Math.max(entry.lastAt, Math.min(lastAt, latest)) });
  }

  add(
    { namespace, workload }: Owner,
    kind: ThingKind,
    what: string,
    { firstAt, lastAt }: { readonly firstAt: number; readonly lastAt: number },
  ): void {
    const direction = DIRECTIONS[kind];
    const [, digits] = /^AS([1-9]\d{0,9})$/.exec(what) ?? [];
    if (direction === undefined || digits === undefined) return;
    const contact = { owner: { namespace, workload }, direction, asn: Number(digits), firstAt, lastAt };
    const key = cursorOf(contact);
    const known = this.#contacts.get(key);
    this.#contacts.set(key, {
      ...contact,
      firstAt: Math.min(firstAt, known?.firstAt ?? Infinity),
      lastAt: Math.max(lastAt, known?.lastAt ?? -Infinity),
    });
  }

  /** In the order of pages. */
  sorted(): Contact[] {
    return [...this.#contacts.values()].sort(compare);
  }
}

/** The contacts after a cursor, at most `most`; null if the cursor is not valid. */
export function contactPage(
  workloads: Iterable<WorkloadMemory>,
  after: string | null,
  most: number,
): ContactPage | null {
  const start = after === null ? null : readCursor(after);
  if (after !== null && !start) return null;
  const rest = [...workloads].filter((owner) => !start || compareOwners(owner, start.owner) >= 0).sort(compareOwners);
  const found: Contact[] = [];
  for (const memory of rest) {
    const contacts = new Contacts();
    for (const [kind, things] of memory.things)
      if (DIRECTIONS[kind]) for (const [what, entry] of things) contacts.add(memory, kind, what, entry);
    for (const contact of contacts.sorted()) if (!start || compare(contact, start) > 0) found.push(contact);
    if (found.length > most) break;
  }
  const contacts = found.slice(0, most);
  const last = found.length > most ? contacts.at(-1) : undefined;
  return { contacts, next: last ? cursorOf(last) : null };
}

/** A page as the API shows it. */
export function historyJson({ contacts, next }: ContactPage, nameOf: (asn: number) => string | null): object {
  return {
    history: contacts.map(({ owner, direction, asn, firstAt, lastAt }) => ({
      ...ownerJson(owner),
      ...{ direction, asn, as_name: nameOf(asn), first_seen: timeText(firstAt), last_seen: timeText(lastAt) },
    })),
    next,
  };
}

type Place = Pick<Contact, 'owner' | 'direction' | 'asn'>;

function cursorOf({ owner: { namespace, workload }, direction, asn }: Place): string {
  return JSON.stringify([namespace, workload, direction, asn]);
}

function readCursor(text: string): Place | null {
  try {
    const value: unknown = JSON.parse(text);
    if (!Array.isArray(value) || value.length !== 4) return null;
    const [namespace, workload, direction, asn] = value as unknown[];
    if (typeof namespace !== 'string' || typeof workload !== 'string' || typeof asn !== 'number') return null;
    return direction === 'outbound' || direction === 'inbound'
      ? { owner: { namespace, workload }, direction, asn }
      : null;
  } catch {
    return null;
  }
}

function compareOwners(a: Owner, b: Owner): number {
  return compareTexts(a.namespace, b.namespace) || compareTexts(a.workload, b.workload);
}

function compare(a: Place, b: Place): number {
  return compareOwners(a.owner, b.owner) || compareTexts(a.direction, b.direction) || a.asn - b.asn;
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
