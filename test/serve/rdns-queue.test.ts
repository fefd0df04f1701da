import { expect, onTestFinished, test, vi } from 'vitest';
import { formatAddress, parseAddress } from '../../src/common/address.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { ReverseDns } from '../../src/enrich/rdns.ts';
import type { Address } from '../../src/model.ts';
import { RdnsQueue } from '../../src/serve/rdns-queue.ts';
import type { RemoteName } from '../../src/rows/remote-names.ts';
import { startDnsServer, type DnsAnswer, type DnsServer } from '../support/dns-server.ts';

const address = (text: string): Address => parseAddress(text) ?? [0, 0, 0, 0];
const many = (count: number): Address[] =>
  Array.from({ length: count }, (_, i) => address(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`));

async function start(answer: (name: string) => DnsAnswer): Promise<{
  server: DnsServer;
  queue: RdnsQueue;
  resolved: string[];
}> {
  const server = await startDnsServer(answer);
  onTestFinished(() => server.close());
  const resolved: string[] = [];
  const names = new ReverseDns({ clock: SYSTEM_CLOCK, mayQuery: () => true, server: server.address });
  const queue = new RdnsQueue(names, (answers: readonly RemoteName[]) => {
    resolved.push(...answers.map(({ address, name }) => `${formatAddress(address)} ${name}`));
  });
  return { server, queue, resolved };
}

test('names are resolved, and addresses without a name give null', async () => {
  const { queue, resolved } = await start((name) => (name.startsWith('1.') ? ['one.example'] : 'no such name'));
  queue.add([address('10.0.0.1'), address('10.0.0.2')]);
  await vi.waitUntil(() => resolved.length === 2, { timeout: 10_000 });
  expect(resolved).toEqual(['10.0.0.1 one.example', '10.0.0.2 null']);
});

test('an address that is added again while it waits is queried once', async () => {
  const { queue, resolved, server } = await start(() => 'no such name');
  for (let i = 0; i < 3; i++) queue.add(many(150));
  await vi.waitUntil(() => resolved.length >= 150, { timeout: 10_000 });
  expect(server.asked).toHaveLength(150);
});

test('close does not wait for a resolver that does not answer, and no more names are reported', async () => {
  const { queue, resolved, server } = await start(() => 'silence');
  queue.add(many(1_000));
  await vi.waitUntil(() => server.asked.length > 0);
  queue.close();
  queue.add(many(10));
  await vi.waitUntil(() => new Set(server.asked).size <= 10);
  expect(resolved).toEqual([]);
});
