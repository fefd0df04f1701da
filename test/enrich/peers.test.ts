import { describe, expect, test } from 'vitest';
import { formatCidr, parseAddress, parseCidr } from '../../src/common/address.ts';
import { AsnCache, openCache } from '../../src/enrich/asn/cache.ts';
import { Peers, type PeerPolicy } from '../../src/enrich/peers.ts';
import type { Address, Cidr, Origin } from '../../src/model.ts';

const address = (text: string): Address => parseAddress(text) ?? expect.fail(`no address: ${text}`);
const cidr = (text: string): Cidr => parseCidr(text) ?? expect.fail(`no CIDR: ${text}`);
const nobodysOwn = (): boolean => false;

const origin = (asn: number, prefix: string): Origin => ({
  asns: [asn],
  name: 'EXAMPLE',
  asCountry: 'LU',
  prefix,
  registry: 'ripencc',
  registryCountry: 'LU',
  allocated: null,
  askedAt: 0,
  freshUntil: 86_400_000,
  source: 'cymru',
});

function setUp(policy: Partial<PeerPolicy> = {}): { peers: Peers; cache: AsnCache } {
  const cache = new AsnCache();
  return { peers: new Peers({ networks: [], neverSend: [], isHostOwn: () => false, ...policy }, cache), cache };
}

describe('queries to a file', () => {
  test.each<{ name: string; remote: string; policy?: Partial<PeerPolicy>; own?: string; asked: string[] }>([
    { name: 'a public peer itself', remote: '8.8.4.4', asked: ['8.8.4.4/32'] },
    { name: 'a public peer of IPv6 itself', remote: '2606:4700:4700::1111', asked: ['2606:4700:4700::1111/128'] },
    { name: 'what NAT64 wraps', remote: '64:ff9b::808:404', asked: ['8.8.4.4/32'] },
    { name: 'a neighbor of an own network address', remote: '8.8.4.4', own: '8.8.4.0', asked: ['8.8.4.4/32'] },
    { name: 'no own address', remote: '8.8.4.4', own: '8.8.4.4', asked: [] },
    {
      name: 'a neighbor of a network never to send',
      remote: '8.8.4.200',
      policy: { neverSend: [cidr('8.8.4.0/28')] },
      asked: ['8.8.4.200/32'],
    },
    { name: 'nothing never to send', remote: '8.8.4.4', policy: { neverSend: [cidr('8.8.4.0/28')] }, asked: [] },
    {
      name: 'a neighbor of a network that the operator named',
      remote: '8.8.4.200',
      policy: { networks: [{ name: 'office', cidrs: [cidr('8.8.4.0/28')] }] },
      asked: ['8.8.4.200/32'],
    },
    {
      name: 'nothing that the operator named',
      remote: '8.8.4.4',
      policy: { networks: [{ name: 'office', cidrs: [cidr('8.8.4.0/28')] }] },
      asked: [],
    },
    { name: 'no private peer', remote: '10.1.2.3', asked: [] },
  ])('$name', ({ remote, policy, own, asked }) => {
    const cache = openCache('mmdb') ?? expect.fail();
    const peers = new Peers({ networks: [], neverSend: [], isHostOwn: () => false, ...policy }, cache);
    const isOwn = (candidate: Address): boolean => own !== undefined && candidate[3] === address(own)[3];
    const peer = peers.acquire(1, address(remote), isOwn);
    peers.query(peer, 0);
    expect(cache.takeQueries().map(formatCidr)).toEqual(asked);
  });

  test('give each peer of a /24 the ASN of its own record', () => {
    const cache = openCache('mmdb') ?? expect.fail();
    const peers = new Peers({ networks: [], neverSend: [], isHostOwn: () => false }, cache);
    const [one, other, late] = ['8.8.4.4', '8.8.4.5', '8.8.4.6'].map((text) =>
      peers.acquire(1, address(text), nobodysOwn),
    );
    if (!one || !other || !late) throw new Error('a peer is missing');
    for (const peer of [one, other]) peers.query(peer, 0);
    const source = { ...origin(15169, '8.8.4.0/24'), prefix: null, source: 'mmdb' };
    const changed = cache.accept([
      { bucket: cidr('8.8.4.4'), covers: cidr('8.8.4.4'), origin: source },
      { bucket: cidr('8.8.4.5'), covers: cidr('8.8.4.5/32'), origin: { ...source, asns: [42] } },
    ]);
    expect(peers.update(changed, 0)).toEqual(new Set([one, other]));
    peers.query(late, 0);
    expect([one, other, late].map(({ asn }) => asn)).toEqual(['15169', '42', '']);
    expect(peers.pendingBucket(late)).toBe('8.8.4.6/32');
  });
});

