import { cidrContains, formatAddress, formatEndpoint } from '../common/address.ts';
import type { Address, EndpointGroupRule, Transport } from '../model.ts';

/** The service side of a connection; raw sockets have no port. */
export interface Endpoint {
  readonly address: Address;
  readonly port: number | null;
  readonly transport: Transport;
}

/** What is known of an endpoint that is a remote: its network, and its ASN: 0 for not announced, null while not resolved. */
export interface EndpointPeer {
  readonly network: string;
  readonly asn: number | null;
}

/**
 * Names an endpoint so that names stay few over days: by the first rule that matches, else as the cluster calls it (a Service
 * `namespace/name:port`, a pod `namespace/workload:port`), else a public remote by its ASN (`AS64500:443`, `public:443` while
 * unresolved and where not announced), else by its own address (`192.0.2.1:443`, `[2001:db8::1]:443`). Without a port the name
 * ends before the colon. `peer` is null where the endpoint is the local end.
 */
export function endpointGroup(
  endpoint: Endpoint,
  peer: EndpointPeer | null,
  rules: readonly EndpointGroupRule[],
  clusterName: (endpoint: Endpoint) => string | null = () => null,
): string {
  const rule = rules.find((candidate) => matches(candidate, endpoint));
  if (rule) return rule.name;
  const inCluster = clusterName(endpoint);
  if (inCluster !== null) return inCluster;
  const { address, port } = endpoint;
  if (peer?.network === 'public') {
    const name = peer.asn ? `AS${peer.asn}` : 'public';
    return port === null ? name : `${name}:${port}`;
  }
  return port === null ? formatAddress(address) : formatEndpoint(address, port);
}

function matches({ transport, ports, cidrs }: EndpointGroupRule, endpoint: Endpoint): boolean {
  if (transport !== undefined && transport !== endpoint.transport) return false;
  if (ports?.length && (endpoint.port === null || !ports.includes(endpoint.port))) return false;
  return cidrs === undefined || cidrs.some((cidr) => cidrContains(cidr, endpoint.address));
}
