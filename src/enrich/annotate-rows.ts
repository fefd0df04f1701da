import { formatAddress, parseAddress } from '../common/address.ts';
import type { Row, Rules } from '../model.ts';
import type { AsnCache } from './asn/cache.ts';
import { mayQuery, networkOf } from '../common/network-class.ts';
import type { StoredAnswers } from './asn/open.ts';

/**
 * Adds network and ASN to rows that no scan produced. ASNs come from answers already known; no query is sent. A row
 * without a complete remote address gets no ASN. An operator-defined network with an ASN names it. Addresses in `localAddresses` get the network `self`.
 */
export async function annotateRows(
  rows: readonly Row[],
  { rules, cache, stored, now }: { rules: Rules; cache: AsnCache | null; stored: StoredAnswers | null; now: number },
  localAddresses: ReadonlySet<string> = new Set(),
): Promise<void> {
  const peers = rows.flatMap((row) => {
    const address = parseAddress(row.remote_address ?? '');
    if (!address || row.direction === 'listen') return [];
    return [{ row, remote: networkOf(address, (other) => localAddresses.has(formatAddress(other)), rules.networks) }];
  });
  const resolvable = peers.filter(({ remote }) =>
    mayQuery(remote, rules.asnNeverSend, rules.networks, cache?.blockOf(remote.address)),
  );
  for (const { remote } of resolvable) cache?.lookup(remote.address, now);
  if (cache && stored) cache.accept(await stored.read(cache.takeQueries()));
  for (const { row, remote } of peers) {
    row.network = remote.network;
    row.asn = remote.asn;
    if (remote.asn !== null) row.as_name = remote.network;
  }
  for (const { row, remote } of resolvable) {
    const origin = cache?.lookup(remote.address, now);
    if (!origin) continue;
    row.asns = [...origin.asns];
    row.asn = origin.asns[0] ?? 0;
    row.as_name = origin.name;
    row.bgp_prefix = origin.prefix;
    row.registry = origin.registry;
    row.registry_country = origin.registryCountry;
  }
}
