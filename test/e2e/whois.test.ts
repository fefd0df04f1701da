import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, type TestContext } from 'vitest';
import type { Row } from '../../src/model.ts';
import { answers, misbehaviours, startCymruServer, type Behaviour, type CymruServer } from '../support/cymru-server.ts';
import { Exporter, runMain } from '../support/exporter.ts';
import { count, parsePage, sumBy, type Series } from '../support/page.ts';

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
/** What a stranger may call an AS; its /24 holds a peer. */
const HOSTILE_NAME = 'EVIL "}\u001b[31m\u202e\\n,asn="1", Inc., US';
const ROWS = [
  '13335   | 1.1.1.0          | 1.1.1.0/24          | AU | apnic    | 2011-08-11 | CLOUDFLARENET - Cloudflare, Inc., US',
  `3356    | 8.8.8.0          | 8.8.8.0/24          | US | arin     | 1992-12-01 | ${HOSTILE_NAME}`,
  '13335   | 2606:4700:4700::                         | 2606:4700:4700::/48 | US | arin     | 2011-11-01 | CLOUDFLARENET - Cloudflare, Inc., US',
];

/** The networks of the tree's public peers: the server may receive nothing else, and nothing about the other peers. */
const ASKED = ['1.1.1.0', '2001:4860:4860::', '2606:4700:4700::', '8.8.8.0', '9.9.9.0'];
/** The tree's rows with a public peer by the ASN of that peer, before and after the answer. */
const UNRESOLVED = { '': 10 };
const RESOLVED = { '0': 4, '13335': 4, '15169': 1, '3356': 1 };
/** A batch leaves 5 to 10 s after its first question. */
const BATCH_MS = 30_000;
/** After that a silent server is left alone in 15 s. */
const FAILURE_MS = 60_000;
/** The first break lasts up to a minute. */
const RECOVERY_MS = 90_000;

/** A whois server, a folder to keep what was learned, and exporters of the recorded host that know both. */
interface Scene {
  readonly server: CymruServer;
  readonly folder: string;
  readonly flags: readonly string[];
  readonly start: (...more: string[]) => Promise<Exporter>;
}

async function open({ onTestFinished }: TestContext): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-whois-'));
  const server = await startCymruServer(ROWS);
  const flags = [`--storage.path=${folder}`, `--asn.server=${server.host}:${server.port}`];
  const started: Promise<Exporter>[] = [];
  onTestFinished(async () => {
    for (const start of await Promise.allSettled(started)) if (start.status === 'fulfilled') await start.value.stop();
    await server.close();
    rmSync(folder, { recursive: true });
  });
  const start = (...more: string[]): Promise<Exporter> => {
    const exporter = Exporter.start([`--path.procfs=${TREE}`, ...flags, ...more]);
    started.push(exporter);
    return exporter;
  };
  return { server, folder, flags, start };
}

async function scrape(exporter: Exporter): Promise<Series[]> {
  const response = await exporter.get('/metrics');
  expect(response.status).toBe(200);
  return parsePage(await response.arrayBuffer());
}

/** Scrapes until the page shows so. */
function eventually<T>({ expect }: TestContext, exporter: Exporter, show: (page: Series[]) => T, timeout = BATCH_MS) {
  return expect.poll(async () => show(await scrape(exporter)), { timeout, interval: 200 });
}

const publicAsns = (page: readonly Series[]): Record<string, number> =>
  sumBy(
    page.filter(({ labels }) => labels['network'] === 'public'),
    'peerscope_asn_connections',
    'asn',
  );
const valueOf =
  (name: string) =>
  (page: readonly Series[]): number | undefined =>
    page.find((series) => series.name === name)?.value;
const names = (page: readonly Series[]): Readonly<Record<string, string>>[] =>
  page.filter(({ name }) => name === 'peerscope_asn_info').map(({ labels }) => labels);
const asked = (server: CymruServer): string[] => server.asked.toSorted();

