/**
 * Prints what a source of sockets and the text of procfs say of one network namespace, as JSON. It reads until nothing changes
 * between two texts. with-netlink.py runs it.
 */
import { readFileSync } from 'node:fs';
import { openSocketSource } from '../../src/collect/netlink.ts';
import { parseSocketRows, SocketRows } from '../../src/collect/net-tcp-udp-raw.ts';
import { rowsInWords, totalsInWords } from './socket-words.ts';

const text = (table: string): Buffer => {
  const bytes = readFileSync(`/proc/self/net/${table}`);
  return bytes.subarray(bytes.indexOf('\n') + 1);
};
const parsed = (table: 'tcp' | 'tcp6'): SocketRows => {
  const rows = new SocketRows();
  const bytes = text(table);
  parseSocketRows(bytes, 0, bytes.length, table === 'tcp' ? 4 : 6, true, rows);
  return rows;
};

/** The text without timers, which run. */
const still = (): string => JSON.stringify([rowsInWords(parsed('tcp')), rowsInWords(parsed('tcp6'))]);

const source = openSocketSource({ path: null, environment: process.env, program: null });
for (let attempt = 1; ; attempt++) {
  const before = still();
  const dump = await source?.dump(1_000);
  if (still() !== before && attempt < 20) continue;
  const report = {
    isUp: source?.isUp ?? null,
    failure: source?.failure ?? null,
    netns: source?.netns ?? null,
    events: source?.events ?? null,
    rows: dump ? { tcp: rowsInWords(dump.tcp), tcp6: rowsInWords(dump.tcp6) } : null,
    text: { tcp: rowsInWords(parsed('tcp')), tcp6: rowsInWords(parsed('tcp6')) },
    totals: dump ? { ...totalsInWords(dump.tcp), ...totalsInWords(dump.tcp6) } : null,
    malformed: dump ? dump.tcp.malformed + dump.tcp6.malformed : 0,
  };
  process.stdout.write(JSON.stringify(report));
  break;
}
