import { mkdtempSync, readdirSync, copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { Exporter, runMain } from '../support/exporter.ts';

const PEMS = new URL('../fixtures/tls/', import.meta.url).pathname;
const TREE = new URL('../fixtures/proc/plain-host', import.meta.url).pathname;
const EMPTY = `--path.procfs=${new URL('../fixtures/proc/empty', import.meta.url).pathname}`;
const SCAN = [`--path.procfs=${TREE}`, '--asn.provider=none'];
const FLAGS = [...SCAN, '--storage.path=/dev/null/none'];
/** The hash of "correct horse". */
const HASH = '$2y$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu';
const WEB_CONFIG = `
tls_server_config:
  cert_file: server.pem
  key_file: server-key.pem
basic_auth_users:
  alice: ${HASH}
`;

const folder = mkdtempSync(join(tmpdir(), 'peerscope-connect-'));
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const socket = join(folder, 'http.sock');
const exporters: Record<'open' | 'secured' | 'off', Exporter> = {} as never;

beforeAll(async () => {
  for (const name of readdirSync(PEMS)) copyFileSync(join(PEMS, name), join(folder, name));
  const web = file('web.yaml', WEB_CONFIG);
  exporters.open = await Exporter.start([...FLAGS, '--web.enable-api', `--web.listen-address=unix:${socket}`]);
  exporters.secured = await Exporter.start([...FLAGS, '--web.enable-api', `--web.config.file=${web}`]);
  exporters.off = await Exporter.start(FLAGS);
});
afterAll(async () => {
  await Promise.all(Object.values(exporters).map((exporter) => exporter.stop()));
  rmSync(folder, { recursive: true });
});

/** Runs a command on a host without sockets. */
const connected = (...args: string[]): ReturnType<typeof runMain> =>
  runMain([...args, EMPTY, '--storage.path=/dev/null/none']);
const secured = (): string => `https://localhost:${new URL(exporters.secured.url).port}`;
const secrets = (): string[] => [
  `--connect=${secured()}`,
  `--connect.password-file=${file('right', 'alice:correct horse\n')}`,
  `--connect.ca-file=${join(PEMS, 'ca.pem')}`,
];

describe('--connect', () => {
  it.each<[command: string[]]>([
    [['list']],
    [['list', '-n', '--sort', 'remote', 'state=established']],
    [['top']],
    [['top', '--by', 'endpoint', '-n']],
    [['endpoints', '-n']],
  ])('%j shows the rows of the exporter as on its host, and their source last', async (command) => {
    const local = await runMain([...command, ...FLAGS]);
    const { code, stdout } = await connected(...command, `--connect=${exporters.open.url}`);
    const lines = stdout.trimEnd().split('\n');
    expect(code).toBe(0);
    expect(lines.pop()).toBe(`From the exporter at "${exporters.open.url}"`);
    expect(lines.join('\n')).toBe(local.stdout.trimEnd());
  });

  it('reads a unix socket, and TLS with a password', async () => {
    const { stdout } = await runMain(['list', '-o', 'json', ...FLAGS]);
    const ends = (text: string): unknown =>
      (JSON.parse(text) as Row[]).map((row) => [row.local_address, row.local_port, row.remote_address, row.process]);
    for (const options of [[`--connect=unix:${socket}`], secrets()]) {
      const answer = await connected('list', '-o', 'json', ...options);
      expect(answer.stderr).toContain('From the exporter at');
      expect(ends(answer.stdout)).toEqual(ends(stdout));
    }
  });

  it('repeats the rows under watch', async () => {
    const { stdout } = await connected(
      ...['watch', 'list', '-i', '0.1', '-c', '2', '-o', 'jsonl', `--connect=${exporters.open.url}`],
    );
    const times = new Set(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { at: string }).at),
    );
    expect(times.size).toBe(2);
  });

  it.each<[what: string, args: () => string[], code: number, message: RegExp]>([
    ['the API is off', () => [`--connect=${exporters.off.url}`], 1, /the API is off; --web\.enable-api turns it on/],
    [
      'a password is missing',
      () => secrets().filter((option) => !option.includes('password')),
      1,
      /it requires a password; use --connect\.password-file/,
    ],
    [
      'the password is wrong',
      () => [...secrets(), `--connect.password-file=${file('wrong', 'alice:donkey')}`],
      1,
      /the user or the password in --connect\.password-file is wrong/,
    ],
    [
      'the CA is unknown',
      () => secrets().filter((option) => !option.includes('ca-file')),
      1,
      /is not trusted; --connect/,
    ],
    ['HTTP is used for HTTPS', () => [`--connect=${exporters.secured.url}`], 1, /use https:\/\//],
    [
      'HTTPS is used for HTTP',
      () => [`--connect=${exporters.open.url.replace('http:', 'https:')}`],
      1,
      /use http:\/\//,
    ],
    ['nothing listens', () => ['--connect=http://127.0.0.1:1'], 1, /connection refused/],
    ['there is no socket', () => ['--connect=unix:/nonexistent/http.sock'], 1, /no such file or directory/],
    ['the URL has a password', () => ['--connect=http://alice:secret@127.0.0.1:1'], 2, /must not have a password/],
    ['the URL is invalid', () => ['--connect=node7'], 2, /must be a URL such as/],
    [
      'a password would be sent in clear text',
      () => ['--connect=http://node7:9100', `--connect.password-file=${file('right', 'alice:correct horse')}`],
      2,
      /a password is only sent by https/,
    ],
    ['the URL is missing', () => ['--connect.ca-file=/nonexistent'], 2, /--connect is not set/],
    [
      'a file is missing',
      () => ['--connect=http://127.0.0.1:1', '--connect.password-file=/nonexistent'],
      2,
      /no such file/,
    ],
    ['the program is a filter', () => ['exe=/bin/sh', '--connect=http://127.0.0.1:1'], 2, /the API does not have that/],
    ['text is given', () => ['--from=-', '--connect=http://127.0.0.1:1'], 2, /exclude each other/],
  ])('says that %s', async (_what, args, expected, message) => {
    const { code, stdout, stderr } = await connected('top', ...args());
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^Cannot .*\n$/);
    expect(stderr).not.toContain('secret');
    expect([code, stdout]).toEqual([expected, '']);
  });
});

