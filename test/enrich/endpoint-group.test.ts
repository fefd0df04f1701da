import { describe, expect, test } from 'vitest';
import { parseAddress, parseCidr } from '../../src/common/address.ts';
import type { Endpoint, EndpointPeer } from '../../src/enrich/endpoint-group.ts';
import { endpointGroup } from '../../src/enrich/endpoint-group.ts';
import type { Cidr, EndpointGroupRule } from '../../src/model.ts';

function endpoint(address: string, port: number | null, transport: Endpoint['transport'] = 'tcp'): Endpoint {
  const parsed = parseAddress(address);
  if (!parsed) throw new SyntaxError(`Cannot read address "${address}"`);
  return { address: parsed, port, transport };
}

function cidrOf(text: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) throw new SyntaxError(`Cannot read CIDR "${text}"`);
  return cidr;
}

const example: EndpointPeer = { network: 'public', asn: 64500 };
const unresolved: EndpointPeer = { network: 'public', asn: null };
const notAnnounced: EndpointPeer = { network: 'public', asn: 0 };

describe('without a rule', () => {
  test.each<{ name: string; endpoint: Endpoint; peer: EndpointPeer | null; expected: string }>([
    { name: 'a public remote is its ASN', endpoint: endpoint('8.8.8.8', 443), peer: example, expected: 'AS64500:443' },
    { name: 'IPv6 or not', endpoint: endpoint('2606:4700::1', 443), peer: example, expected: 'AS64500:443' },
    { name: 'unresolved, it is public', endpoint: endpoint('8.8.8.8', 443), peer: unresolved, expected: 'public:443' },
    {
      name: 'not announced, it stays public',
      endpoint: endpoint('8.8.8.8', 53, 'udp'),
      peer: notAnnounced,
      expected: 'public:53',
    },
    {
      name: 'a public remote of a raw socket has no port',
      endpoint: endpoint('8.8.8.8', null, 'raw'),
      peer: example,
      expected: 'AS64500',
    },
    {
      name: 'nor has one that is unresolved',
      endpoint: endpoint('8.8.8.8', null, 'raw'),
      peer: unresolved,
      expected: 'public',
    },
    {
      name: 'a private remote is its address',
      endpoint: endpoint('10.0.0.7', 5432),
      peer: { network: 'private', asn: null },
      expected: '10.0.0.7:5432',
    },
    {
      name: "a remote in an operator's network is its address, with an ASN too",
      endpoint: endpoint('203.0.113.9', 443),
      peer: { network: 'office', asn: 64512 },
      expected: '203.0.113.9:443',
    },
    {
      name: 'an IPv6 address stands in brackets',
      endpoint: endpoint('fd00::7', 5432),
      peer: { network: 'private', asn: null },
      expected: '[fd00::7]:5432',
    },
    {
      name: 'a local end is its address, public or not',
      endpoint: endpoint('8.8.8.8', 443),
      peer: null,
      expected: '8.8.8.8:443',
    },
    { name: 'a local IPv6 end too', endpoint: endpoint('::1', 80), peer: null, expected: '[::1]:80' },
    { name: 'port 0 is a port', endpoint: endpoint('192.0.2.5', 0), peer: null, expected: '192.0.2.5:0' },
    {
      name: 'a raw socket is the address alone',
      endpoint: endpoint('192.0.2.5', null, 'raw'),
      peer: null,
      expected: '192.0.2.5',
    },
    {
      name: 'an IPv6 raw socket is the bare address',
      endpoint: endpoint('fd00::7', null, 'raw'),
      peer: null,
      expected: 'fd00::7',
    },
  ])('$name: $expected', ({ endpoint, peer, expected }) => {
    expect(endpointGroup(endpoint, peer, [])).toBe(expected);
  });
});

describe('with rules', () => {
  const rules: EndpointGroupRule[] = [
    { name: 'replica', cidrs: [cidrOf('10.9.0.0/16'), cidrOf('fd00::/8')], ports: [5432, 5433], transport: 'tcp' },
    { name: 'postgres', cidrs: [cidrOf('10.0.0.0/8')], ports: [5432], transport: 'tcp' },
    { name: 'dns', ports: [53] },
    { name: 'bastion', cidrs: [cidrOf('192.0.2.5')], ports: [] },
    { name: 'nowhere', cidrs: [] },
    { name: 'lite', transport: 'udplite' },
  ];

  test.each<{ name: string; endpoint: Endpoint; peer: EndpointPeer | null; expected: string }>([
    { name: 'the first that matches names it', endpoint: endpoint('10.9.0.1', 5432), peer: null, expected: 'replica' },
    {
      name: 'any of its blocks and ports will do',
      endpoint: endpoint('fd00::1', 5433),
      peer: null,
      expected: 'replica',
    },
    {
      name: 'a later one where the first does not match',
      endpoint: endpoint('10.1.0.1', 5432),
      peer: null,
      expected: 'postgres',
    },
    {
      name: 'another port does not match',
      endpoint: endpoint('10.1.0.1', 5433),
      peer: null,
      expected: '10.1.0.1:5433',
    },
    {
      name: 'another transport does not match',
      endpoint: endpoint('10.1.0.1', 5432, 'udp'),
      peer: null,
      expected: '10.1.0.1:5432',
    },
    {
      name: 'another block does not match',
      endpoint: endpoint('11.0.0.1', 5432),
      peer: null,
      expected: '11.0.0.1:5432',
    },
    {
      name: 'without blocks and transport the port decides',
      endpoint: endpoint('8.8.8.8', 53, 'udp'),
      peer: example,
      expected: 'dns',
    },
    {
      name: 'a rule comes before the ASN, resolved or not',
      endpoint: endpoint('8.8.4.4', 53),
      peer: unresolved,
      expected: 'dns',
    },
    { name: 'without ports the block decides', endpoint: endpoint('192.0.2.5', 8080), peer: null, expected: 'bastion' },
    {
      name: 'without ports a raw socket matches too',
      endpoint: endpoint('192.0.2.5', null, 'raw'),
      peer: null,
      expected: 'bastion',
    },
    {
      name: 'a raw socket has none of the ports',
      endpoint: endpoint('10.1.0.1', null, 'raw'),
      peer: null,
      expected: '10.1.0.1',
    },
    { name: 'the transport alone decides', endpoint: endpoint('11.0.0.1', 9, 'udplite'), peer: null, expected: 'lite' },
    {
      name: 'an empty list of blocks holds no address',
      endpoint: endpoint('8.8.8.8', 443),
      peer: example,
      expected: 'AS64500:443',
    },
  ])('$name: $expected', ({ endpoint, peer, expected }) => {
    expect(endpointGroup(endpoint, peer, rules)).toBe(expected);
  });
});
