import { cidrContains, formatAddress, formatEndpoint } from '../common/address.ts';
import type { Address, EndpointGroupRule, Transport } from '../model.ts';

/** The service side of a connection. Raw sockets have no port. */
export interface Endpoint {
  readonly address: Address;
  readonly port: number | null;
  readonly transport: Transport;
}

/** The network and ASN of a remote endpoint. ASN 0 means not announced, null means not resolved. */
export interface EndpointPeer {
  readonly network: string;
  readonly asn: number | null;
}

/**
 * Returns a group name with low cardinality: the name of the first matching rule; else the Kubernetes name (a Service
 * as `namespace/name:port`, a pod as `namespace/workload:port`); else the ASN of a public remote (`AS64500:443`, or
 * `public:443` if unresolved or not announced); else the address (`192.0.2.1:443`, `[2001:db8::1]:443`). Without a
 * port, the name ends before the colon. `peer` is null if the endpoint is the local end.
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
