import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { printRow } from './kernel-rows.ts';
import { Tree } from './proc-tree.ts';
import type { Exporter } from './exporter.ts';
import { parsePage, sumBy, type Series } from './page.ts';

/** The process of the recorded host that holds all connections. */
const HOLDER = 25739;
const ESTABLISHED = 1;
const TABLES = ['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'udplite6', 'raw', 'raw6'];

/** The ASN of a peer by its number: one for each /16, so that an answer for another network shows. */
export const asnOf = (peer: number): number => 1_000 + (peer >> 8);
export const addressOf = (peer: number): string => `8.${peer >> 8}.${peer & 255}.7`;
export const bucketOf = (peer: number): string => `8.${peer >> 8}.${peer & 255}.0/24`;
export const peers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** The rows of a whois server's reply about these peers. */
export function whoisRows(all: readonly number[]): string[] {
  return [...new Set(all.map((peer) => peer >> 8))].map(
    (high) => `${1_000 + high} | 8.${high}.0.0 | 8.${high}.0.0/16 | US | arin | 1992-12-01 | NET-${high}, US`,
  );
}

/** The recorded host with one connection to each of these peers instead of its own connections. */
export function hostCalling(all: readonly number[]): Tree {
  const tree = new Tree('plain-host');
  for (const table of TABLES) {
    const [head = ''] = readFileSync(join(tree.root, String(HOLDER), 'net', table), 'utf8').split('\n');
    tree.write(HOLDER, `net/${table}`, `${head}\n${table === 'tcp' ? all.map(rowOf).join('') : ''}`);
  }
  for (const [index, peer] of all.entries()) tree.open(HOLDER, 1_000 + index, 900_000 + peer);
  return tree;
}

function rowOf(peer: number, index: number): string {
  return printRow({
    table: 'tcp',
    state: ESTABLISHED,
    local: `192.0.2.5:${20_000 + index}`,
    remote: `${addressOf(peer)}:443`,
    inode: 900_000 + peer,
  });
}

/** A page, and how long it took; throws unless it is complete and came within Prometheus's usual limit. */
export async function scrape(exporter: Exporter, seconds = 10): Promise<Series[]> {
  const signal = AbortSignal.timeout(seconds * 1000);
  const headers = { 'x-prometheus-scrape-timeout-seconds': String(seconds) };
  const response = await fetch(`${exporter.url}/metrics`, { headers, signal });
  if (response.status !== 200) throw new Error(`/metrics was answered by ${response.status}`);
  return parsePage(await response.arrayBuffer());
}

/** How many rows with a public peer a page shows, by ASN. */
export function publicAsns(page: readonly Series[]): Record<string, number> {
  return sumBy(
    page.filter(({ labels }) => labels['network'] === 'public'),
    'peerscope_asn_connections',
    'asn',
  );
}

/** The same as it is to be once all peers have their ASN. */
export function knownAsns(all: readonly number[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const peer of all) counts[asnOf(peer)] = (counts[asnOf(peer)] ?? 0) + 1;
  return counts;
}

/** The sum of a family on a page. */
export const total = (page: readonly Series[], family: string): number =>
  Object.values(sumBy(page, family)).reduce((sum, value) => sum + value, 0);
