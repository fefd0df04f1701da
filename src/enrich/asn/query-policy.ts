import { formatCidr, parseCidr } from '../../common/address.ts';
import type { AsnProviderName } from '../../common/asn-providers.ts';
import type { Cidr, Rules } from '../../model.ts';

/** What an exporter may send to an ASN provider. Commands on its host send nothing more. */
export interface QueryPolicy {
  /** Whether it queries a provider over the network. */
  readonly queries: boolean;
  readonly neverSend: readonly Cidr[];
}

/** The key of the policy in the store. */
export const QUERY_POLICY_KEY = 'policy:1';

/** `decodePolicy` is the inverse. Networks with a name of their own are not sent either. */
export function encodePolicy(
  provider: AsnProviderName,
  { asnNeverSend, networks }: Pick<Rules, 'asnNeverSend' | 'networks'>,
): string {
  const neverSend = [...asnNeverSend, ...networks.flatMap(({ cidrs }) => cidrs)].map((cidr) => formatCidr(cidr));
  return JSON.stringify({ queries: provider === 'cymru' || provider === 'cymru-dns', neverSend });
}

/** Nothing may be sent after a text that is no policy. */
export function decodePolicy(text: string): QueryPolicy {
  try {
    const { queries, neverSend } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    if (!Array.isArray(neverSend)) return { queries: false, neverSend: [] };
    const cidrs = neverSend.map((cidr: unknown) => (typeof cidr === 'string' ? parseCidr(cidr) : undefined));
    return {
      queries: queries === true && !cidrs.includes(undefined),
      neverSend: cidrs.filter((cidr) => cidr !== undefined),
    };
  } catch {
    return { queries: false, neverSend: [] };
  }
}
