import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Procfs } from '../../src/collect/procfs.ts';
import { parseConfig } from '../../src/config/config.ts';
import type { ConnectionEvent, Row } from '../../src/model.ts';
import { Readers, type Reader } from '../../src/rows/streams.ts';
import { rowsOf } from '../../src/rows/row.ts';
import { Scrape } from '../../src/scrape.ts';
import { printRow } from '../support/kernel-rows.ts';
import { Tree } from '../support/proc-tree.ts';

const NAMES = { service: () => null, remote: () => null };
/** The process of plain-host whose directory holds the socket tables of the host. */
const KEEPER = 25739;
const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
const START = Date.parse('2026-01-01T00:00:00Z');

let tree: Tree;
let scrape: Scrape;
let readers: Readers;
let now: number;

beforeEach(() => {
  tree = new Tree('plain-host');
  now = START;
  const config = parseConfig({ 'asn.provider': 'none' }, {});
  scrape = new Scrape(new Procfs(tree.root), config, { now: () => now, monotonic: () => now }, null);
  readers = new Readers(scrape, NAMES);
});
afterEach(() => tree[Symbol.dispose]());

/** Scans a table with connections from these ports only. */
function scan(ports: Iterable<number>): void {
  const rows = [...ports].map((port) =>
    printRow({ table: 'tcp', state: 1, local: `10.0.0.1:${port}`, remote: '10.0.0.2:443', inode: 1_000_000 + port }),
  );
  tree.write(KEEPER, 'net/tcp', HEADER + rows.join(''));
  const { at } = scrape.scan(Infinity);
  readers.scanned(at);
  now += 1_000;
}

function ports(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** The next chunk of a reader that has one. */
function next(reader: Reader): string | null {
  let chunk: string | null | undefined;
  reader.next((text) => (chunk = text));
  if (chunk === undefined) throw new Error('there is no chunk yet');
  return chunk;
}

/** All chunks. */
function chunks(reader: Reader): string[] {
  const all: string[] = [];
  for (let chunk = next(reader); chunk !== null; chunk = next(reader)) all.push(chunk);
  return all;
}

describe('a reader of rows', { timeout: 30_000 }, () => {
  it('returns the rows of list in chunks', () => {
    scan(ports(10_000, 12_000));
    const rows = rowsOf(scrape);
    const json = chunks(readers.read([], 'json'));
    expect(json.join('')).toBe(`[${rows.map((row) => `\n${JSON.stringify(row)}`).join(',')}\n]\n`);
    expect(json.length).toBeGreaterThan(10);
    for (const chunk of json) expect(chunk.length).toBeLessThan((64 << 10) + 2_000);
    const lines = chunks(readers.read([], 'jsonl')).join('');
    expect(lines).toBe(rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  });

  it('returns the rows that match the filters', () => {
    scan(ports(10_000, 12_000));
    const read = (...filters: string[]): Row[] => JSON.parse(chunks(readers.read(filters, 'json')).join('')) as Row[];
    expect(read('port=11999,10001').map((row) => row.local_port)).toEqual([10_001, 11_999]);
    expect(read('remote-port=443', 'cidr=10.0.0.0/8', 'local-port!=10005')).toHaveLength(1_999);
    expect(() => readers.read(['port=x'], 'json')).toThrow('Cannot use filter "port=x": port must be a port');
  });

  it('reads at most 1,000 rows per chunk, even if none match', () => {
    scan(ports(10_000, 12_500));
    expect(rowsOf(scrape).length).toBeLessThan(3_000);
    expect(chunks(readers.read(['port=1'], 'json'))).toEqual(['', '', '[\n]\n']);
    expect(chunks(readers.read(['port=1'], 'jsonl'))).toEqual(['', '', '']);
  });

  it('skips connections that opened or closed since, and returns no row twice', () => {
    scan(ports(10_000, 12_000));
    const reader = readers.read(['remote-port=443', 'address=10.0.0.1'], 'jsonl');
    const first = next(reader) ?? '';
    const seen = first.trimEnd().split('\n').length;
    // A closed connection frees its index at the next scan.
    scan(ports(10_000, 11_500));
    scan([...ports(10_000, 11_500), ...ports(20_000, 20_500)]);
    scan([...ports(10_000, 11_400), ...ports(20_000, 20_500)]);
    const text = first + chunks(reader).join('');
    const read = text
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Row).local_port);
    expect(seen).toBeGreaterThan(10);
    expect(seen).toBeLessThan(1_000);
    expect(read).toEqual(ports(10_000, 11_400));
  });
});

