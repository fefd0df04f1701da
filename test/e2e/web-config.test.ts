import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, it } from 'vitest';
import { Exporter } from '../support/exporter.ts';
import { needServer, Prometheus, type Target } from '../support/prometheus-server.ts';

const PEMS = new URL('../fixtures/tls/', import.meta.url).pathname;
const TREE = new URL('../fixtures/proc/plain-host', import.meta.url).pathname;
const SOON = { timeout: 60_000, interval: 200 };

/** That of "correct horse". */
const HASH = '$2y$10$abcdefghijklmnopqrstuu23JPZtHcGhwXSF41f93o/7vBdDut3Xu';
const WEB_CONFIG = `
tls_server_config:
  cert_file: server.pem
  key_file: server-key.pem
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
basic_auth_users:
  prometheus: ${HASH}
`;

/** Whose certificate a server shows. */
async function certificateOf(host: string): Promise<unknown> {
  const socket = connect({ host: '127.0.0.1', port: Number(host.split(':')[1]), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { CN } = socket.getPeerCertificate().subject;
  socket.destroy();
  return CN;
}

it('a Prometheus with a certificate and a password can scrape, and others cannot', async ({ skip }) => {
  const program = needServer('prometheus', skip);
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-e2e-web-'));
  for (const name of readdirSync(PEMS)) copyFileSync(join(PEMS, name), join(folder, name));
  const file = join(folder, 'web.yaml');
  writeFileSync(file, WEB_CONFIG);
  const flags = [`--path.procfs=${TREE}`, '--asn.provider=none', '--storage.path=/dev/null/none'];
  const exporter = await Exporter.start([...flags, `--web.config.file=${file}`]);
  const host = new URL(exporter.url).host;

  const pem = (name: string): string => join(PEMS, `${name}.pem`);
  const own = { cert_file: pem('client'), key_file: pem('client-key') };
  const job = (name: string, tls: object, password: string): object => ({
    job_name: name,
    scheme: 'https',
    honor_labels: true,
    static_configs: [{ targets: [host] }],
    tls_config: { ca_file: pem('ca'), ...tls },
    basic_auth: { username: 'prometheus', password },
  });
  const prometheus = await Prometheus.start(program, {
    rules: [],
    scrapeSeconds: 1,
    evaluationSeconds: 60,
    jobs: [
      job('allowed', own, 'correct horse'),
      job('without-certificate', {}, 'correct horse'),
      job('with-another-password', own, 'wrong horse'),
      { ...job('filtered', own, 'correct horse'), params: { 'collect[]': ['processes'] } },
    ],
  });
  const targetOf = async (name: string): Promise<Target | undefined> =>
    (await prometheus.targets()).find((target) => target.job === name);
  const value = async (promql: string): Promise<number> => (await prometheus.query(promql))[0]?.value ?? NaN;
  try {
    const up = { health: 'up', lastError: '' };
    await expect.poll(() => targetOf('allowed'), SOON).toMatchObject(up);
    await expect.poll(() => targetOf('filtered'), SOON).toMatchObject(up);
    const refused = (status: string): object => ({
      health: 'down',
      lastError: `server returned HTTP status ${status}`,
    });
    await expect.poll(() => targetOf('without-certificate'), SOON).toMatchObject(refused('403 Forbidden'));
    await expect.poll(() => targetOf('with-another-password'), SOON).toMatchObject(refused('401 Unauthorized'));

    const golden = 'sum(peerscope_connections{job="allowed"})';
    await expect.poll(() => value(golden), SOON).toBeGreaterThan(10);
    await expect.poll(() => value('count(peerscope_processes{job="filtered"})'), SOON).toBeGreaterThan(0);
    expect(await value('count(peerscope_connections{job="filtered"})')).toBeNaN();
    // Only OpenMetrics has units.
    expect(await prometheus.unit('peerscope_socket_queue_bytes')).toBe('bytes');

    expect(await certificateOf(host)).toBe('server');
    copyFileSync(pem('renewed'), join(folder, 'server.pem'));
    copyFileSync(pem('renewed-key'), join(folder, 'server-key.pem'));
    await expect.poll(() => certificateOf(host), SOON).toBe('renewed');
    const scrapes = 'sum_over_time(up{job="allowed"}[1h])';
    const before = await value(scrapes);
    await expect.poll(() => value(scrapes), SOON).toBeGreaterThan(before + 2);
  } finally {
    await prometheus.stop();
    await exporter.stop();
    rmSync(folder, { recursive: true });
  }
});
