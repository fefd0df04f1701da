import { expect, test } from 'vitest';
import { connectionCounters, PacketReads } from '../../src/collect/packet-reads.ts';

const NAMES = ['ActiveOpens', 'PassiveOpens', 'AttemptFails', 'EstabResets', 'CurrEstab', 'InSegs', 'OutSegs'];

/** The counters, one of them raised. */
function snmp(raised: string | null): string {
  const values = NAMES.map((name) => (name === raised ? 8 : 7));
  return `Ip: Forwarding\nIp: 1\nTcp: ${NAMES.join(' ')}\nTcp: ${values.join(' ')}\nUdp: InDatagrams\nUdp: 7\n`;
}

test.each([
  { name: 'ActiveOpens', isConnection: true },
  { name: 'PassiveOpens', isConnection: true },
  { name: 'AttemptFails', isConnection: true },
  { name: 'EstabResets', isConnection: true },
  { name: 'CurrEstab', isConnection: true },
  { name: 'InSegs', isConnection: false },
  { name: 'OutSegs', isConnection: false },
])('$name says that a connection opened, was established or ended: $isConnection', ({ name, isConnection }) => {
  expect(connectionCounters(snmp(name)) !== connectionCounters(snmp(null))).toBe(isConnection);
});

test('the time for these reads is over after 50 ms, and begins again with the next scan', () => {
  const reads = new PacketReads();
  expect(reads.isOver).toBe(true);
  reads.begin();
  reads.use(49);
  expect(reads.isOver).toBe(false);
  reads.use(1);
  expect(reads.isOver).toBe(true);
  reads.begin();
  expect(reads.isOver).toBe(false);
});