describe('a reader of events', { timeout: 30_000 }, () => {
  const events = (text: string | null): ConnectionEvent[] =>
    [...(text ?? '').matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)].map(([, name, data = '']) => {
      const event = JSON.parse(data) as ConnectionEvent;
      expect(event.event).toBe(name);
      return event;
    });
  const eventsOf = (text: string | null): string[] =>
    events(text).map(({ event, local_port }) => `${event} ${local_port}`);

  it('returns the events since it was opened', () => {
    scan(ports(10_000, 10_002));
    scan(ports(10_000, 10_004));
    const reader = readers.subscribe([], now);
    const later = readers.subscribe(['local-port=10005'], now);
    scan(ports(10_001, 10_006));
    expect(eventsOf(next(reader))).toEqual(['closed 10000', 'opened 10004', 'opened 10005']);
    expect(eventsOf(next(later))).toEqual(['opened 10005']);
  });

  it('waits until there is an event', () => {
    scan(ports(10_000, 10_001));
    const reader = readers.subscribe([], now);
    const received: (string | null)[] = [];
    reader.next((text) => received.push(text));
    scan(ports(10_000, 10_001));
    expect(received).toEqual([]);
    scan(ports(10_000, 10_002));
    expect(received.map(eventsOf)).toEqual([['opened 10001']]);
  });

  /** What a reader has buffered, in chunks. */
  const buffered = (reader: Reader): string => {
    let all = '';
    for (let size = -1; size !== all.length;) {
      size = all.length;
      reader.next((text) => {
        expect(text?.length).toBeLessThan((64 << 10) + 2_000);
        all += text ?? '';
      });
    }
    return all;
  };

  it.each([
    { readers: 1, most: 4 << 20 },
    { readers: 2, most: 4 << 20 },
    { readers: 16, most: (8 << 20) / 16 },
  ])('of $readers buffers at most $most characters, and then reports the number of dropped events', (given) => {
    scan(ports(9_000, 9_001));
    const all = Array.from({ length: given.readers }, () => readers.subscribe(['port=443'], now));
    scan(ports(9_000, 9_001).concat(ports(10_000, 18_000)));
    scan(ports(10_000, 18_001));
    for (const reader of all) {
      const found = events(buffered(reader));
      const dropped = found.pop();
      // The second scan also closed one.
      const received = found.map(({ local_port }) => local_port);
      expect(received).toEqual(ports(10_000, 10_000 + received.length));
      expect(dropped).toEqual({ event: 'dropped', count: 8_002 - received.length, at: '2026-01-01T00:00:02.000Z' });
      const kept = found.map((event) => `event: opened\ndata: ${JSON.stringify(event)}\n\n`).join('');
      expect(kept.length).toBeLessThanOrEqual(given.most);
      expect(kept.length).toBeGreaterThan(given.most - 2_000);
    }
    const later: string[][] = [];
    for (const reader of all) reader.next((text) => later.push(eventsOf(text)));
    scan(ports(10_000, 18_002));
    expect(later).toEqual(all.map(() => ['opened 18001']));
  });

  it('gets nothing after it is closed, and a later one gets no earlier events', () => {
    scan(ports(10_000, 10_001));
    const reader = readers.subscribe([], now);
    readers.close(reader);
    scan(ports(10_000, 10_005));
    const later = readers.subscribe([], now);
    scan(ports(10_000, 10_006));
    expect(() => next(reader)).toThrow('there is no chunk yet');
    expect(eventsOf(next(later))).toEqual(['opened 10005']);
  });
});
