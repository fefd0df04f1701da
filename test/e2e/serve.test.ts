import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FAMILIES } from '../../src/metrics/catalogue.ts';
import { ENVIRONMENT, Exporter, runMain, samplesOf, startMain } from '../support/exporter.ts';
import { answers, isSilent, OtlpReceiver, pointsOf } from '../support/otlp-receiver.ts';

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none'];
const WITHOUT_DETAILS = {
  exe: null,
  exe_deleted: null,
  cmdline: null,
  ppid: null,
  parents: null,
  process_started_at: null,
  cgroup: null,
};

test('an exporter with a local database exports ASNs, and nothing leaves the host', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
  const table = join(folder, 'ip2asn-combined.tsv.gz');
  writeFileSync(table, gzipSync('9.9.9.0\t9.9.9.255\t19281\tCH\tQUAD9-AS-1\n'));
  const storage = join(folder, 'state');
  const exporter = await Exporter.start([
    `--path.procfs=${TREE}`,
    `--storage.path=${storage}`,
    '--asn.provider=tsv',
    `--asn.database=${table}`,
  ]);
  try {
    const page = await exporter.metricsOnce((page) => page.includes('asn_info{asn="19281"'));
    expect(page).toContain('peerscope_asn_info{asn="19281",as_name="QUAD9-AS-1",as_country="CH"} 1\n');
    expect(page).toContain('peerscope_asn_addresses_sent_total{provider="tsv"} 0\n');
    const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
    expect(started).toMatchObject({ asn_provider: 'tsv', asn_database: table, sends: 'nothing' });
    expect(started).not.toHaveProperty('asn_server');
    expect(page).toContain('peerscope_store_up{store="sqlite"} 1\n');
    expect(page).toContain('peerscope_store_failures_total{store="sqlite"} 0\n');
    // First-seen times are stored there, answers are not.
    expect(existsSync(storage)).toBe(true);
  } finally {
    expect(await exporter.stop()).toBe(0);
    rmSync(folder, { recursive: true });
  }
});

test.each([
  { where: 'in a cluster without a shared store', flags: [], host: '10.96.0.1', warns: true },
  { where: 'in a cluster without an ASN provider', flags: ['--asn.provider=none'], host: '10.96.0.1', warns: false },
  {
    where: 'in a cluster with a shared store',
    flags: ['--storage.url=redis://127.0.0.1:1'],
    host: '10.96.0.1',
    warns: false,
  },
  { where: 'outside a cluster', flags: [], host: '', warns: false },
])('$where it warns about rare queries: $warns', { timeout: 30_000 }, async ({ flags, host, warns }) => {
  const exporter = await Exporter.start(
    [`--path.procfs=${TREE}`, '--asn.server=127.0.0.1:1', '--storage.path=/dev/null/none', ...flags],
    { KUBERNETES_SERVICE_HOST: host },
  );
  await exporter.metricsOnce((page) => page.includes('success{collector="sockets"} 1'));
  expect(await exporter.stop()).toBe(0);
  const warnings = exporter.log.filter(({ msg }) => /once in ten minutes/.test(String(msg)));
  expect(warnings.map(({ advice }) => String(advice))).toEqual(warns ? [expect.stringContaining('--storage.url')] : []);
});

