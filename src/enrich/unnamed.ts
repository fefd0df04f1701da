import type { Address, Direction, OwnerLabels } from '../model.ts';

/** A meeting whose owner has no whole name yet; the operator is known by its ASN or, while that is "", by the bucket asked for. */
export interface UnnamedMeeting {
  readonly direction: Direction;
  readonly asn: string;
  readonly bucket: string | null;
  readonly address: Address;
  readonly openedAt: number;
}

const MOST = 10_000;

/**
 * Meetings of connections that closed before their owner had a whole name: of those with one operator or bucket the earliest.
 * At most 10,000; beyond, those of the owner go that has waited longest.
 */
export class UnnamedMeetings {
  readonly #owners = new Map<OwnerLabels, Map<string, UnnamedMeeting>>();
  #size = 0;

  add(owner: OwnerLabels, meeting: UnnamedMeeting): void {
    const key = `${meeting.direction} ${meeting.asn === '' ? meeting.bucket : meeting.asn}`;
    const known = this.#owners.get(owner)?.get(key);
    if (known && known.openedAt <= meeting.openedAt) return;
    const waiting = this.#owners.get(owner) ?? new Map<string, UnnamedMeeting>();
    this.#owners.set(owner, waiting.set(key, meeting));
    if (known || ++this.#size <= MOST) return;
    const [oldest] = this.#owners.keys();
    if (oldest) this.take(oldest);
  }

  /** Hands out the meetings of an owner, for good. */
  take(owner: OwnerLabels): UnnamedMeeting[] {
    const waiting = this.#owners.get(owner);
    if (!waiting) return [];
    this.#owners.delete(owner);
    this.#size -= waiting.size;
    return [...waiting.values()];
  }
}
