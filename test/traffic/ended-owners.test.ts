import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Procfs } from '../../src/collect/procfs.ts';
import { parseConfig } from '../../src/config/config.ts';
import { parseAddress } from '../../src/common/address.ts';
import type { ConnectionEvent, Family } from '../../src/model.ts';
import { Changes } from '../../src/rows/changes.ts';
import { Scrape } from '../../src/scrape.ts';
import { SimulatedHost, type SimulatedNamespace } from '../support/simulated-sockets.ts';

function podCgroup(uid: string, container: string): string {
  return `/kubepods.slice/kubepods-pod0000000${uid}_0000_0000_0000_000000000000.slice/cri-containerd-${container.repeat(32)}.scope`;
}

let host: SimulatedHost;
let own: SimulatedNamespace;
let pod: SimulatedNamespace;
let scrape: Scrape;
let changes: Changes;
let families: readonly Family[];
let port: number;

beforeEach(() => {
  host = new SimulatedHost();
  own = host.add('192.0.2.1', null, 'host');
  pod = host.add('10.0.0.1', 1, 'web', podCgroup('1', 'ab'));
  host.listen(pod, 80);
  port = 40_000;
  host.write();
  const config = parseConfig({ 'asn.provider': 'none' }, {});
  const networks = ['198.51.100.0', '203.0.113.0'].map((address, i) => ({
    name: `office-${i}`,
    asn: 64_500 + i,
    cidrs: [{ address: parseAddress(address) ?? ([0, 0, 0, 0] as const), bits: 120 }],
  }));
  const rules = { ...config.rules, networks };
  const clock = { now: () => host.now, monotonic: () => host.now };
  scrape = new Scrape(new Procfs(host.root), { ...config, rules, hasStore: true }, clock, null, host.source);
  changes = new Changes(scrape);
  scrape.traffic?.listEach(true);
  scan();
});
afterEach(() => host[Symbol.dispose]());

function scan(dump = host.dump()): ConnectionEvent[] {
  host.write();
  const { at, failures, ...snapshot } = scrape.scan(Infinity, dump);
  families = snapshot.families;
  expect(failures).toEqual([]);
  host.pass(1_000);
  return changes.take(at);
}

/** A connection between two scans. */
function call(namespace: SimulatedNamespace, remote: string, pid = namespace.pid): void {
  const socket = host.open(namespace, port++, remote, { pid });
  if (!socket) throw new Error('the port is in use');
  host.transfer(socket, 100, 200, 0);
  host.end(socket, 'reset');
  host.pass(5);
}

function serve(namespace: SimulatedNamespace, localPort: number, remote: string, local = namespace.address): void {
  const socket = host.open(namespace, localPort, remote, { isInbound: true, local });
  if (!socket) throw new Error('the ends are in use');
  host.end(socket, 'reset');
  host.pass(5);
}

function tell(event: ConnectionEvent): string {
  const { direction, process, owner_evidence: evidence, unattributed_reason: reason, pod, workload } = event;
  const owner = process ?? `${pod?.slice(0, 8) ?? workload ?? 'nobody'}, ${reason}`;
  return `${event.event} ${direction}: ${owner}${evidence === null ? '' : ` by ${evidence}`}`;
}

describe('the owner of a connection that no scan saw is', () => {
  it.each<{ title: string; run: () => void; told: string[] }>([
    {
      title: 'that of the listener on its local end',
      run: () => serve(pod, 80, '198.51.100.7:50000'),
      told: ['closed inbound: web by listener'],
    },
    {
      title: 'the sole caller of its remote endpoint in its namespace',
      run: () => {
        host.open(pod, port++, '198.51.100.7:443');
        scan();
        call(pod, '198.51.100.7:443');
        call(pod, '198.51.100.7:8443');
        call(pod, '198.51.100.8:443');
        call(own, '198.51.100.7:443');
      },
      told: [
        'closed outbound: nobody, short_lived',
        'closed outbound: web by endpoint',
        'closed outbound: 00000001, short_lived by netns',
        'closed outbound: 00000001, short_lived by netns',
      ],
    },
    {
      title: 'the sole caller that the same scan finds',
      run: () => {
        call(pod, '198.51.100.7:443');
        host.open(pod, port++, '198.51.100.7:443');
      },
      told: ['closed outbound: web by endpoint', 'opened outbound: web by fd'],
    },
    {
      title: 'the pod if two processes call its endpoint',
      run: () => {
        host.open(pod, port++, '198.51.100.7:443');
        host.open(pod, port++, '198.51.100.7:443', { pid: host.start(pod, 'job') });
        scan();
        call(pod, '198.51.100.7:443');
      },
      told: ['closed outbound: 00000001, short_lived by netns'],
    },
    {
      title: 'still the pod after the second caller has gone',
      run: () => {
        const socket = host.open(pod, port++, '198.51.100.7:443', { pid: host.start(pod, 'job') });
        host.open(pod, port++, '198.51.100.7:443');
        scan();
        if (socket) host.end(socket, 'reset');
        scan();
        call(pod, '198.51.100.7:443');
      },
      told: ['closed outbound: 00000001, short_lived by netns'],
    },
    {
      title: 'known without a process if two processes of a name call its endpoint',
      run: () => {
        const [a, b] = [host.start(own, 'job'), host.start(own, 'job')];
        host.open(own, port++, '198.51.100.7:443', { pid: a });
        host.open(own, port++, '198.51.100.7:443', { pid: b });
        scan();
        call(own, '198.51.100.7:443');
      },
      told: ['closed outbound: job by endpoint'],
    },
    {
      title: 'not that of a namespace before it with the same number',
      run: () => {
        host.open(pod, port++, '198.51.100.7:443');
        scan();
        host.remove(pod);
        scan();
        pod = host.add('10.0.0.2', 1, 'other', podCgroup('2', 'cd'));
        scan();
        call(pod, '198.51.100.7:443');
      },
      told: ['closed outbound: 00000002, short_lived by netns'],
    },
    {
      title: 'nobody in a namespace without a pod',
      run: () => call(own, '198.51.100.7:443'),
      told: ['closed outbound: nobody, short_lived'],
    },
  ])('$title', ({ run, told }) => {
    run();
    expect(scan().map(tell)).toEqual(told);
  });
});

