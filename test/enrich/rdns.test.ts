import { expect, onTestFinished, test } from 'vitest';
import { parseAddress } from '../../src/common/address.ts';
import { SYSTEM_CLOCK, type Timer } from '../../src/common/clock.ts';
import { ReverseDns } from '../../src/enrich/rdns.ts';
import type { Address } from '../../src/model.ts';
import { startDnsServer, type DnsAnswer, type DnsServer } from '../support/dns-server.ts';

const SOON_MS = 10_000;

const address = (text: string): Address => parseAddress(text) ?? [0, 0, 0, 0];
const DNS_GOOGLE = address('8.8.8.8');

async function serve(answer: (name: string) => DnsAnswer): Promise<DnsServer> {
  const server = await startDnsServer(answer);
  onTestFinished(() => server.close());
  return server;
}

const namesFrom = (server: DnsServer, clock: Timer = SYSTEM_CLOCK, mayAsk = (): boolean => true): ReverseDns =>
  new ReverseDns({ clock, mayQuery: mayAsk, server: server.address });

test.each<{ name: string; text: string; question: string }>([
  { name: 'an IPv4 address', text: '8.8.8.8', question: '8.8.8.8.in-addr.arpa' },
  {
    name: 'an IPv6 address',
    text: '2001:4860:4860::8888',
    question: '8.8.8.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.8.4.0.6.8.4.1.0.0.2.ip6.arpa',
  },
])('returns the resolver’s name of $name', async ({ text, question }) => {
  const server = await serve((name) => (name === question ? ['dns.google'] : 'no such name'));
  const names = namesFrom(server);
  expect(names.nameOf(address(text))).toBeNull();
  await names.resolve([address(text)], SOON_MS);
  expect(names.nameOf(address(text))).toBe('dns.google');
});

test('sanitizes and truncates names', async () => {
  const server = await serve(() => ['\u001b[31mred.example', 'x'.repeat(60)].map((label) => label.slice(0, 60)));
  const names = namesFrom(server);
  await names.resolve([DNS_GOOGLE], SOON_MS);
  expect(names.nameOf(DNS_GOOGLE) ?? '').not.toMatch(/\p{Cc}/u);
});

test('does not query excluded addresses', async () => {
  const server = await serve(() => ['secret.example']);
  const names = namesFrom(server, SYSTEM_CLOCK, () => false);
  await names.resolve([DNS_GOOGLE], SOON_MS);
  expect(server.asked).toEqual([]);
  expect(names.nameOf(DNS_GOOGLE)).toBeNull();
});

test('caches a name for an hour and a missing name for ten minutes', async () => {
  let now = 0;
  const clock: Timer = { ...SYSTEM_CLOCK, monotonic: () => now, after: (ms, work) => SYSTEM_CLOCK.after(ms, work) };
  const server = await serve((name) => (name.startsWith('8.') ? ['dns.google'] : 'no such name'));
  const names = namesFrom(server, clock);
  const both = [DNS_GOOGLE, address('9.9.9.9')];
  const askedAfter = async (minutes: number): Promise<number> => {
    now = minutes * 60_000;
    await names.resolve(both, SOON_MS);
    return server.asked.length;
  };
  expect(await askedAfter(0)).toBe(2);
  expect(await askedAfter(9)).toBe(2);
  expect(await askedAfter(11)).toBe(3);
  expect(await askedAfter(61)).toBe(5);
});

test('stops waiting for a silent resolver and sends no more queries', async () => {
  const server = await serve(() => 'silence');
  const names = namesFrom(server);
  const many = Array.from({ length: 50 }, (_, i) => address(`8.8.8.${i}`));
  await names.resolve(many, 200);
  expect(server.asked.length).toBeLessThanOrEqual(20);
  expect(names.nameOf(many[0] ?? DNS_GOOGLE)).toBeNull();
});

test('retries canceled queries next time', async () => {
  let answers = false;
  const server = await serve(() => (answers ? ['dns.google'] : 'silence'));
  const names = namesFrom(server);
  await names.resolve([DNS_GOOGLE], 100);
  answers = true;
  await names.resolve([DNS_GOOGLE], SOON_MS);
  expect(names.nameOf(DNS_GOOGLE)).toBe('dns.google');
});

test('runs ten queries at a time', async () => {
  const server = await serve(() => 'silence');
  const asking = namesFrom(server).resolve(
    Array.from({ length: 50 }, (_, i) => address(`8.8.8.${i}`)),
    1_000,
  );
  await expect.poll(() => new Set(server.asked).size).toBe(10);
  await asking;
  expect(new Set(server.asked).size).toBe(10);
});
