import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { formatAddress, ipv4, maskAddress, parseAddress, sameAddress } from '../../src/common/address.ts';
import { Redactor } from '../../src/cli/record-redact.ts';
import { record } from '../../src/cli/record.ts';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import type { Cgroup } from '../../src/model.ts';
import { FibTrie, ownAddresses } from '../../src/collect/fib-trie.ts';
import { classify } from '../../src/common/network-class.ts';
import { scan } from '../../src/index.ts';
import type { Address, Cidr, Row } from '../../src/model.ts';
import { workloadOf } from '../../src/enrich/owner-labels.ts';

const FIXTURES = new URL('../fixtures/', import.meta.url).pathname;
const SCENARIOS = readdirSync(`${FIXTURES}proc`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const scratch = mkdtempSync(join(tmpdir(), 'peerscope-redactor-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const read = (text: string): Address => {
  const address = parseAddress(text);
  if (!address) throw new Error(text);
  return address;
};

const word = fc.integer({ min: 0, max: 0xffffffff });
const anyAddress = fc.oneof(
  word.map((bits) => ipv4(bits)),
  fc.tuple(word, word, word, word),
  fc.tuple(
    fc.constantFrom(0x20010000, 0x20020000, 0x0064ff9b, 0x20010db8, 0xfd000ec2, 0xfe800000, 0xfec00000),
    word,
    word,
    word,
  ),
  fc.constantFrom('10.1.2.3', '192.168.7.9', '172.20.0.1', '100.64.9.9', '169.254.1.1', '64:ff9b::808:808').map(read),
);

describe('redacted addresses', () => {
  it('keep their kind and map one to one', () => {
    fc.assert(
      fc.property(fc.array(anyAddress, { maxLength: 20 }), (addresses) => {
        const redactor = new Redactor();
        const redacted = addresses.map((address) => redactor.address(address));
        for (const [i, address] of addresses.entries()) {
          const other = redacted[i] ?? [0, 0, 0, 0];
          expect([formatAddress(other), classify(other).network]).toEqual([
            formatAddress(other),
            classify(address).network,
          ]);
          expect(redactor.address(address)).toEqual(other);
        }
        const generic = addresses.filter((address) => classify(address).address === address);
        const different = new Set(generic.map(formatAddress)).size;
        expect(new Set(generic.map((address) => formatAddress(redactor.address(address)))).size).toBe(different);
      }),
    );
  });

  it.each<[situation: string, a: string, b: string, bits: number]>([
    ['a public /24', '8.8.8.8', '8.8.8.77', 120],
    ['a private /24', '192.168.7.1', '192.168.7.2', 120],
    ['a /48', '2606:4700:1:2::3', '2606:4700:1:9::4', 48],
    ['a /64', '2606:4700:1:2::3', '2606:4700:1:2::4', 64],
  ])('share %s if the originals do', (_situation, a, b, bits) => {
    const redactor = new Redactor();
    const [one, other] = [redactor.address(read(a)), redactor.address(read(b))];
    expect(sameAddress(maskAddress(one, bits), maskAddress(other, bits))).toBe(true);
    expect(sameAddress(one, other)).toBe(false);
    const elsewhere = redactor.address(read(a.includes(':') ? '2606:4701::1' : '8.8.9.8'));
    expect(sameAddress(maskAddress(one, bits), maskAddress(elsewhere, bits))).toBe(false);
  });

  it('reveal nothing of the originals', () => {
    const texts = [
      '8.8.8.8',
      '10.20.30.40',
      '172.20.30.40',
      '2606:4700::1111',
      'fe80::a801:3eff:fe06:b7c2',
      '2002:808:808::1',
    ];
    const redactor = new Redactor();
    expect(texts.map((text) => formatAddress(redactor.address(read(text))))).toEqual([
      '11.0.0.1',
      '10.0.0.1',
      '172.16.0.1',
      '2a00::1',
      'fe80::1',
      '2002:b00:1::1',
    ]);
  });

  it.each(['127.0.0.1', '::1', '0.0.0.0', '::', '224.0.0.1', '169.254.169.254', '192.0.2.1', '2001:db8::1'])(
    'keep %s, which identifies no one',
    (text) => expect(formatAddress(new Redactor().address(read(text)))).toBe(text),
  );

  it('remain local addresses if the originals were', () => {
    const text = readFileSync(`${FIXTURES}proc/containers/25905/net/fib_trie`, 'latin1');
    const ifInet6 = readFileSync(`${FIXTURES}proc/containers/25905/net/if_inet6`, 'latin1');
    const redactor = new Redactor();
    const localRoutes = (file: string): Cidr[] => {
      const fibTrie = new FibTrie();
      for (const line of file.split('\n')) fibTrie.parseLine(line);
      return fibTrie.local;
    };
    const own = ownAddresses(localRoutes(redactor.fibTrie(text)), redactor.ifInet6(ifInet6));
    const really = ownAddresses(localRoutes(text), ifInet6);
    const locals = [...text.matchAll(/\|-- (\S+)/g)].map(([, key = '']) => read(key));
    expect(locals.map((address) => own.has(redactor.address(address)))).toEqual(
      locals.map((address) => really.has(address)),
    );
  });
});

describe('redacted cgroups', () => {
  const { cases } = JSON.parse(readFileSync(`${FIXTURES}cgroup/cases.json`, 'utf8')) as {
    cases: { name: string; lines: string[] }[];
  };

  it.each(cases.map(({ name, lines }) => [name, lines.join('\n')]))(
    'of %s have the same meaning without the names',
    (_name, text) => {
      const real = parseCgroup(text);
      const redactor = new Redactor();
      const redacted = parseCgroup(redactor.cgroup(text));
      const shape = ({ kind, runtime, qos, containerId, outerContainerId, podUid }: typeof real): unknown => [
        kind,
        runtime,
        qos,
        ...[containerId, outerContainerId, podUid].map((id) => id !== null),
      ];
      expect(shape(redacted)).toEqual(shape(real));
      expect(workloadOf(redacted) === '').toBe(workloadOf(real) === '');
      const names = [real.containerId, real.outerContainerId, real.podUid].filter((name) => name !== null);
      expect(names.filter((name) => redactor.cgroup(text).includes(name))).toEqual([]);
    },
  );

  it.each([
    `/system.slice/web.service/libpod-payload-${'a'.repeat(64)}`,
    '/machine.slice/systemd-nspawn@private.service/payload/system.slice/nginx.service',
    '/machine.slice/machine-private.scope/supervisor',
    '/user.slice/user-1000.slice/user@1000.service/app.slice/private.service',
    `/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-${'a'.repeat(64)}.scope`,
    `/user.slice/user-1000.slice/user@1000.service/libpod-conmon-${'a'.repeat(64)}.scope`,
    '/machine.slice/machine-lxc\\x2d1\\x2dprivate.scope/system.slice/nginx.service',
  ])('of %s keep kind, runtime and unit', (path) => {
    const text = new Redactor().cgroup(`0::${path}\n`);
    const shape = ({ kind, runtime, containerId, unit, user }: Cgroup): unknown => [
      kind,
      runtime,
      !containerId,
      !unit,
      user,
    ];
    expect(shape(parseCgroup(text))).toEqual(shape(parseCgroup(`0::${path}\n`)));
    expect(text).not.toMatch(/private|web|nginx|aaa/);
  });

  it('stay distinct', () => {
    const redactor = new Redactor();
    const workload = (path: string): string => workloadOf(parseCgroup(redactor.cgroup(`0::${path}\n`)));
    expect(workload('/system.slice/a.service')).toBe('unit1.service');
    expect(workload('/system.slice/b.service')).toBe('unit2.service');
    expect(workload('/other.slice/a.service')).toBe('unit1.service');
  });
});

describe('record --redact', () => {
  const known = (row: Row): string => {
    const { netns, transport, family, local_port, remote_port, state, direction, direction_evidence, network } = row;
    const { receive_queue, send_queue, uid, inode, pid, pids, owner_evidence, unattributed_reason, process_state } =
      row;
    const is = [row.process, row.workload, row.pod, row.container, row.container_id].map((name) => name !== null);
    const socket = [
      netns,
      transport,
      family,
      local_port,
      remote_port,
      state,
      direction,
      direction_evidence,
      network,
      inode,
    ];
    return JSON.stringify([
      ...socket,
      receive_queue,
      send_queue,
      uid,
      pid,
      pids,
      owner_evidence,
      unattributed_reason,
      process_state,
      is,
    ]);
  };

  it.each(SCENARIOS)('keeps everything of %s except names and addresses', async (scenario) => {
    const procfs = `${FIXTURES}proc/${scenario}`;
    const [directory, again, plain] = ['redacted', 'again', 'plain'].map((name) => join(scratch, scenario, name));
    if (!directory || !again || !plain) return;
    record({ procfs, directory, redact: true });
    record({ procfs, directory: again, redact: true });
    record({ procfs, directory: plain });
    const real = await scan({ procfs });
    const rows = await scan({ procfs: directory });
    expect(rows.map(known).sort()).toEqual(real.map(known).sort());
    expect(JSON.stringify(await scan({ procfs: again }))).toBe(JSON.stringify(rows));
    expect(JSON.stringify(await scan({ procfs: plain }))).toBe(JSON.stringify(real));

    const kept = new Set(['docker', 'containerd', 'session.scope']);
    const names = new Set(real.flatMap((row) => [row.process, row.workload, row.pod, row.container_id]));
    const said = rows.flatMap((row) => [row.process, row.workload, row.pod, row.container_id]);
    expect(said.filter((name) => name !== null && names.has(name) && !kept.has(name))).toEqual([]);
    const tells = (address: string | null): boolean =>
      address !== null && ['public', 'private', 'link_local'].includes(classify(read(address)).network);
    const count = (list: readonly Row[]): number => new Set(list.map((row) => row.remote_address).filter(tells)).size;
    expect(count(rows)).toBe(count(real));
    expect(new Set(rows.map((row) => row.process)).size).toBe(new Set(real.map((row) => row.process)).size);
  });
});
