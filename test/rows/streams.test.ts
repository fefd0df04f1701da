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
/** The process of plain-host whose folder holds the tables of all. */
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

/** Scans a table that holds connections from these ports alone. */
function scan(ports: Iterable<number>): void {
  const rows = [...ports].map((port) =>
    printRow({ table: 'tcp', state: 1, local: `10.0.0.1:${port}`, remote: '10.0.0.2:443', inode: 1_000_000 + port }),
  );
  tree.write(KEEPER, 'net/tcp', HEADER + rows.join(''));
  const { at } = scrape.run(Infinity);
  readers.scanned(at);
  now += 1_000;
}

function ports(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** The next piece, of a reader who has one. */
function next(reader: Reader): string | null {
  let piece: string | null | undefined;
  reader.next((text) => (piece = text));
  if (piece === undefined) throw new Error('there is no piece yet');
  return piece;
}

/** All pieces to the last. */
function pieces(reader: Reader): string[] {
  const all: string[] = [];
  for (let piece = next(reader); piece !== null; piece = next(reader)) all.push(piece);
  return all;
}

describe('who reads rows', { timeout: 30_000 }, () => {
  it('gets in pieces what list prints', () => {
    scan(ports(10_000, 12_000));
    const rows = rowsOf(scrape);
    const json = pieces(readers.read([], 'json'));
    expect(json.join('')).toBe(`[${rows.map((row) => `\n${JSON.stringify(row)}`).join(',')}\n]\n`);
    expect(json.length).toBeGreaterThan(10);
    for (const piece of json) expect(piece.length).toBeLessThan((64 << 10) + 2_000);
    const lines = pieces(readers.read([], 'jsonl')).join('');
    expect(lines).toBe(rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  });

  it('gets the rows that the filters want', () => {
    scan(ports(10_000, 12_000));
    const read = (...filters: string[]): Row[] => JSON.parse(pieces(readers.read(filters, 'json')).join('')) as Row[];
    expect(read('port=11999,10001').map((row) => row.local_port)).toEqual([10_001, 11_999]);
    expect(read('remote-port=443', 'cidr=10.0.0.0/8', 'local-port!=10005')).toHaveLength(1_999);
    expect(() => readers.read(['port=x'], 'json')).toThrow('Cannot use filter "port=x": port must be a port');
  });

  it('holds up the thread for a thousand rows at most, though none be wanted', () => {
    scan(ports(10_000, 12_500));
    expect(rowsOf(scrape).length).toBeLessThan(3_000);
    expect(pieces(readers.read(['port=1'], 'json'))).toEqual(['', '', '[\n]\n']);
    expect(pieces(readers.read(['port=1'], 'jsonl'))).toEqual(['', '', '']);
  });

  it('of whom scans overtake never sees a row twice, nor one of a connection that came or went meanwhile', () => {
    scan(ports(10_000, 12_000));
    const reader = readers.read(['remote-port=443', 'address=10.0.0.1'], 'jsonl');
    const first = next(reader) ?? '';
    const seen = first.trimEnd().split('\n').length;
    // What closed leaves its place only at the scan after.
    scan(ports(10_000, 11_500));
    scan([...ports(10_000, 11_500), ...ports(20_000, 20_500)]);
    scan([...ports(10_000, 11_400), ...ports(20_000, 20_500)]);
    const text = first + pieces(reader).join('');
    const read = text
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Row).local_port);
    expect(seen).toBeGreaterThan(10);
    expect(seen).toBeLessThan(1_000);
    expect(read).toEqual(ports(10_000, 11_400));
  });
});

describe('who listens', { timeout: 30_000 }, () => {
  const events = (text: string | null): ConnectionEvent[] =>
    [...(text ?? '').matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)].map(([, name, data = '']) => {
      const event = JSON.parse(data) as ConnectionEvent;
      expect(event.event).toBe(name);
      return event;
    });
  const tell = (text: string | null): string[] => events(text).map(({ event, local_port }) => `${event} ${local_port}`);

  it('hears what happens from then on, and nothing of what was before', () => {
    scan(ports(10_000, 10_002));
    scan(ports(10_000, 10_004));
    const listener = readers.listen([], now);
    const later = readers.listen(['local-port=10005'], now);
    scan(ports(10_001, 10_006));
    expect(tell(next(listener))).toEqual(['closed 10000', 'opened 10004', 'opened 10005']);
    expect(tell(next(later))).toEqual(['opened 10005']);
  });

  it('waits for as long as nothing happens', () => {
    scan(ports(10_000, 10_001));
    const listener = readers.listen([], now);
    const heard: (string | null)[] = [];
    listener.next((text) => heard.push(text));
    scan(ports(10_000, 10_001));
    expect(heard).toEqual([]);
    scan(ports(10_000, 10_002));
    expect(heard.map(tell)).toEqual([['opened 10001']]);
  });

  it('and takes nothing keeps four MiB at most, and hears how many events that cost, in their place', () => {
    scan(ports(9_000, 9_001));
    const listener = readers.listen(['port=443'], now);
    scan(ports(9_000, 9_001).concat(ports(10_000, 18_000)));
    scan(ports(10_000, 18_001));
    const text = next(listener) ?? '';
    expect(text.length).toBeLessThanOrEqual(4 << 20);
    expect(text.length).toBeGreaterThan((4 << 20) - 2_000);
    // One more closed, at the second scan.
    const heard = events(text).map(({ local_port }) => local_port);
    expect(heard).toEqual(ports(10_000, 10_000 + heard.length));
    scan(ports(10_000, 18_002));
    const [dropped, ...after] = events(next(listener));
    expect(dropped).toEqual({ event: 'dropped', count: 8_002 - heard.length, at: '2026-01-01T00:00:02.000Z' });
    expect(after.map(({ local_port }) => local_port)).toEqual([18_001]);
  });

  it('and leaves costs nothing more: who comes later hears nothing of the time between', () => {
    scan(ports(10_000, 10_001));
    const listener = readers.listen([], now);
    readers.leave(listener);
    scan(ports(10_000, 10_005));
    const later = readers.listen([], now);
    scan(ports(10_000, 10_006));
    expect(() => next(listener)).toThrow('there is no piece yet');
    expect(tell(next(later))).toEqual(['opened 10005']);
  });
});
