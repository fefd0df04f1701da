import { describe, expect, it, type TestContext } from 'vitest';
import { startCymruServer } from '../support/cymru-server.ts';
import { Exporter } from '../support/exporter.ts';
import { KubernetesApi } from '../support/kubernetes-api.ts';
import { whyNoNamespaces } from '../support/sockets/network.ts';
import { FaultyLink } from '../support/faulty-link.ts';
import { sumBy, type Series } from '../support/page.ts';
import { hostCalling, knownAsns, peers, publicAsns, scrape, total, whoisRows } from '../support/recorded-host.ts';
import { findRedisServer, RedisServer } from '../support/redis-server.ts';

const SERVICES = ['whois', 'redis', 'api'] as const;
const FAULTS = ['down', 'slow', 'resetting', 'lying'] as const;
type Service = (typeof SERVICES)[number];
type Fault = (typeof FAULTS)[number];

/** What each says that is no word of its protocol, or one that means nothing there. */
const LIES: Readonly<Record<Service, string>> = {
  whois: '<!doctype html>\n<title>\u001b[31m502 Bad Gateway</title>\n',
  redis: 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n',
  api: '',
};
const INVALID_ANSWERS = [
  '{"kind":"List","metadata":null,"items":"none"}',
  '<!doctype html>',
  '{"kind":"List","metadata":{}',
];

/** Without the store that a cluster shares an exporter first asks after up to two minutes, so that not all of them ask at once. */
const DEGRADED_MS = 200_000;
/** The first break of whois lasts up to a minute, one after it longer; the API is asked again after up to 30 s. */
const RECOVERED_MS = 240_000;
const CALLS = peers(0, 400);

const place = findRedisServer();
const obstacle = whyNoNamespaces() ?? (place ? null : 'redis-server is not installed');
if (obstacle !== null) process.stderr.write(`SKIPPED: service faults: ${obstacle}\n`);

/** What a page says of the three services: whether each of them works. */
function health(page: readonly Series[]): Record<Service, boolean> {
  return {
    whois: total(page, 'peerscope_asn_breaker_open') === 0,
    redis: total(page, 'peerscope_store_up') === 1,
    api: total(page, 'peerscope_kubernetes_watch_up') === 1,
  };
}

const WELL: Readonly<Record<Service, boolean>> = { whois: true, redis: true, api: true };

/** Three servers, each behind a link that can fail, and an exporter that knows them by these links alone. */
class Setup {
  readonly #links: Readonly<Record<Service, FaultyLink>>;
  readonly #api: KubernetesApi;
  readonly #exporter: Exporter;
  /** The milliseconds that the slowest page took. */
  slowest = 0;

  private constructor(links: Readonly<Record<Service, FaultyLink>>, api: KubernetesApi, exporter: Exporter) {
    this.#links = links;
    this.#api = api;
    this.#exporter = exporter;
  }

  /** Starts all of it while these services fail. */
  static async open({ skip, onTestFinished }: TestContext, failing: ReadonlyMap<Service, Fault>): Promise<Setup> {
    if (!place || obstacle !== null) return skip(obstacle ?? '');
    const tree = hostCalling(CALLS);
    const [whois, redis, api] = [
      await startCymruServer(whoisRows(CALLS)),
      await RedisServer.start(place),
      await KubernetesApi.start(),
    ];
    const links = {
      whois: await FaultyLink.start(whois.port),
      redis: await FaultyLink.start(redis.port),
      api: await FaultyLink.start(api.port),
    };
    const started: Exporter[] = [];
    onTestFinished(async () => {
      for (const exporter of started) expect(await exporter.stop()).toBe(0);
      for (const link of Object.values(links)) await link.close();
      for (const server of [whois, redis, api]) await server.close();
      tree[Symbol.dispose]();
    });
    await fail(links, api, failing);
    const flags = [
      `--path.procfs=${tree.root}`,
      `--asn.server=127.0.0.1:${links.whois.port}`,
      `--storage.url=redis://127.0.0.1:${links.redis.port}`,
    ];
    const environment = {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(links.api.port),
      NODE_NAME: 'node',
    };
    const exporter = await Exporter.start(flags, environment, api.mountAccount());
    started.push(exporter);
    return new Setup(links, api, exporter);
  }

