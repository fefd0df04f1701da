import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { SystemCommands } from '../../src/collect/ss-netstat.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { AsnCache } from '../../src/enrich/asn/cache.ts';
import { Changes } from '../../src/rows/changes.ts';
import type { ConnectionEvent, Row } from '../../src/model.ts';
import { rowsOf } from '../../src/rows/row.ts';
import type { Snapshot } from '../../src/metrics/collector-runs.ts';
import { Scrape } from '../../src/scrape.ts';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-told-'));
afterAll(() => rmSync(folder, { recursive: true }));

const HEADER = 'Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process';
const LISTENER = 'tcp LISTEN 0 128 0.0.0.0:443 0.0.0.0:* users:(("nginx",pid=7,fd=3),("nginx",pid=8,fd=3))';
const INBOUND = 'tcp ESTAB 1 2 192.0.2.5:443 198.51.100.7:5000 users:(("nginx",pid=8,fd=4))';
const OUTBOUND = 'tcp ESTAB 0 0 192.0.2.5:40000 1.1.1.1:443 users:(("curl",pid=9,fd=4))';
const ends = (state: string): string => `tcp ${state} 0 0 192.0.2.5:40000 1.1.1.1:443`;

let scrape: Scrape;
let cache: AsnCache;
let changes: Changes;
let now: number;

beforeEach(() => {
  now = 1_000_000;
  const collectors = {
    processes: true,
    protocols: true,
    endpoints: true,
    asn: true,
    'first-seen': false,
    netlink: true,
  };
  const commands = new SystemCommands('ss', { os: 'linux', folders: [folder], timeoutMs: 10_000, maxBytes: 1 << 20 });
  cache = new AsnCache();
  const options = { seriesLimit: 1000, rules: EMPTY_RULES, collectors };
  scrape = new Scrape(commands, options, { now: () => now, monotonic: () => now }, cache);
  changes = new Changes(scrape);
});

/** One scan of a host of which ss tells these lines. */
function scan(...lines: readonly string[]): Snapshot {
  const text = [HEADER, ...lines].join('\n');
  writeFileSync(join(folder, 'ss'), `#!/bin/sh\n/bin/cat <<'END'\n${text}\nEND\n`, { mode: 0o755 });
  now += 1000;
  return scrape.scan(Infinity);
}

const brief = (row: Row): string =>
  [row.state, row.direction, row.direction_evidence, row.process, row.pid, row.pids, row.owner_evidence].join(' ');
const scanned = (...lines: readonly string[]): ConnectionEvent[] => changes.take(scan(...lines).at);
const told = (events: readonly ConnectionEvent[]): string[] =>
  events.map(({ event, state, process, previous }) => [event, state, process, previous].join(' '));

describe('a host whose rows come from ss', () => {
  it('has directions, and the owners that ss prints', () => {
    scan(LISTENER, INBOUND, OUTBOUND);
    expect(rowsOf(scrape).map(brief)).toEqual([
      'listen listen  nginx 7 7,8 text',
      'established inbound listener nginx 8 8 text',
      'established outbound  curl 9 9 text',
    ]);
  });

  it('leaves fields null that ss does not print', () => {
    scan(INBOUND);
    const [row] = rowsOf(scrape);
    expect(row).toMatchObject({ receive_queue: 1, send_queue: 2, network: 'documentation' });
    expect(row).toMatchObject({ uid: null, inode: null, netns: null, process_state: null, umask: null, threads: null });
    expect(row).toMatchObject({ resident_memory_bytes: null, pod: null, container: null, workload: null });
  });

  it('publishes connections, and no metrics of processes and namespaces', () => {
    const { families } = scan(LISTENER, INBOUND, OUTBOUND, ends('TIME-WAIT').replace('40000', '40001'));
    const samples = new Map(families.map(({ name, samples }) => [name, samples]));
    const sum = (name: string): number => (samples.get(name) ?? []).reduce((total, { value }) => total + value, 0);
    expect(sum('peerscope_connections')).toBe(4);
    expect(sum('peerscope_processes') + sum('peerscope_process_threads')).toBe(0);
    const unattributed = samples.get('peerscope_sockets_unattributed') ?? [];
    expect(unattributed.filter(({ value }) => value > 0)).toEqual([{ labels: ['short_lived'], value: 1 }]);
  });

  it('reports what opened, changed and closed, and keeps the owner to the end', () => {
    expect(told(scanned(LISTENER))).toEqual([]);
    expect(told(scanned(LISTENER, OUTBOUND))).toEqual(['opened established curl ']);
    expect(told(scanned(LISTENER, ends('FIN-WAIT-2')))).toEqual(['state fin_wait_2 curl established']);
    expect(told(scanned(LISTENER, ends('TIME-WAIT')))).toEqual(['state time_wait curl fin_wait_2']);
    const [closed, ...others] = scanned(LISTENER);
    expect(others).toEqual([]);
    expect(closed).toMatchObject({ event: 'closed', process: 'curl', remote_address: '1.1.1.1', inode: null });
    expect(closed).toMatchObject({ duration_seconds: 3, netns: null, pid: 9 });
  });

  it('distinguishes a reused port from the connection before', () => {
    scanned(OUTBOUND);
    scanned(ends('TIME-WAIT'));
    expect(told(scanned(OUTBOUND.replace('curl', 'wget')))).toEqual([
      'closed time_wait curl ',
      'opened established wget ',
    ]);
  });

  it('counts each of several sockets on one address', () => {
    const twin = (pid: number): string => `tcp LISTEN 0 5 127.0.0.1:80 0.0.0.0:* users:(("a",pid=${pid},fd=3))`;
    const nobody = 'udp UNCONN 0 0 127.0.0.1:53 0.0.0.0:*';
    scan(twin(5), twin(6), nobody, nobody);
    expect(rowsOf(scrape)).toHaveLength(4);
    expect(told(scanned(twin(6), twin(5), nobody, nobody))).toEqual([]);
    expect(told(scanned(twin(6), nobody))).toEqual(['closed listen a ', 'closed unconnected  ']);
  });

  it('looks up public remotes, and never a truncated address', () => {
    const netstat = (remote: string): string => `tcp6 0 0 2001:db8::5:443 ${remote} ESTABLISHED 9/curl`;
    writeFileSync(
      join(folder, 'netstat'),
      `#!/bin/sh\n/bin/cat <<'END'\nProto Recv-Q Send-Q Local Address Foreign Address State PID/Program name\n` +
        `${netstat('2606:4700:4700::11:5555')}\n${netstat('2620:fe:1:2:333:5:60443')}\n${netstat('2620:fe::fe:443')}\nEND\n`,
      { mode: 0o755 },
    );
    rmSync(join(folder, 'ss'), { force: true });
    scrape.scan(Infinity);
    const remotes = rowsOf(scrape).map((row) => [row.remote_address, row.remote_port, row.asn]);
    expect(remotes).toContainEqual([null, 5555, null]);
    expect(remotes).toContainEqual([null, 60_443, null]);
    expect(cache.takeQueries()).toHaveLength(1);
  });

  it('fails the scan with one line if no command prints connections', () => {
    rmSync(join(folder, 'netstat'), { force: true });
    rmSync(join(folder, 'ss'), { force: true });
    expect(() => scrape.scan(Infinity)).toThrow(
      'Cannot read connections from "ss" or "netstat": ss was not found, netstat was not found',
    );
  });
});
