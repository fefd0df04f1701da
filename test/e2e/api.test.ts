import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ConnectionEvent } from '../../src/model.ts';
import { printRow } from '../support/kernel-rows.ts';
import { Tree } from '../support/proc-tree.ts';
import { Exporter } from '../support/exporter.ts';

const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none', '--web.enable-api'];
const MIB = 1 << 20;

/** A client that has the head of an answer, and takes of the rest what it asks for. */
async function open(url: string): Promise<IncomingMessage> {
  const outgoing = get(url);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  response.on('error', () => undefined);
  outgoing.on('error', () => undefined);
  return response;
}

describe('a host with 100,000 sockets', () => {
  const ROWS = 100_000;
  const tree = new Tree('plain-host');
  let exporter: Exporter;

  beforeAll(async () => {
    const rows = Array.from({ length: ROWS }, (_, i) =>
      printRow({
        table: 'tcp',
        state: 1,
        local: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}:443`,
        remote: `172.16.${(i >> 8) & 255}.${i & 255}:${1024 + (i % 60_000)}`,
        inode: 1_000_000 + i,
      }),
    );
    tree.write(25739, 'net/tcp', `  sl  local_address rem_address   st\n${rows.join('')}`);
    exporter = await Exporter.start([...QUIET, `--path.procfs=${tree.root}`, '--scrape.budget=1m']);
    // Until the memory of scans alone is what it will be.
    for (let i = 0; i < 8; i++) await exporter.metrics();
  });
  afterAll(async () => {
    await exporter.stop();
    tree[Symbol.dispose]();
  });

  /** The most resident memory of the exporter since its peak was forgotten last, proc_pid_status(5) and proc_pid_clear_refs(5). */
  const peak = (): number =>
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${exporter.process.pid}/status`, 'utf8'))?.[1]) * 1024;
  const forgetPeak = (): void => writeFileSync(`/proc/${exporter.process.pid}/clear_refs`, '5');

  it.each(['json', 'jsonl'])(
    'streams all rows as %s with 40 MiB more than its scans, while another reader stalls',
    async (format) => {
      forgetPeak();
      for (let i = 0; i < 3; i++) await exporter.metrics();
      const scans = peak();
      forgetPeak();
      const path = `${exporter.url}/api/v1/connections?format=${format}&local-port=443&cidr=10.0.0.0/8`;
      const stalled = await open(path);
      const response = await open(path);
      let bytes = 0;
      let lines = 0;
      let longest = 0;
      let last = '';
      for await (const chunk of response as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        longest = Math.max(longest, chunk.length);
        lines += chunk.toString('latin1').split('\n').length - 1;
        last = (last + chunk.subarray(-3).toString()).slice(format === 'json' ? -3 : -2);
      }
      const extra = peak() - scans;
      stalled.destroy();
      process.stderr.write(
        `${format}: ${(bytes / MIB).toFixed(0)} MiB of rows with ${(extra / MIB).toFixed(1)} MiB extra\n`,
      );
      expect(lines).toBe(format === 'json' ? ROWS + 2 : ROWS);
      expect(bytes).toBeGreaterThan(60 * MIB);
      expect(last).toBe(format === 'json' ? '\n]\n' : '}\n');
      expect(longest).toBeLessThan(MIB);
      expect(extra).toBeLessThan(40 * MIB);
    },
  );

  it('disconnects readers that read nothing, so that others can read', async () => {
    const path = `${exporter.url}/api/v1/connections`;
    const stalled = await Promise.all(Array.from({ length: 16 }, () => open(path)));
    const another = async (): Promise<number> => (await fetch(path, { method: 'HEAD' })).status;
    expect(await another()).toBe(503);
    await expect.poll(another, { timeout: 60_000, interval: 500 }).toBe(200);
    for (const response of stalled) response.destroy();
  });

  it('answers scrapes while a reader is slow', async () => {
    const slow = await open(`${exporter.url}/api/v1/connections`);
    const page = await exporter.metricsOnce((text) => text.includes('success{collector="sockets"} 1'));
    expect(page).toContain('peerscope_connections{');
    slow.destroy();
  });
});

describe('the events of real sockets', () => {
  let exporter: Exporter;
  beforeAll(async () => {
    exporter = await Exporter.start([...QUIET, '--sample.interval=200ms']);
  });
  afterAll(async () => {
    await exporter.stop();
  });

  it('reach the clients whose filters match, as they happen', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const stream = await open(`${exporter.url}/api/v1/events?remote-port=${port}&state!=time_wait`);
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const received = (): ConnectionEvent[] =>
      [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => JSON.parse(data) as ConnectionEvent);
    const SOON = { timeout: 30_000, interval: 50 };

    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = connect(port, '127.0.0.1');
    const [[other]] = await Promise.all([accepted, once(client, 'connect')]);
    await expect.poll(() => received().map(({ event }) => event), SOON).toEqual(['opened']);
    expect(received()[0]).toMatchObject({
      state: 'established',
      direction: 'loopback',
      local_port: client.localPort,
      pids: [process.pid],
    });

    // The end that closes last leaves no TIME_WAIT behind.
    other.end();
    await once(client.resume(), 'end');
    await expect.poll(() => received().at(-1)?.event, SOON).toBe('closed');
    expect(received().at(-1)?.duration_seconds).toBeGreaterThan(0);
    stream.destroy();
    server.close();
  });

  it('come with heartbeats while nothing happens', async () => {
    const stream = await open(`${exporter.url}/api/v1/events?port=1`);
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await expect.poll(() => text, { timeout: 40_000, interval: 100 }).toBe('retry: 5000\n\n:\n\n');
    stream.destroy();
  });
});