describe.concurrent('an exporter with a whois server', () => {
  it('shows peers without their ASN until the answer arrives, and no scrape waits for it', async (context) => {
    const { server, start } = await open(context);
    const session = Promise.withResolvers<() => void>();
    server.behaviour = (socket, reply) => session.resolve(() => answers(socket, reply));

    const exporter = await start();
    const first = await scrape(exporter);
    expect(publicAsns(first)).toEqual(UNRESOLVED);
    expect(names(first)).toEqual([{ asn: '', as_name: '', as_country: '' }]);
    expect(sumBy(first, 'peerscope_endpoint_connections', 'endpoint_group')).toMatchObject({ 'public:443': 4 });

    const answer = await session.promise;
    expect(publicAsns(await scrape(exporter))).toEqual(UNRESOLVED);

    answer();
    await eventually(context, exporter, publicAsns).toEqual(RESOLVED);
    const page = await scrape(exporter);
    expect(names(page)).toEqual([
      { asn: '', as_name: '', as_country: '' },
      { asn: '0', as_name: 'not announced', as_country: '' },
      { asn: '13335', as_name: 'CLOUDFLARENET - Cloudflare, Inc.', as_country: 'US' },
      { asn: '15169', as_name: 'GOOGLE', as_country: 'US' },
      { asn: '3356', as_name: 'EVIL "} [31m \\n,asn="1", Inc.', as_country: 'US' },
    ]);
    expect(sumBy(page, 'peerscope_endpoint_connections', 'endpoint_group')).toMatchObject({
      'AS13335:443': 3,
      'public:443': 1,
    });
    expect(server.requests).toEqual([expect.stringMatching(/^begin\nverbose\n([0-9a-f.:]+\n){5}end\n$/)]);
    expect(asked(server)).toEqual(ASKED);
    expect({
      queries: valueOf('peerscope_asn_queries_total')(page),
      failures: valueOf('peerscope_asn_query_failures_total')(page),
      sent: valueOf('peerscope_asn_addresses_sent_total')(page),
      pending: valueOf('peerscope_asn_pending')(page),
      breaker: valueOf('peerscope_asn_breaker_open')(page),
    }).toEqual({ queries: 1, failures: 0, sent: ASKED.length, pending: 0, breaker: 0 });
  });

  it('sends no network that the configuration excludes or names', async (context) => {
    const { server, folder, start } = await open(context);
    const file = join(folder, 'config.yaml');
    writeFileSync(
      file,
      'asn: { never_send: [8.8.8.128/25] }\nnetworks: [{ name: resolver, cidrs: ["2606:4700:4700::/48"] }]\n',
    );
    const exporter = await start(`--config.file=${file}`);
    await eventually(context, exporter, valueOf('peerscope_asn_queries_total')).toBe(1);
    expect(server.requests).toEqual(['begin\nverbose\n1.1.1.0\n9.9.9.0\n2001:4860:4860::\nend\n']);
    expect(valueOf('peerscope_asn_addresses_sent_total')(await scrape(exporter))).toBe(3);
  });

  it('queries it once for all that share a folder, at the same time and after a restart', async (context) => {
    const { server, folder, flags, start } = await open(context);
    const together = await Promise.all([start(), start()]);
    for (const exporter of together) await eventually(context, exporter, publicAsns).toEqual(RESOLVED);
    expect(asked(server)).toEqual(ASKED);
    for (const exporter of together) expect(await exporter.stop()).toBe(0);

    const restarted = await start();
    await eventually(context, restarted, publicAsns).toEqual(RESOLVED);
    await eventually(context, restarted, valueOf('peerscope_asn_pending')).toBe(0);

    const addresses = ['1.1.1.77', '9.9.9.9', '74.125.225.229', '2001:240:10c:1::ca20:9d1d', '10.0.0.1', '2001:db8::1'];
    const ask = (...more: string[]) => runMain(['whois', '-o', 'json', ...flags, ...more, ...addresses]);
    const { code, stdout, stderr } = await ask();
    const rows = JSON.parse(stdout) as unknown;
    expect({ code, stderr, rows }).toMatchObject({
      code: 0,
      stderr: '',
      rows: [
        { address: '1.1.1.77', network: 'public', asn: 13335, asns: [13335], bgp_prefix: '1.1.1.0/24' },
        { address: '9.9.9.9', network: 'public', asn: 0, asns: [], bgp_prefix: null },
        { address: '74.125.225.229', network: 'public', asn: 15169, asns: [15169], bgp_prefix: '74.125.225.0/24' },
        {
          address: '2001:240:10c:1::ca20:9d1d',
          network: 'public',
          asn: 2497,
          asns: [2497],
          bgp_prefix: '2001:240::/32',
        },
        { address: '10.0.0.1', network: 'private', asn: null, asns: null },
        { address: '2001:db8::1', network: 'documentation', asn: null, asns: null },
      ],
    });
    expect(asked(server), 'only the arguments that were not queried before').toEqual(
      [...ASKED, '74.125.225.0', '2001:240:10c::'].sort(),
    );

    const again = await ask('--asn.provider=none');
    expect({ ...again, rows: JSON.parse(again.stdout) as unknown }).toMatchObject({ code: 0, stderr: '', rows });
    const listed = await runMain(['list', '-o', 'json', `--path.procfs=${TREE}`, `--storage.path=${folder}`]);
    const shown = (JSON.parse(listed.stdout) as Row[]).filter(({ network }) => network === 'public');
    expect(count(shown.map(({ asn }) => String(asn)))).toEqual(RESOLVED);
    expect(server.requests).toHaveLength(2);
    expect(valueOf('peerscope_asn_queries_total')(await scrape(restarted))).toBe(0);
    expect(valueOf('peerscope_store_up')(await scrape(restarted))).toBe(1);
  });

  const forged: Record<string, Behaviour> = {
    answersForOthers: (socket, reply) => socket.end(reply.replaceAll(/\| [0-9a-f.:]+ +\|/g, '| 192.30.253.0     |')),
    claimsForeignPrefixes: (socket, reply) =>
      socket.end(reply.replaceAll(/\| ([0-9a-f.:]+) +\|[^|]*\|/g, '| $1 | 192.30.253.0/24 |')),
  };

  it.for<[name: string, behaviour: Behaviour | null]>([
    ['is down', null],
    ...Object.entries({ ...misbehaviours, ...forged }),
  ])(
    'continues if the server %s: the breaker opens, and no wrong answer is shown or stored',
    async ([, behaviour], context) => {
      const { server, flags, start } = await open(context);
      if (behaviour) server.behaviour = behaviour;
      else await server.close();
      const exporter = await start();
      await eventually(context, exporter, valueOf('peerscope_asn_breaker_open'), FAILURE_MS).toBe(1);
      const page = await scrape(exporter);
      expect(publicAsns(page)).toEqual(UNRESOLVED);
      expect(names(page)).toEqual([{ asn: '', as_name: '', as_country: '' }]);
      expect({
        failures: valueOf('peerscope_asn_query_failures_total')(page),
        sent: valueOf('peerscope_asn_addresses_sent_total')(page),
        pending: valueOf('peerscope_asn_pending')(page),
      }).toEqual({ failures: 1, sent: behaviour ? ASKED.length : 0, pending: ASKED.length });
      expect((await exporter.get('/-/healthy')).status).toBe(200);
      expect(asked(server)).toEqual(behaviour ? ASKED : []);

      expect(await runMain(['whois', '-o', 'jsonl', ...flags, '--asn.provider=none', '1.1.1.1'])).toMatchObject({
        code: 1,
        stdout: expect.stringContaining('"asn":null') as string,
        stderr: 'Cannot resolve 1 of 1 networks: --asn.provider is "none"\n',
      });
    },
  );

  it('closes its breaker once the server recovers', async (context) => {
    const { server, start } = await open(context);
    server.behaviour = misbehaviours.closesAtOnce;
    const exporter = await start();
    await eventually(context, exporter, valueOf('peerscope_asn_breaker_open'), FAILURE_MS).toBe(1);
    server.behaviour = answers;
    await eventually(context, exporter, publicAsns, RECOVERY_MS).toEqual(RESOLVED);
    expect(valueOf('peerscope_asn_breaker_open')(await scrape(exporter))).toBe(0);
  });

  it('makes `peerscope whois` exit with 1 and one line if the server is down, and print the addresses unchanged', async (context) => {
    const { server, flags } = await open(context);
    await server.close();
    const { code, stdout, stderr } = await runMain(['whois', '-o', 'csv', ...flags, '1.1.1.1', '::1']);
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout:
        'address,network,asn,asns,as_name,as_country,bgp_prefix,registry,registry_country\n1.1.1.1,public,,,,,,,\n::1,loopback,,,,,,,\n',
      stderr: `Cannot query whois server "${server.host}:${server.port}": connection refused\n`,
    });
  });
});
