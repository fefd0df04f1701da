import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Transport } from '../../src/model.ts';
import { parseServicePorts, parseServices, readServicePorts, readServices } from '../../src/common/etc-services.ts';

const DATABASE = `# Network services, Internet style
tcpmux\t\t1/tcp\t\t\t\t# TCP port service multiplexer
domain\t\t53/tcp\t\t\t\t# Domain Name Server
domain\t\t53/udp
https\t\t443/tcp\t\t\t\t# http protocol over TLS/SSL
https\t\t443/udp\t\t\t\t# HTTP/3
http-alt\t8080/tcp\twebcache
second\t\t8080/tcp
sctp-only\t9899/sctp
 indented\t7/tcp
bad 70000000/tcp
a-name-that-is-longer-than-any-service-has 4242/tcp
\u001b[31mred 4243/tcp
glued 4244/tcpx
`;

test.each<{ transport: Transport; port: number; expected: string | null }>([
  { transport: 'tcp', port: 443, expected: 'https' },
  { transport: 'udp', port: 53, expected: 'domain' },
  { transport: 'udplite', port: 53, expected: 'domain' },
  { transport: 'raw', port: 53, expected: null },
  { transport: 'tcp', port: 8080, expected: 'http-alt' },
  { transport: 'udp', port: 8080, expected: null },
  { transport: 'tcp', port: 9899, expected: null },
  { transport: 'tcp', port: 4242, expected: null },
  { transport: 'tcp', port: 4243, expected: null },
  { transport: 'tcp', port: 4244, expected: null },
])('names port $port of $transport $expected', ({ transport, port, expected }) => {
  expect(parseServices(DATABASE)(transport, port)).toBe(expected);
});

test('returns short names without control characters for any database', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.nat(65_535), (noise, port) => {
      const name = parseServices(`${noise}\t${port}/tcp\n`)('tcp', port);
      if (name !== null) expect(name).toMatch(/^[!-~]{1,32}$/);
    }),
  );
});

test('returns no names without a database', () => {
  expect(readServices('/dev/null/services')('tcp', 443)).toBeNull();
});

test.each<{ transport: Transport | null; name: string; expected: number | null }>([
  { transport: 'tcp', name: 'https', expected: 443 },
  { transport: 'udplite', name: 'domain', expected: 53 },
  { transport: 'raw', name: 'https', expected: null },
  { transport: 'tcp', name: 'webcache', expected: 8080 },
  { transport: 'udp', name: 'webcache', expected: null },
  { transport: null, name: 'https', expected: 443 },
  { transport: null, name: 'tcpmux', expected: 1 },
  { transport: null, name: 'twice', expected: null },
  { transport: 'udp', name: 'twice', expected: 12 },
  { transport: 'tcp', name: 'shadowed', expected: 14 },
  { transport: 'tcp', name: 'bad', expected: null },
  { transport: 'tcp', name: '#', expected: null },
  { transport: 'tcp', name: '', expected: null },
])('the port of $name in $transport is $expected', ({ transport, name, expected }) => {
  const portOf = parseServicePorts(
    `${DATABASE}twice 11/tcp\ntwice 12/udp\nother 13/tcp shadowed # x\nshadowed 14/tcp\n`,
  );
  expect(portOf(transport, name)).toBe(expected);
});

test('without a database, no name has a port', () => {
  expect(readServicePorts('/dev/null/services')('tcp', 'https')).toBeNull();
});