describe('--connect to an exporter that remembers', () => {
  let exporter: Exporter;
  let options: string[];
  beforeAll(async () => {
    const rules = file('rules.yaml', 'networks: [{ name: partner, cidrs: [1.1.1.0/24], asn: 64500 }]\n');
    const tls = 'tls_server_config: { cert_file: server.pem, key_file: server-key.pem, client_ca_file: ca.pem,';
    const web = file('client.yaml', `${tls} client_auth_type: RequireAndVerifyClientCert }\n`);
    const flags = [...FLAGS, '--web.enable-api', `--config.file=${rules}`, `--web.config.file=${web}`];
    // Only a client with a certificate can read its metrics.
    exporter = await Exporter.start(flags);
    options = [
      `--connect=https://localhost:${new URL(exporter.url).port}`,
      ...['ca-file=ca', 'cert-file=client', 'key-file=client-key'].map((name) => {
        const [option = '', pem = ''] = name.split('=');
        return `--connect.${option}=${join(PEMS, `${pem}.pem`)}`;
      }),
    ];
    expect((await connected('list', ...options)).code).toBe(0);
  });
  afterAll(() => exporter.stop());

  it('history has its first times, from several pages', async () => {
    const { code, stdout } = await connected('history', '-o', 'json', ...options);
    expect(code).toBe(0);
    const rows = JSON.parse(stdout) as { workload: string; first_seen: string }[];
    expect(rows.map(({ workload, first_seen }) => [workload, /^\d{4}-.*Z$/.test(first_seen)])).toContainEqual([
      'nginx.service',
      true,
    ]);
    const table = await connected('history', 'workload=nginx.service', ...options);
    expect(table.stdout).toMatch(/inbound +nginx\.service +AS64500/);
    expect(table.stdout).toContain('from the exporter at "https://localhost:');
  });

  it('inspect and exposed have its first times', async () => {
    const inspected = await connected('inspect', ':443', ...options);
    expect(inspected.stdout).toMatch(/AS64500 partner +inbound +\d+ .*\d{4}-\d\d-\d\d \d\d:\d\d/);
    expect(inspected.stdout).toContain('From the exporter at');
    const exposed = await connected('exposed', '-o', 'json', ...options);
    expect(JSON.parse(exposed.stdout)).toContainEqual(
      expect.objectContaining({
        local_port: 443,
        process: 'nginx',
        history: [expect.objectContaining({ asn: 64500 })],
      }),
    );
  });

  it.each([
    [
      'a certificate is missing',
      ['--connect.cert-file', '--connect.key-file'],
      1,
      /requires a client certificate; use/,
    ],
    ['the key is missing', ['--connect.key-file'], 2, /both must be set/],
  ])('says that %s', async (_what, without, code, message) => {
    const args = options.filter((option) => !without.includes(option.split('=')[0] ?? ''));
    for (const command of [['list'], ['history'], ['inspect', ':443']]) {
      const outcome = await connected(...command, ...args);
      expect(outcome.stderr).toMatch(message);
      expect(outcome.code).toBe(code);
    }
  });
});

