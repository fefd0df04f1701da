/** Of a connection that is gone: when it opened, in milliseconds since 1970. */
interface Meeting {
  readonly openedAt: number;
}

const MOST = 10_000;

/**
 * Meetings of connections that closed before all was known of them, by what they wait for: of those of one name the earliest. At most
 * 10,000; beyond, all those go that wait for what has been waited for longest.
 */
export class ClosedMeetings<Cause, M extends Meeting> {
  readonly #causes = new Map<Cause, Map<string, M>>();
  #size = 0;

  add(cause: Cause, name: string, meeting: M): void {
    const known = this.#causes.get(cause)?.get(name);
    if (known && known.openedAt <= meeting.openedAt) return;
    if (!known && this.#size++ >= MOST) this.#giveUpOldest();
    const waiting = this.#causes.get(cause) ?? new Map<string, M>();
    this.#causes.set(cause, waiting.set(name, meeting));
  }

  /** Hands out those that wait for this, for good. */
  take(cause: Cause): M[] {
    const waiting = this.#causes.get(cause);
    if (!waiting) return [];
    this.#causes.delete(cause);
    this.#size -= waiting.size;
    return [...waiting.values()];
  }

  /** Hands out those that wait for this, for good where `takes`, which adds none, says so. */
  offer(cause: Cause, takes: (meeting: M) => boolean): void {
    const waiting = this.#causes.get(cause);
    if (!waiting) return;
    for (const [name, meeting] of waiting) if (takes(meeting) && waiting.delete(name)) this.#size--;
    if (waiting.size === 0) this.#causes.delete(cause);
  }

  #giveUpOldest(): void {
    const [oldest] = this.#causes.keys();
    if (oldest !== undefined) this.take(oldest);
  }
}
