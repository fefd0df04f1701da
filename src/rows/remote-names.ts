import { formatAddress } from '../common/address.ts';
import { SYN_RECV } from '../collect/net-tcp-udp-raw.ts';
import { hasNames } from '../common/network-class.ts';
import type { Peer } from '../enrich/peers.ts';
import type { Address } from '../model.ts';
import type { Scrape } from '../scrape.ts';

/** What reverse DNS says of an address; null where that has no name. */
export interface RemoteName {
  readonly address: Address;
  readonly name: string | null;
}

/** How many addresses one scan asks for, and how many names are kept. */
const MOST_ASKED = 500;
const MOST_KEPT = 10_000;
/** Who resolves keeps answers for longer or shorter, and says the same again while they hold. */
const AGAIN_MS = 600_000;

/** The names of remotes, which somebody else finds out: questions go out after a scan, and answers are there for the next. */
export class RemoteNames {
  readonly #names = new Map<string, string>();
  readonly #askedAt = new WeakMap<Peer, number>();

  /**
   * The remotes of the last scan that are to be asked for, at a time in milliseconds: those in networks in which addresses have names,
   * never one that is only SYN_RECV: strangers must not make us ask.
   */
  wanted(scrape: Scrape, now: number): Address[] {
    const { connections } = scrape;
    const addresses: Address[] = [];
    for (let i = 0; i < connections.length && addresses.length < MOST_ASKED; i++) {
      const peer = connections.has(i) ? scrape.peerOf(i) : null;
      if (!peer || connections.state[i] === SYN_RECV || !hasNames(peer.network)) continue;
      if (Math.abs(now - (this.#askedAt.get(peer) ?? -Infinity)) < AGAIN_MS) continue;
      this.#askedAt.set(peer, now);
      addresses.push(connections.remoteAddress(i));
    }
    return addresses;
  }

  /** Takes in answers. */
  learn(answers: readonly RemoteName[]): void {
    for (const { address, name } of answers) {
      const text = formatAddress(address);
      this.#names.delete(text);
      if (name !== null) this.#names.set(text, name);
      if (this.#names.size > MOST_KEPT) this.#names.delete(this.#names.keys().next().value ?? '');
    }
  }

  /** The name of an address in its canonical form, as far as it is known. */
  of(address: string): string | null {
    return this.#names.get(address) ?? null;
  }
}
