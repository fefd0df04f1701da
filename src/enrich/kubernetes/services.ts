import { parseAddress } from '../../common/address.ts';
import { cleanLabel } from '../../common/sanitize.ts';
import type { Address } from '../../model.ts';
import { listIn, numberIn, objectIn, textIn } from './list-parser.ts';

/** A name of a port has at most 63 characters. */
const MAX_PORT_NAME = 63;

/** A port of a Service or of its endpoints; `name` links the two. */
export interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly transport: string;
  /** The port on the addresses of every node. */
  readonly nodePort?: number;
}

/** The parts of a Service that are kept. */
export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** ClusterIPs; empty for a headless Service. */
  readonly clusterAddresses: readonly Address[];
  /** Load balancer addresses and external IPs. */
  readonly otherAddresses: readonly Address[];
  readonly ports: readonly ServicePort[];
}

/** The parts of an EndpointSlice that are kept: the endpoint addresses of a Service. */
export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  readonly service: string;
  readonly addresses: readonly Address[];
  readonly ports: readonly ServicePort[];
}

/** How many values are kept of a Service. */
export function sizeOfService({ clusterAddresses, otherAddresses, ports }: Service): number {
  return 1 + clusterAddresses.length + otherAddresses.length + ports.length;
}

/** How many values are kept of an EndpointSlice. */
export function sizeOfSlice({ addresses, ports }: EndpointSlice): number {
  return 1 + addresses.length + ports.length;
}

/** Parses a Service object of the API; null if namespace or name is missing. */
export function readService(object: unknown): Service | null {
  const service = objectIn(object);
  const names = namesOf(service['metadata']);
  if (!names) return null;
  const spec = objectIn(service['spec']);
  const ingress = listIn(objectIn(objectIn(service['status'])['loadBalancer'])['ingress']);
  return {
    ...names,
    clusterAddresses: addressesIn([spec['clusterIP'], ...listIn(spec['clusterIPs'])]),
    otherAddresses: addressesIn([...listIn(spec['externalIPs']), ...ingress.map((one) => objectIn(one)['ip'])]),
    ports: portsIn(spec['ports']),
  };
}

/** Parses an EndpointSlice object of the API; null if namespace or name is missing, or if it belongs to no Service. */
export function readEndpointSlice(object: unknown): EndpointSlice | null {
  const slice = objectIn(object);
  const names = namesOf(slice['metadata']);
  const service = textIn(objectIn(objectIn(slice['metadata'])['labels'])['kubernetes.io/service-name']);
  if (!names || service === '') return null;
  return {
    ...names,
    service: cleanLabel(service),
    addresses: addressesIn(listIn(slice['endpoints']).flatMap((one) => listIn(objectIn(one)['addresses']))),
    ports: portsIn(slice['ports']),
  };
}

function namesOf(metadata: unknown): { namespace: string; name: string } | null {
  const { namespace, name } = objectIn(metadata);
  const names = { namespace: cleanLabel(textIn(namespace)), name: cleanLabel(textIn(name)) };
  return names.namespace === '' || names.name === '' ? null : names;
}

function addressesIn(values: readonly unknown[]): Address[] {
  return [...new Set(values.map(textIn))].map(parseAddress).filter((address) => address !== undefined);
}

function portsIn(value: unknown): ServicePort[] {
  return listIn(value).flatMap((one) => {
    const { name, port, protocol, nodePort } = objectIn(one);
    const onNodes = numberIn(nodePort);
    const number = numberIn(port);
    const transport = textIn(protocol).slice(0, MAX_PORT_NAME).toLowerCase() || 'tcp';
    return number === null
      ? []
      : [
          {
            name: textIn(name).slice(0, MAX_PORT_NAME),
            port: number,
            transport,
            ...(onNodes && { nodePort: onNodes }),
          },
        ];
  });
}
