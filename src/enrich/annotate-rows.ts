import { formatAddress, parseAddress } from '../common/address.ts';
import type { Row, Rules } from '../model.ts';
import type { AsnCache } from './asn/cache.ts';
import { mayBeAsked, networkOf } from '../common/network-class.ts';
import type { KnownAnswers } from './asn/open.ts';

/**
 * Puts network and ASN into rows that no scan made. The ASNs come from what is known already: nothing is asked, and a row without a whole
 * remote address gets none. The addresses in `own` are `self`.
 */
export async function describePeers(
  rows: readonly Row[],
  {
    rules,
    cache,
    known: answers,
    now,
  }: { rules: Rules; cache: AsnCache | null; known: KnownAnswers | null; now: number },
  own: ReadonlySet<string> = new Set(),
): Promise<void> {
  const peers = rows.flatMap((row) => {
    const address = parseAddress(row.remote_address ?? '');
    if (!address || row.direction === 'listen') return [];
    return [{ row, remote: networkOf(address, (other) => own.has(formatAddress(other)), rules.networks) }];
  });
  const known = peers.filter(({ remote }) =>
    mayBeAsked(remote, rules.asnNeverSend, rules.networks, cache?.questionOf(remote.address)),
  );
  for (const { remote } of known) cache?.lookup(remote.address, now);
  if (cache && answers) cache.accept(await answers.recall(cache.takeQuestions()));
  for (const { row, remote } of peers) {
    row.network = remote.network;
    row.asn = remote.asn;
  }
  for (const { row, remote } of known) {
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