describe('of a connection that no scan saw', () => {
  it('one line reports the end with its bytes; its TIME_WAIT row is no change', () => {
    const socket = host.open(own, port++, '198.51.100.7:443');
    if (!socket) throw new Error('the port is in use');
    host.transfer(socket, 100, 200, 3);
    host.end(socket, 'active close');
    host.pass(5);
    const [closed, ...others] = scan();
    expect(others).toEqual([]);
    expect(closed).toMatchObject({
      ...{ event: 'closed', state: 'closed', duration_seconds: null, opened_at: null },
      ...{ local_address: '192.0.2.1', remote_address: '198.51.100.7', remote_port: 443, netns: own.inode },
    });
    expect(scan()).toEqual([]);
    host.pass(60_000);
    expect(scan()).toEqual([]);
  });

  it('a line that a dump from before the end has is no change either', () => {
    const socket = host.open(own, port++, '198.51.100.7:443');
    const dump = host.dump();
    if (socket) host.end(socket, 'active close');
    host.pass(5);
    scrape.traffic?.takeEnded();
    expect(scan(dump).map(tell)).toEqual(['closed outbound: nobody, short_lived']);
    expect(scan()).toEqual([]);
    host.pass(60_000);
    expect(scan()).toEqual([]);
  });

  it('a connection that scans saw is reported once, when its TIME_WAIT row has gone', () => {
    const socket = host.open(own, port++, '198.51.100.7:443');
    expect(scan().map(tell)).toEqual(['opened outbound: host by fd']);
    if (socket) host.end(socket, 'active close');
    host.pass(5);
    expect(scan().map(tell)).toEqual(['state outbound: host by history']);
    host.pass(60_000);
    expect(scan().map(tell)).toEqual(['closed outbound: host by history']);
    expect(scan()).toEqual([]);
  });

  it('the ASN of its remote is first seen with its owner', () => {
    host.open(pod, port++, '198.51.100.7:443');
    scan();
    call(pod, '198.51.100.7:443');
    scan();
    expect(sightings()).toEqual(['containerd operator AS64500']);
    host.open(pod, port++, '203.0.113.9:443');
    call(pod, '203.0.113.9:443');
    serve(pod, 80, '203.0.113.9:50000');
    scan();
    expect(sightings().sort()).toEqual(['containerd client AS64501', 'containerd operator AS64501']);
  });

  it.each<{ title: string; run: () => void; told: string[] }>([
    {
      title: 'a listener of the other address family does not accept',
      run: () => serve(pod, 8080, '198.51.100.7:50000'),
      told: ['inbound null'],
    },
    {
      title: 'the ports show the service',
      run: () => call(pod, '198.51.100.7:6000'),
      told: ['outbound null'],
    },
    {
      title: 'two ephemeral ports leave a guess',
      run: () => call(pod, '198.51.100.7:50000'),
      told: ['outbound port'],
    },
    {
      title: 'both ends of a loopback connection are loopback',
      run: () => {
        const client = host.open(pod, port, '127.0.0.1:80', { local: '127.0.0.1' });
        const server = host.open(pod, 80, `127.0.0.1:${port}`, { local: '127.0.0.1', isInbound: true });
        call(pod, '198.51.100.7:6000');
        for (const socket of [client, server]) if (socket) host.end(socket, 'reset');
        host.pass(5);
      },
      told: ['outbound null', 'loopback listener', 'loopback listener'],
    },
  ])('the direction: $title', ({ run, told }) => {
    run();
    const directions = scan().map(({ direction, direction_evidence }) => `${direction} ${direction_evidence}`);
    expect(directions.sort()).toEqual(told.sort());
  });

  it('the kernel counted all that opened: those that scans saw, and those of which only the end is known', () => {
    host.open(pod, port++, '198.51.100.7:443');
    for (let i = 0; i < 3; i++) call(own, '198.51.100.7:443');
    for (let i = 0; i < 4; i++) call(pod, '198.51.100.7:443');
    const missed = host.open(own, port++, '198.51.100.7:443');
    if (missed) host.end(missed, 'reset', 0, true);
    scan();
    expect(coverage()).toBe(8 / 9);
  });
});

/** The ASNs that were first seen since the last call, with the process of their owner. */
function sightings(): string[] {
  const times = scrape.unusual?.takeSightings() ?? [];
  return times.flatMap(({ key }) => {
    const [, workload, kind, what] = JSON.parse(key.slice(key.indexOf('['))) as string[];
    return kind === 'operator' || kind === 'client' ? [`${workload} ${kind} ${what}`] : [];
  });
}

/** The value of a family that has one sample. */
function coverage(): number | undefined {
  return families.find(({ name }) => name === 'peerscope_connection_coverage_ratio')?.samples[0]?.value;
}
