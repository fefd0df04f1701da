import { parseAddress } from '../common/address.ts';
import type { Timer } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import { endpointGroup } from '../enrich/endpoint-group.ts';
import type { EndpointGroupRule, Row } from '../model.ts';
import { rowOfApi, unusualOfApi } from './api-answers.ts';
import type { ApiClient } from './api-client.ts';
import { unusualLines } from './exporter-reports.ts';
import { coverage, type Scanner, type ScannedConnection, type ScanResult } from './live-scan.ts';

/** What to read from the API of an exporter. */
export interface RemoteScanOptions {
  readonly client: ApiClient;
  /** The names of endpoints. */
  readonly rules: readonly EndpointGroupRule[];
  /** Whether rows have the names of services. */
  readonly showsServices: boolean;
  /** Whether to read what is unusual, too. */
  readonly showsUnusual: boolean;
  /** Whether a scan that fails after another shows the rows of the other and a message. */
  readonly keepsLast: boolean;
  readonly clock: Timer;
  /** Receives each error as one line, and "" when it is over. */
  readonly report: (line: string) => void;
}

/** Reads rows and what is unusual from the API of a running exporter instead of this host. */
export class RemoteScan implements Scanner {
  readonly #options: RemoteScanOptions;
  readonly #stop = new AbortController();
  /** The number of each connection, which it keeps from scan to scan. */
  #numbers = new Map<string, number>();
  #nextNumber = 0;
  #last: ScanResult | null = null;
  #hasFailed = false;

  constructor(options: RemoteScanOptions) {
    this.#options = options;
  }

  /** Rejects with a one-line Error. */
  async scan(): Promise<ScanResult> {
    const { client, keepsLast, report } = this.#options;
    try {
      this.#last = await this.#read();
      if (this.#hasFailed) report('');
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#last || !keepsLast || this.#stop.signal.aborted) throw error;
      this.#hasFailed = true;
      report(reasonOf(error));
      return { ...this.#last, lookups: `Last rows of the exporter at ${JSON.stringify(client.url)}` };
    }
    return this.#last;
  }

  cancel(): void {
    this.#stop.abort();
  }

  close(): Promise<void> {
    this.#stop.abort();
    return Promise.resolve();
  }

  async #read(): Promise<ScanResult> {
    const { client, clock, showsServices, showsUnusual } = this.#options;
    const { signal } = this.#stop;
    const read = (line: string): Row => (showsServices ? rowOfApi(line) : { ...rowOfApi(line), service: null });
    const [rows, unusual] = await Promise.all([
      client.lines('/api/v1/connections?format=jsonl', 'connections', signal, read),
      showsUnusual ? readUnusualLines(client, signal) : [],
    ]);
    const connections = this.#connections(rows);
    return {
      at: clock.now(),
      rows,
      connections: () => connections,
      coverage: coverage(rows, { unreadableNamespaces: 0, malformed: 0, source: null }),
      withDetails: (row) => row,
      lookups: `From the exporter at ${JSON.stringify(client.url)}`,
      unusual: () => unusual,
    };
  }

  #connections(rows: readonly Row[]): ScannedConnection[] {
    const before = this.#numbers;
    const numbers = new Map<string, number>();
    this.#numbers = numbers;
    const keys = rows.map((row) => keyOf(row, row.local_address, row.local_port, row.remote_address, row.remote_port));
    const numbered = keys.map((key, i) => {
      // Equal keys: sockets that share a port.
      const unique = numbers.has(key) ? `${key} ${i}` : key;
      const number = before.get(unique) ?? this.#nextNumber++;
      numbers.set(unique, number);
      return number;
    });
    const listening = new Set(rows.filter(({ direction }) => direction === 'listen').map(listenerOf));
    return rows.map((row, i): ScannedConnection => {
      const serves = servesLocally(row, listening);
      const isClient = row.direction === 'loopback' && !serves;
      const other = keyOf(row, row.remote_address, row.remote_port, row.local_address, row.local_port);
      return {
        row,
        serves,
        countedAs: isClient ? (numbers.get(other) ?? null) : null,
        number: numbered[i] ?? i,
        endpoint: () => this.#endpoint(row, serves),
      };
    });
  }

  #endpoint(row: Row, serves: boolean): string {
    const text = (serves ? row.local_address : row.remote_address) ?? '';
    const address = parseAddress(text);
    if (!address || row.transport === null) return text;
    const endpoint = { address, port: serves ? row.local_port : row.remote_port, transport: row.transport };
    const peer = row.direction === 'outbound' ? { network: row.network ?? 'public', asn: row.asn } : null;
    return endpointGroup(endpoint, peer, this.#options.rules);
  }
}

/** What the exporter reports as unusual, or why that cannot be read; nothing if it does not watch that. */
async function readUnusualLines(client: ApiClient, signal: AbortSignal): Promise<readonly string[]> {
  try {
    const found = await client.linesIfPresent('/api/v1/unusual', 'what is unusual', signal, unusualOfApi);
    return (found ?? []).flatMap(unusualLines);
  } catch (error) {
    return [reasonOf(error)];
  }
}

type End = string | number | null;

function keyOf({ netns, transport }: Row, address: End, port: End, otherAddress: End, otherPort: End): string {
  return `${netns} ${transport} ${address} ${port} ${otherAddress} ${otherPort}`;
}

function listenerOf({ netns, transport, local_port: port }: Row): string {
  return `${netns} ${transport} ${port}`;
}

/** Whether the local end is the service. Of a loopback pair, that is the end that listens, else that with the lower port. */
function servesLocally(row: Row, listening: ReadonlySet<string>): boolean {
  if (row.direction !== 'loopback') return row.direction === 'inbound' || row.direction === 'listen';
  const isLocal = listening.has(listenerOf(row));
  if (isLocal !== listening.has(listenerOf({ ...row, local_port: row.remote_port }))) return isLocal;
  const [local, remote] = [row.local_port ?? 0, row.remote_port ?? 0];
  return local === remote ? (row.local_address ?? '') < (row.remote_address ?? '') : local < remote;
}