describe('queried addresses', () => {
  test.each<{ name: string; remote: string; policy?: Partial<PeerPolicy>; own?: string; asked: string[] }>([
    { name: 'a public peer, as its /24', remote: '8.8.4.4', asked: ['8.8.4.0/24'] },
    { name: 'a public peer, as its /48', remote: '2606:4700:4700::1111', asked: ['2606:4700:4700::/48'] },
    { name: 'what NAT64 wraps, as the IPv4 /24', remote: '64:ff9b::808:404', asked: ['8.8.4.0/24'] },
    { name: 'no private peer', remote: '10.1.2.3', asked: [] },
    { name: 'no address of the own namespace', remote: '8.8.4.4', own: '8.8.4.4', asked: [] },
    {
      name: 'no address of the host, seen from another namespace',
      remote: '8.8.4.4',
      policy: { isHostOwn: (candidate) => candidate[3] === address('8.8.4.4')[3] },
      asked: [],
    },
    {
      name: 'nothing in a network never to send',
      remote: '8.8.4.4',
      policy: { neverSend: [cidr('8.8.0.0/16')] },
      asked: [],
    },
    {
      name: 'nothing whose /24 holds a network never to send, for its network address would be sent',
      remote: '8.8.4.200',
      policy: { neverSend: [cidr('8.8.4.0/28')] },
      asked: [],
    },
    {
      name: 'nothing whose /24 holds a network that the operator named',
      remote: '8.8.4.200',
      policy: { networks: [{ name: 'office', cidrs: [cidr('8.8.4.0/28')] }] },
      asked: [],
    },
    {
      name: 'nothing that the operator named',
      remote: '8.8.4.4',
      policy: { networks: [{ name: 'office', cidrs: [cidr('8.8.4.0/24')] }] },
      asked: [],
    },
  ])('$name', ({ remote, policy, own, asked }) => {
    const { peers, cache } = setUp(policy);
    const isOwn = (candidate: Address): boolean => own !== undefined && candidate[3] === address(own)[3];
    const peer = peers.acquire(1, address(remote), isOwn);
    peers.query(peer, 0);
    peers.query(peer, 0);
    expect(cache.takeQueries().map(formatCidr)).toEqual(asked);
  });

  test.each<{ name: string; own: string; network: string; asked: string[] }>([
    { name: 'a public peer', own: '192.0.2.5', network: 'public', asked: ['8.8.4.0/24'] },
    { name: 'nothing that turns out to be an own address', own: '8.8.4.4', network: 'self', asked: [] },
  ])('$name, once the local addresses of its namespace are known', ({ own, network, asked }) => {
    const { peers, cache } = setUp();
    const peer = peers.acquire(1, address('8.8.4.4'), null);
    const ask = (): string[] => {
      peers.query(peer, 0);
      return cache.takeQueries().map(formatCidr);
    };
    expect(ask()).toEqual([]);
    expect(peers.classifyPending(() => null)).toEqual(new Set());
    expect(ask()).toEqual([]);
    expect(peers.classifyPending(() => (candidate) => candidate[3] === address(own)[3])).toEqual(new Set([peer]));
    expect(peer.network).toBe(network);
    expect(ask()).toEqual(asked);
    expect(peers.classifyPending(() => expect.fail('decided already'))).toEqual(new Set());
  });

  test('none while a connection is in SYN_RECV', () => {
    const { peers, cache } = setUp();
    peers.acquire(1, address('8.8.4.4'), nobodysOwn);
    expect(cache.takeQueries()).toEqual([]);
  });
});