describe('an exporter with the API', () => {
  let exporter: Exporter;
  beforeAll(async () => {
    exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET, '--web.enable-api']);
  }, 30_000);
  afterAll(async () => {
    expect(await exporter.stop()).toBe(0);
  }, 30_000);
  const rows = async (query: string): Promise<string> => (await exporter.get(`/api/v1/connections${query}`)).text();

  test('answers with the output of `list -o json`, for any filters', { timeout: 60_000 }, async () => {
    for (const filters of [[], ['process=nginx', 'state!=listen'], ['port=1']]) {
      const { stdout } = await runMain(['list', '-o', 'json', ...filters, `--path.procfs=${TREE}`, ...QUIET]);
      // Only the command reads what its rows need about a process.
      const listed = (JSON.parse(stdout) as object[]).map((row) => ({ ...row, ...WITHOUT_DETAILS }));
      expect(JSON.parse(await rows(`?${filters.join('&')}`))).toEqual(listed);
      const lines = listed.map((row) => `${JSON.stringify(row)}\n`).join('');
      expect(await rows(`?format=jsonl&${filters.join('&')}`)).toBe(lines);
    }
  });

  test('explains an invalid filter in JSON', async () => {
    const response = await exporter.get('/api/v1/connections?state=open');
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({
      error: expect.stringMatching(/^Cannot use filter "state=open"/) as string,
    });
  });

  test('is linked from the status page, and has no other paths', async () => {
    expect(await (await exporter.get('/')).text()).toContain('<a href="./api/v1/connections">');
    expect((await exporter.get('/api/v1/nothing')).status).toBe(404);
  });

  test('ends its event streams when it stops', { timeout: 60_000 }, async () => {
    const other = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET, '--web.enable-api']);
    const stream = await other.get('/api/v1/events');
    const text = stream.text();
    expect(await other.stop()).toBe(0);
    expect(await text).toBe('retry: 5000\n\n');
  });
});

describe('an exporter with a web configuration', () => {
  const PEMS = fileURLToPath(new URL('../fixtures/tls/', import.meta.url));
  const HASH = '$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';
  const USERS = `basic_auth_users: { alice: "${HASH}" }\n`;
  const authorization = `Basic ${Buffer.from('alice:correct horse').toString('base64')}`;
  let folder: string;
  let file: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'peerscope-web-'));
    file = join(folder, 'web.yaml');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('requires the password of the current file, and reports an invalid file', { timeout: 60_000 }, async () => {
    writeFileSync(file, USERS);
    const exporter = await Exporter.start([
      `--path.procfs=${TREE}`,
      ...QUIET,
      `--web.config.file=${file}`,
      '--web.listen-address=0.0.0.0:0',
      '--web.disable-exporter-metrics',
      '--web.enable-api',
    ]);
    const current = async (): Promise<number | undefined> =>
      samplesOf(await exporter.metrics({ authorization }), 'peerscope_web_config_current').get('');
    try {
      expect((await exporter.get('/metrics')).status).toBe(401);
      expect((await exporter.get('/-/healthy')).status).toBe(200);
      expect(await current()).toBe(1);
      expect(await exporter.metrics({ authorization })).not.toContain('\nprocess_');
      expect((await exporter.get('/api/v1/events')).status).toBe(401);
      const stream = await exporter.get('/api/v1/events', { authorization });
      writeFileSync(file, 'basic_auth_users: { alice: secret }\n');
      await expect.poll(current, { timeout: 20_000 }).toBe(0);
      writeFileSync(file, USERS.replace('alice', 'bob'));
      await expect
        .poll(async () => (await exporter.get('/metrics', { authorization })).status, { timeout: 20_000 })
        .toBe(401);
      // The subscriber has to authenticate again.
      expect(await stream.text()).toBe('retry: 5000\n\n');
    } finally {
      expect(await exporter.stop()).toBe(0);
    }
    const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
    expect(started).toMatchObject({ level: 'info', tls: false, authentication: 'passwords' });
    const reported = exporter.log.filter((entry) => entry['msg'] === 'the web configuration stays as it was');
    expect(reported).toHaveLength(1);
    expect(JSON.stringify(exporter.log)).not.toContain('secret');
  });

  test('warns in its start line when anyone can read the metrics', { timeout: 60_000 }, async () => {
    writeFileSync(file, `tls_server_config: { cert_file: ${PEMS}server.pem, key_file: ${PEMS}server-key.pem }\n`);
    const flags = [`--path.procfs=${TREE}`, ...QUIET, `--web.config.file=${file}`, '--web.listen-address=0.0.0.0:0'];
    const exporter = await Exporter.start([...flags, '--log.level=warn']);
    expect(await exporter.stop()).toBe(0);
    expect(exporter.log.filter(({ msg }) => msg === 'peerscope started')).toMatchObject([
      {
        level: 'warn',
        msg: 'peerscope started',
        tls: true,
        authentication: 'none',
        warning: 'without authentication, anyone who can reach the listen address can read the metrics',
      },
    ]);
  });
});