/** A server that answers as the API would. */
async function answering(pages: Readonly<Record<string, string>>): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    const page = pages[(request.url ?? '').replace(/\?.*/, '')];
    response.writeHead(page === undefined ? 404 : 200).end(page);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => void server.close() };
}

const EVIDENCE = {
  ...{ kind: 'operator', what: 'AS64500', process: 'nginx', reach: 'none', points: 2, reason: 'a new operator' },
  ...{ first_seen_at: '2026-11-30T10:00:00Z', reported_at: '2026-11-30T10:00:00Z' },
};
const UNUSUAL = {
  at: '2026-11-30T10:00:30Z',
  unusual: [{ namespace: 'shop', workload: 'web', severity: 'warning', points: 2, evidence: [EVIDENCE] }],
  decisions: [
    {
      namespace: null,
      workload: 'cron.service',
      what: 'AS64501',
      accepted: true,
      at: '2026-11-30T09:00:00Z',
      by: 'al',
      why: null,
    },
  ],
};

describe('what an exporter reports as unusual', () => {
  it('is shown by unusual with exit code 3, and by top', async () => {
    const { url, close } = await answering({
      '/api/v1/unusual': JSON.stringify(UNUSUAL),
      '/api/v1/connections': '{"transport":"tcp","local_address":"192.0.2.1","local_port":1,"state":"established"}\n',
    });
    const table = await connected('unusual', `--connect=${url}`);
    const json = await connected('unusual', '-o', 'json', `--connect=${url}`);
    const top = await connected('top', `--connect=${url}`);
    close();
    expect([table.code, json.code]).toEqual([3, 3]);
    expect(table.stdout).toMatch(/warning +shop\/web +2 +AS64500 +nginx/);
    expect(table.stdout.trimEnd().split('\n').at(-1)).toBe(`From the exporter at "${url}"`);
    expect(JSON.parse(json.stdout)).toMatchObject({ unusual: [{ workload: 'web', severity: 'warning' }] });
    expect(top.stdout).toContain('Unusual: shop/web (warning, 2 points): AS64500');
  });

  it.each([
    ['a page of another server', '<html>', /not that of a peerscope exporter/],
    ['other JSON', '[]', /not that of a peerscope exporter/],
    ['a row of other types', '{"process":5}', /not that of a peerscope exporter/],
  ])('%s is an error', async (_what, page, message) => {
    const { url, close } = await answering({ '/api/v1/unusual': page, '/api/v1/connections': page });
    const results = [await connected('unusual', `--connect=${url}`), await connected('list', `--connect=${url}`)];
    close();
    for (const { code, stderr } of results) {
      expect(stderr).toMatch(message);
      expect(code).toBe(1);
    }
  });

  it('does not keep top from its rows if it cannot be read', async () => {
    const { url, close } = await answering({ '/api/v1/unusual': '[]', '/api/v1/connections': '{"transport":"tcp"}\n' });
    const { code, stdout } = await connected('top', `--connect=${url}`);
    close();
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Cannot read what is unusual from .*not that of a peerscope exporter$/m);
    expect(stdout).toContain('From the exporter at');
  });

  it('control characters of an exporter do not reach the terminal', async () => {
    const { url, close } = await answering({ '/api/v1/connections': '{"process":"a\\u001b[2Jb","transport":"tcp"}\n' });
    const { stdout } = await connected('list', `--connect=${url}`);
    close();
    expect(stdout).not.toContain('\x1b');
  });
});