describe('answers', () => {
  test('apply to every peer of their bucket', () => {
    const { peers, cache } = setUp();
    const held = ['8.8.4.4', '8.8.4.5'].map((text) => peers.acquire(1, address(text), nobodysOwn));
    for (const peer of held) peers.query(peer, 0);
    const changed = peers.update(
      cache.accept([{ bucket: cidr('8.8.4.0/24'), origin: origin(64500, '8.8.4.0/24') }]),
      1,
    );
    expect(changed).toEqual(new Set(held));
    expect(held.map((peer) => peer.asn)).toEqual(['64500', '64500']);
    expect(peers.names.get('64500')).toEqual({ name: 'EXAMPLE', country: 'LU' });
  });

  test('have the name of the first operator-defined network with their ASN', () => {
    const networks = [
      { name: 'lab', cidrs: [cidr('10.0.0.0/8')], asn: 64500 },
      { name: 'office', cidrs: [cidr('192.0.2.0/24')], asn: 64500 },
    ];
    const { peers, cache } = setUp({ networks });
    const policy = { networks: [], neverSend: [], isHostOwn: () => false };
    expect(peers.names.get('64500')).toEqual({ name: 'lab', country: '' });
    peers.query(peers.acquire(1, address('8.8.4.4'), nobodysOwn), 0);
    peers.update(cache.accept([{ bucket: cidr('8.8.4.0/24'), origin: origin(64500, '8.8.4.0/24') }]), 1);
    expect(peers.names.get('64500')?.name).toBe('lab');
    peers.setPolicy(policy);
    expect(peers.names.get('64500')?.name).toBe('EXAMPLE');
  });

  test('for a longer prefix do not apply to the rest of the bucket', () => {
    const { peers, cache } = setUp();
    const [inside, outside] = ['8.8.4.4', '8.8.4.200'].map((text) => peers.acquire(1, address(text), nobodysOwn));
    for (const peer of [inside, outside]) if (peer) peers.query(peer, 0);
    peers.update(cache.accept([{ bucket: cidr('8.8.4.0/24'), origin: origin(64500, '8.8.4.0/28') }]), 1);
    expect([inside?.asn, outside?.asn]).toEqual(['64500', '']);
  });

  test('leave no ASN behind when dropped', () => {
    const { peers, cache } = setUp();
    const peer = peers.acquire(1, address('8.8.4.4'), nobodysOwn);
    peers.query(peer, 0);
    peers.update(cache.accept([{ bucket: cidr('8.8.4.0/24'), origin: origin(64500, '8.8.4.0/24') }]), 1);
    expect(peers.update(cache.forget([cidr('8.8.4.0/24')]), 2)).toEqual(new Set([peer]));
    expect({ asn: peer.asn, origin: peer.origin }).toEqual({ asn: '', origin: null });
  });

  test('distinguish not announced (ASN 0) from unknown', () => {
    const { peers, cache } = setUp();
    const peer = peers.acquire(1, address('8.8.4.4'), nobodysOwn);
    peers.query(peer, 0);
    expect(peer.asn).toBe('');
    const nobody = { ...origin(1, '8.8.4.0/24'), asns: [], prefix: null };
    peers.update(cache.accept([{ bucket: cidr('8.8.4.0/24'), origin: nobody }]), 1);
    expect(peer.asn).toBe('0');
  });

  test("an operator's network carries the ASN it was given", () => {
    const { peers } = setUp({ networks: [{ name: 'office', cidrs: [cidr('8.8.4.0/24')], asn: 64511 }] });
    expect(peers.acquire(1, address('8.8.4.4'), nobodysOwn)).toMatchObject({ network: 'office', asn: '64511' });
  });
});

test('keeps one object per peer until its last release', () => {
  const { peers } = setUp();
  const remote = address('8.8.4.4');
  const first = peers.acquire(1, remote, nobodysOwn);
  expect(peers.acquire(1, remote, nobodysOwn)).toBe(first);
  peers.release(1, remote);
  expect(peers.acquire(1, remote, nobodysOwn)).toBe(first);
  peers.release(1, remote);
  peers.release(1, remote);
  expect(peers.acquire(1, remote, nobodysOwn)).not.toBe(first);
});
