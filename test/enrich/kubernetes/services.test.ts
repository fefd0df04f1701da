import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAddress } from '../../../src/common/address.ts';
import { readEndpointSlice, readService } from '../../../src/enrich/kubernetes/services.ts';

const metadata = { namespace: 'shop', name: 'web' };

test('reads internal and external addresses and ports of a Service', () => {
  const service = readService({
    metadata,
    spec: {
      type: 'LoadBalancer',
      clusterIP: '10.96.0.7',
      clusterIPs: ['10.96.0.7', 'fd00:96::7'],
      externalIPs: ['192.0.2.80'],
      ports: [
        { name: 'http', port: 80, protocol: 'TCP', targetPort: 8080, nodePort: 30080 },
        { name: 'dns', port: 53, protocol: 'UDP', targetPort: 'dns' },
        { port: 'none' },
      ],
    },
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }, { hostname: 'lb.example' }] } },
  });
  expect(service?.clusterAddresses.map(formatAddress)).toEqual(['10.96.0.7', 'fd00:96::7']);
  expect(service?.otherAddresses.map(formatAddress)).toEqual(['192.0.2.80', '203.0.113.9']);
  expect(service?.ports).toEqual([
    { name: 'http', port: 80, transport: 'tcp', nodePort: 30_080 },
    { name: 'dns', port: 53, transport: 'udp' },
  ]);
});

test.each(['None', '', undefined])('reads no address from %j', (clusterIP) => {
  expect(readService({ metadata, spec: { clusterIP } })?.clusterAddresses).toEqual([]);
});

test('reads the endpoint addresses of an EndpointSlice', () => {
  const slice = readEndpointSlice({
    metadata: { ...metadata, name: 'web-abc12', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.244.1.5'], conditions: { ready: true } }, { addresses: ['10.244.2.9'] }],
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  });
  expect(slice).toMatchObject({ namespace: 'shop', name: 'web-abc12', service: 'web' });
  expect(slice?.addresses.map(formatAddress)).toEqual(['10.244.1.5', '10.244.2.9']);
  expect(slice?.ports).toEqual([{ name: 'http', port: 8080, transport: 'tcp' }]);
});

test('skips an EndpointSlice without a Service', () => {
  expect(readEndpointSlice({ metadata, endpoints: [{ addresses: ['10.244.1.5'] }] })).toBeNull();
});

test('never throws for any object', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.anything(), fc.record({ metadata: fc.constant(metadata), spec: fc.anything() })),
      (object) => {
        readService(object);
        readEndpointSlice(object);
      },
    ),
  );
});
