import { expect, onTestFinished, test, vi } from 'vitest';
import { formatAddress, parseAddress } from '../../src/common/address.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { ReverseDns } from '../../src/enrich/rdns.ts';
import type { Address } from '../../src/model.ts';
import { Naming } from '../../src/serve/rdns-queue.ts';
import type { RemoteName } from '../../src/rows/remote-names.ts';
import { startDnsServer, type DnsAnswer, type DnsServer } from '../support/dns-server.ts';

const address = (text: string): Address => parseAddress(text) ?? [0, 0, 0, 0];
const many = (count: number): Address[] =>
  Array.from({ length: count }, (_, i) => address(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`));

async function start(answer: (name: string) => DnsAnswer): Promise<{
  server: DnsServer;
  naming: Naming;
  told: string[];
}> {
  const server = await startDnsServer(answer);
  onTestFinished(() => server.close());
  const told: string[] = [];
  const names = new ReverseDns({ clock: SYSTEM_CLOCK, mayAsk: () => true, server: server.address });
  const naming = new Naming(names, (answers: readonly RemoteName[]) => {
    told.push(...answers.map(({ address, name }) => `${formatAddress(address)} ${name}`));
  });
  return { server, naming, told };
}

test('names are delivered, and that there is none is too', async () => {
  const { naming, told } = await start((name) => (name.startsWith('1.') ? ['one.example'] : 'no such name'));
  naming.ask([address('10.0.0.1'), address('10.0.0.2')]);
  await vi.waitUntil(() => told.length === 2, { timeout: 10_000 });
  expect(told).toEqual(['10.0.0.1 one.example', '10.0.0.2 null']);
});

test('what is asked for again while it waits is asked for once', async () => {
  const { naming, told, server } = await start(() => 'no such name');
  for (let i = 0; i < 3; i++) naming.ask(many(150));
  await vi.waitUntil(() => told.length >= 150, { timeout: 10_000 });
  expect(server.asked).toHaveLength(150);
});

test('the end is not held up by a resolver that says nothing, and nothing is delivered any more', async () => {
  const { naming, told, server } = await start(() => 'silence');
  naming.ask(many(1_000));
  await vi.waitUntil(() => server.asked.length > 0);
  naming.close();
  naming.ask(many(10));
  await vi.waitUntil(() => new Set(server.asked).size <= 10);
  expect(told).toEqual([]);
});
