import { formatAddress } from '../common/address.ts';
import { SYN_RECV } from '../collect/net-tcp-udp-raw.ts';
import { mayHaveDnsName } from '../common/network-class.ts';
import type { Peer } from '../enrich/peers.ts';
import type { Address } from '../model.ts';
import type { Scrape } from '../scrape.ts';

/** The reverse DNS name of an address; null without one. */
export interface RemoteName {
  readonly address: Address;
  readonly name: string | null;
}

/** The most addresses looked up per scan. */
const MAX_LOOKUPS = 500;
const MAX_NAMES = 10_000;
/** After this time an address is looked up again. The resolver has a cache of its own. */
const REPEAT_MS = 600_000;

/** The reverse DNS names of remotes. They are looked up elsewhere: addresses go out after a scan, names are there at the next. */
export class RemoteNames {
  readonly #names = new Map<string, string>();
  readonly #askedAt = new WeakMap<Peer, number>();

  /**
   * Returns the remotes of the last scan to look up; `now` in milliseconds. Only remotes in networks where addresses have names, and
   * no connections in SYN_RECV: a remote with a forged address must not cause lookups.
   */
  wanted(scrape: Scrape, now: number): Address[] {
    const { connections } = scrape;
    const addresses: Address[] = [];
    for (let i = 0; i < connections.length && addresses.length < MAX_LOOKUPS; i++) {
      const peer = connections.has(i) ? scrape.peers.of(i) : null;
      if (!peer || connections.state[i] === SYN_RECV || !mayHaveDnsName(peer.network)) continue;
      if (Math.abs(now - (this.#askedAt.get(peer) ?? -Infinity)) < REPEAT_MS) continue;
      this.#askedAt.set(peer, now);
      addresses.push(connections.remoteAddress(i));
    }
    return addresses;
  }

  /** Stores names. */
  learn(answers: readonly RemoteName[]): void {
    for (const { address, name } of answers) {
      const text = formatAddress(address);
      this.#names.delete(text);
      if (name !== null) this.#names.set(text, name);
      if (this.#names.size > MAX_NAMES) this.#names.delete(this.#names.keys().next().value ?? '');
    }
  }

  /** Returns the name of an address in canonical form, or null if unknown. */
  of(address: string): string | null {
    return this.#names.get(address) ?? null;
  }
}