test(
  'SIGHUP reloads the configuration; an invalid file leaves the previous one in effect',
  { timeout: 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
    const file = join(folder, 'peerscope.yaml');
    const rename = (name: string): void => writeFileSync(file, `processes: [{ name: ${name}, comm: nginx }]\n`);
    rename('edge');
    const exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET, `--config.file=${file}`]);
    const reload = (): boolean => exporter.process.kill('SIGHUP');
    try {
      await exporter.metricsOnce((page) => page.includes('process="edge"') && page.includes('config_current 1'));
      rename('front');
      reload();
      const page = await exporter.metricsOnce((page) => page.includes('process="front"'));
      expect(page).not.toContain('process="edge"');
      writeFileSync(file, 'processes: wrong\n');
      reload();
      expect(await exporter.metricsOnce((page) => page.includes('config_current 0'))).toContain('process="front"');
      rename('edge');
      reload();
      await exporter.metricsOnce((page) => page.includes('process="edge"') && page.includes('config_current 1'));
    } finally {
      expect(await exporter.stop()).toBe(0);
      rmSync(folder, { recursive: true });
    }
    const logged = exporter.log.filter(({ msg }) => /configuration/.test(String(msg)));
    expect(logged.map(({ msg }) => msg)).toEqual([
      'the configuration was read again',
      'the configuration stays as it was',
      'the configuration was read again',
    ]);
    expect(logged[1]?.['reason']).toMatch(/^Cannot read configuration ".*": processes/);
  },
);

test('SIGHUP during the start neither ends the exporter nor is lost', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
  const file = join(folder, 'peerscope.yaml');
  writeFileSync(file, 'processes: [{ name: edge, comm: nginx }]\n');
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
  const flags = [`--path.procfs=${TREE}`, ...QUIET, `--config.file=${file}`, '--web.listen-address=127.0.0.1:0'];
  const child = spawn(process.execPath, [main, 'serve', '--log.format=json', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: ENVIRONMENT,
  });
  const ended = once(child, 'exit');
  const messages: string[] = [];
  try {
    // Its title is the first thing that it sets.
    const hasTitle = (): boolean => readFileSync(`/proc/${child.pid}/comm`, 'utf8').startsWith('peerscope');
    while (!hasTitle()) await new Promise((resolve) => setImmediate(resolve));
    child.kill('SIGHUP');
    for await (const line of createInterface({ input: child.stderr })) {
      const { msg } = JSON.parse(line) as { msg: string };
      messages.push(msg);
      if (msg === 'peerscope started') {
        child.kill('SIGTERM');
        break;
      }
    }
    expect(messages).toContain('peerscope started');
  } finally {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true });
  }
});

test('a changed configuration file takes effect without a signal', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
  const file = join(folder, 'peerscope.yaml');
  const rename = (name: string): void => writeFileSync(file, `processes: [{ name: ${name}, comm: nginx }]\n`);
  rename('edge');
  const exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET, `--config.file=${file}`]);
  try {
    await exporter.metricsOnce((page) => page.includes('process="edge"') && page.includes('config_current 1'));
    writeFileSync(file, 'processes: wrong\n');
    expect(await exporter.metricsOnce((page) => page.includes('config_current 0'))).toContain('process="edge"');
    rename('front');
    await exporter.metricsOnce((page) => page.includes('process="front"') && page.includes('config_current 1'));
  } finally {
    expect(await exporter.stop()).toBe(0);
    rmSync(folder, { recursive: true });
  }
});