  fail(failing: ReadonlyMap<Service, Fault>): Promise<void> {
    return fail(this.#links, this.#api, failing);
  }

  async heal(): Promise<void> {
    this.#api.answer = () => false;
    for (const link of Object.values(this.#links)) await link.up();
  }

  /** Scrapes until the page shows that these services work and the others do not. Every page is in time and exact. */
  async until({ expect }: TestContext, works: Readonly<Record<Service, boolean>>, timeout: number): Promise<void> {
    const show = async (): Promise<Record<Service, boolean>> => health(await this.page({ expect }));
    await expect.poll(show, { timeout, interval: 500 }).toEqual(works);
  }

  async page({ expect }: Pick<TestContext, 'expect'>): Promise<Series[]> {
    const begun = performance.now();
    const page = await scrape(this.#exporter);
    this.slowest = Math.max(this.slowest, performance.now() - begun);
    for (const family of ['peerscope_connections', 'peerscope_asn_connections'])
      expect(total(page, family), family).toBe(CALLS.length);
    expect(sumBy(page, 'peerscope_scrape_collector_success', 'collector')['sockets']).toBe(1);
    return page;
  }

  /** Scrapes until every peer has its ASN. */
  async resolved(context: TestContext): Promise<void> {
    const asns = async (): Promise<Record<string, number>> => publicAsns(await this.page(context));
    await context.expect.poll(asns, { timeout: RECOVERED_MS, interval: 500 }).toEqual(knownAsns(CALLS));
  }
}

async function fail(
  links: Readonly<Record<Service, FaultyLink>>,
  api: KubernetesApi,
  failing: ReadonlyMap<Service, Fault>,
): Promise<void> {
  for (const [service, fault] of failing) {
    const link = links[service];
    if (fault === 'down') await link.down();
    else if (fault === 'slow') link.fault = 'slow';
    else if (fault === 'resetting') link.fault = 'resets';
    else if (service !== 'api') link.fault = { lies: LIES[service] };
    else {
      let answered = 0;
      api.answer = (_, response) => {
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(INVALID_ANSWERS[answered++ % INVALID_ANSWERS.length]);
        return true;
      };
      link.fault = 'none';
    }
  }
}

const cases = [
  ...FAULTS.flatMap((fault) => SERVICES.map((service) => [[service], fault] as const)),
  ...FAULTS.map((fault) => [SERVICES, fault] as const),
].map(([services, fault]) => ({ name: services.join(', '), fault, services }));

describe.concurrent('an exporter', { timeout: 500_000 }, () => {
  it.for(cases)('$name with $fault reports it, counts exactly, and recovers by itself', async (given, context) => {
    const { services, fault } = given;
    const failing = new Map(services.map((service) => [service, fault]));
    const running = await Setup.open(context, failing);
    const degraded = { ...WELL, ...Object.fromEntries(services.map((service) => [service, false])) };
    await running.until(context, degraded, DEGRADED_MS);
    await running.heal();
    await running.until(context, WELL, RECOVERED_MS);
    await running.resolved(context);
    process.stderr.write(`${given.name} ${fault}: the slowest page in ${running.slowest.toFixed(0)} ms\n`);
  });

  it('started healthy keeps counting while each service fails in its own way', async (context) => {
    const running = await Setup.open(context, new Map());
    await running.resolved(context);
    await running.until(context, WELL, RECOVERED_MS);
    await running.fail(
      new Map<Service, Fault>([
        ['whois', 'down'],
        ['redis', 'slow'],
        ['api', 'resetting'],
      ]),
    );
    // There is nothing to query by whois now.
    await running.until(context, { whois: true, redis: false, api: false }, DEGRADED_MS);
    context.expect(publicAsns(await running.page(context))).toEqual(knownAsns(CALLS));
    await running.heal();
    await running.until(context, WELL, RECOVERED_MS);
    context.expect(publicAsns(await running.page(context))).toEqual(knownAsns(CALLS));
  });
});