describe('sockets instead of ports', () => {
  const WITH_LISTENERS = fileURLToPath(new URL('../support/sockets/with-listeners.py', import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const flags = [`--path.procfs=${TREE}`, ...QUIET];
  const readyAt = async (socketPath: string): Promise<number | undefined> => {
    const [response] = (await once(request({ socketPath, path: '/-/healthy' }).end(), 'response')) as [
      { statusCode?: number; resume: () => void },
    ];
    response.resume();
    return response.statusCode;
  };

  test('serves on a Unix socket beside a port, and warns of neither', { timeout: 60_000 }, async () => {
    const path = join(folder, 'http.sock');
    const exporter = await Exporter.start([...flags, `--web.listen-address=unix:${path}`]);
    const started = exporter.log.find(({ msg }) => msg === 'peerscope started');
    expect(started).toMatchObject({ listen: expect.stringMatching(/^127\.0\.0\.1:\d+ unix:/) as unknown });
    expect(started).not.toHaveProperty('warning');
    expect(await readyAt(path)).toBe(200);
    expect(await exporter.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  test('serves on the sockets that systemd passes, and on no other', { timeout: 60_000 }, async () => {
    const path = join(folder, 'passed.sock');
    const by = [WITH_LISTENERS, 'tcp', 'netlink', `unix:${path}`, '--'];
    const exporter = await Exporter.start([...flags, '--web.systemd-socket'], {}, by);
    expect((await exporter.get('/-/healthy')).status).toBe(200);
    expect(await readyAt(path)).toBe(200);
    const started = exporter.log.find(({ msg }) => msg === 'peerscope started');
    expect(started).toMatchObject({ listen: `${exporter.url.replace('http://', '')} unix:${path}` });
    expect(await exporter.stop()).toBe(0);
    // systemd owns the socket, and passes it to the next process.
    expect(existsSync(path)).toBe(true);
  });

  test.each([
    {
      kinds: ['netlink'],
      code: 2,
      line: 'Cannot use --web.systemd-socket: systemd passed no socket for HTTP to this process',
    },
    {
      kinds: ['tcp', 'udp'],
      code: 1,
      line: 'Cannot listen on descriptor 4 of --web.systemd-socket: it is not a listening stream socket',
    },
  ])('with $kinds it ends with $code and one line', async ({ kinds, code, line }) => {
    const by = [WITH_LISTENERS, ...kinds, '--'];
    const found = await runMain(['serve', ...flags, '--web.systemd-socket'], '', {}, by);
    expect(found.stderr.trim().split('\n').at(-1)).toBe(line);
    expect(found.code).toBe(code);
  });
});

describe('in a cluster', () => {
  const CONTAINERS = fileURLToPath(new URL('../fixtures/proc/containers', import.meta.url));
  const UID = '3f1e6b1c-8d1b-4c0e-9c5f-0a1b2c3d4e5f';
  /** A port without a listener. */
  const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '9', NODE_NAME: 'node-1' };

  test(
    'an unreachable API server is reported in metrics and log, and pods are named by their cgroups',
    { timeout: 60_000 },
    async () => {
      const flags = [`--path.procfs=${CONTAINERS}`, ...QUIET, '--collector.kubernetes', '--kubernetes.services'];
      const exporter = await Exporter.start(flags, environment);
      try {
        const page = await exporter.metricsOnce((page) => page.includes(UID));
        expect(samplesOf(page, 'peerscope_kubernetes_watch_up')).toEqual(
          new Map(['endpointslices', 'pods', 'services'].map((resource) => [`resource=${resource}`, 0])),
        );
        const reported = exporter.log.filter(({ msg }) => msg === 'kubernetes watch failed');
        expect(reported.map(({ resource }) => resource).sort()).toEqual(['endpointslices', 'pods', 'services']);
        const started = exporter.log.find(({ msg }) => msg === 'peerscope started');
        expect(started).toMatchObject({ kubernetes: 'pods services endpointslices' });
      } finally {
        expect(await exporter.stop()).toBe(0);
      }
    },
  );

  test('a disabled watch loads no Kubernetes code', { timeout: 60_000 }, async () => {
    const refuse = `import { registerHooks } from 'node:module';
      registerHooks({ load: (url, context, next) => {
        if (/enrich\\/kubernetes\\/(api-client|list-watch)/.test(url)) throw new Error('imported ' + url);
        return next(url, context);
      } });`;
    const options = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(refuse)}` };
    const flags = [`--path.procfs=${CONTAINERS}`, ...QUIET];
    const exporter = await Exporter.start([...flags, '--no-collector.kubernetes'], { ...environment, ...options });
    try {
      const page = await exporter.metricsOnce((page) => page.includes(UID));
      expect(samplesOf(page, 'peerscope_kubernetes_watch_up')).toEqual(new Map());
    } finally {
      expect(await exporter.stop()).toBe(0);
    }
    const enabled = ['serve', ...flags, '--collector.kubernetes', '--web.listen-address=127.0.0.1:0'];
    const { stderr } = await runMain(enabled, '', { ...environment, ...options });
    expect(stderr).toMatch(/imported .*api-client\.ts/);
  });

  test('list does not wait for the API server', { timeout: 60_000 }, async () => {
    const { stdout } = await runMain(['list', `--path.procfs=${CONTAINERS}`, ...QUIET], '', environment);
    expect(stdout).toContain('orders.py/25917');
    expect(stdout).toContain(UID);
  });
});
test(
  'an exporter without an ASN provider stores first-seen times of networks in its configuration',
  { timeout: 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
    const rules = join(folder, 'peerscope.yaml');
    writeFileSync(rules, 'networks: [{ name: partner, cidrs: [1.1.1.0/24], asn: 64500 }]\n');
    const firstTimes = async (): Promise<readonly string[]> => {
      const exporter = await Exporter.start([
        `--path.procfs=${TREE}`,
        `--config.file=${rules}`,
        `--storage.path=${join(folder, 'state')}`,
        '--asn.provider=none',
      ]);
      try {
        const page = await exporter.metricsOnce((page) => page.includes('first_seen_timestamp_seconds{'));
        expect(page).toContain('peerscope_store_up{store="sqlite"} 1\n');
        return page
          .split('\n')
          .filter((line) => /^peerscope_(asn_first_seen|workload_watched_since)_timestamp.*{/.test(line));
      } finally {
        expect(await exporter.stop()).toBe(0);
      }
    };
    try {
      expect(await firstTimes()).toEqual(await firstTimes());
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

describe('an exporter with OTLP', () => {
  const SOON = { timeout: 30_000, interval: 50 };
  const start = (receiver: OtlpReceiver, ...flags: string[]): Promise<Exporter> =>
    Exporter.start([
      `--path.procfs=${TREE}`,
      ...QUIET,
      `--otlp.endpoint=${receiver.url}`,
      '--otlp.interval=200ms',
      ...flags,
    ]);
  const counts = (page: string): (number | undefined)[] =>
    ['exports', 'export_failures'].map((name) => samplesOf(page, `peerscope_otlp_${name}_total`).get(''));

  test('logs the endpoint, and counts successful exports', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    const exporter = await start(receiver);
    try {
      await exporter.metricsOnce((page) => (counts(page)[0] ?? 0) > 1);
      const [exports = Infinity] = counts(await exporter.metrics());
      expect(exports).toBeLessThanOrEqual(receiver.received.length);
      const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
      expect(started).toMatchObject({ sends: 'the metrics by otlp', otlp_endpoint: `${receiver.url}/v1/metrics` });
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
    const [request] = receiver.requests;
    expect(request && pointsOf(request).find(({ name }) => name === 'peerscope.connections')).toBeDefined();
  });

  test(
    'exports the chosen families without pods, also over HTTP; the status page shows all',
    { timeout: 60_000 },
    async () => {
      const receiver = await OtlpReceiver.start();
      const chosen = ['--metrics.families=peerscope_connections,!peerscope_build_info', '--no-metrics.pod-label'];
      const exporter = await start(receiver, ...chosen);
      try {
        const page = await exporter.metricsOnce((page) => (counts(page)[0] ?? 0) > 0);
        const names = [...page.matchAll(/^# TYPE (peerscope_\w+)/gm)].map(([, name = '']) => name);
        expect(names.filter((name) => FAMILIES.some((family) => family.name === name))).toEqual([
          'peerscope_connections',
        ]);
        expect(page).toMatch(/^peerscope_connections\{process="\w+",namespace="",workload="[^"]*",container="",/m);
        const exported = new Set(receiver.requests.flatMap(pointsOf).map(({ name }) => name));
        expect(exported).toContain('peerscope.connections');
        expect(exported).toContain('peerscope.series_limit');
        for (const other of ['peerscope.processes', 'peerscope.build_info']) expect(exported).not.toContain(other);
        expect(await (await exporter.get('/')).text()).toContain('<h2 id="listeners">Listeners');
      } finally {
        expect(await exporter.stop()).toBe(0);
        await receiver.close();
      }
    },
  );

  test('loads OpenTelemetry, others do not', { timeout: 60_000 }, async () => {
    // prom-client depends on the API package.
    const refuse = `import { registerHooks } from 'node:module';
      registerHooks({ load: (url, context, next) => {
        if (/@opentelemetry\\/(?!api)|serve\\/otlp-thread/.test(url)) throw new Error('imported ' + url);
        return next(url, context);
      } });`;
    const environment = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(refuse)}` };
    const exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET], environment);
    expect(counts(await exporter.metrics())).toEqual([undefined, undefined]);
    expect(await exporter.stop()).toBe(0);
    const sending = ['serve', `--path.procfs=${TREE}`, ...QUIET, '--otlp.endpoint=http://127.0.0.1:9'];
    expect((await runMain(sending, '', environment)).stderr).toMatch(/^imported .*otlp-thread\.ts\n$/);
  });

  test('needs no HTTP', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    const flags = ['--web.listen-address=', `--path.procfs=${TREE}`, ...QUIET, '--log.format=json'];
    const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_METRIC_EXPORT_INTERVAL: '200' };
    const agent = startMain(['serve', ...flags], environment);
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(2);
    agent.kill('SIGTERM');
    expect(await once(agent, 'exit')).toEqual([0, null]);
    await receiver.close();
  });

  test('logs advice once when a receiver does not accept JSON', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    receiver.answer = answers(415);
    // Long enough for every export to get its answer on a busy machine.
    const exporter = await start(receiver, '--otlp.interval=2s');
    try {
      await exporter.metricsOnce((page) => (counts(page)[1] ?? 0) > 1);
      expect(counts(await exporter.metrics())[0]).toBe(0);
      expect(exporter.log.filter((entry) => entry['msg'] === 'an otlp export failed')).toMatchObject([
        {
          level: 'warn',
          endpoint: `${receiver.url}/v1/metrics`,
          reason: 'the receiver answered 415 Unsupported Media Type',
          advice: 'a receiver that does not accept JSON needs --otlp.protocol=http/protobuf',
        },
      ]);
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
  });

  test('serves and stops while the receiver does not answer', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    const exporter = await start(receiver, '--otlp.timeout=1s');
    let before: number;
    try {
      await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(0);
      receiver.answer = isSilent;
      before = receiver.received.length;
      await exporter.metrics();
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
    expect(receiver.received.length, 'the last export was tried').toBeGreaterThan(before);
  });
});

test('continues without an OpenTelemetry variable that is invalid or names a missing file', async () => {
  const receiver = await OtlpReceiver.start();
  const environment = {
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_METRIC_EXPORT_INTERVAL: 'abc',
    OTEL_EXPORTER_OTLP_CERTIFICATE: '/nowhere',
  };
  const exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET], environment);
  try {
    expect(await exporter.metrics()).toContain('peerscope_otlp_exports_total');
    const ignored = exporter.log.filter(({ msg }) => msg === 'an environment variable is ignored');
    expect(ignored.map(({ reason }) => reason)).toEqual([
      expect.stringContaining('Cannot use OTEL_METRIC_EXPORT_INTERVAL "abc": '),
      'Cannot read certificate "/nowhere": no such file or directory',
    ]);
  } finally {
    await exporter.stop();
    await receiver.close();
  }
});
