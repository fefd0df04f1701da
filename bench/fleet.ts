/** A simulated fleet. Each host has 40 services of its own and 40 of 800 Kubernetes workloads. */
const SERVICES = 40;
const PODS = 40;
const WORKLOADS = 800;
const ASNS = 500;
const SERIES = 2_000;

const ENDING = ['established', 'time_wait', 'close_wait'];
const SOCKETS: readonly (readonly [direction: string, states: readonly string[], networks: readonly string[]])[] = [
  ['listen', ['listen', 'unconnected'], ['']],
  ['inbound', ENDING, ['private', 'public']],
  ['outbound', ENDING, ['private', 'public']],
  ['loopback', ENDING, ['loopback', 'self']],
];

interface Owner {
  readonly process: string;
  readonly namespace: string;
  readonly workload: string;
  readonly asns: readonly number[];
  readonly port: number;
}

function ownersOf(host: number): Owner[] {
  const services = Array.from({ length: SERVICES }, (_, i) =>
    ownerOf(`svc-${i}`, '', `svc-${i}.service`, host + i, 8000 + i),
  );
  return [...services, ...Array.from({ length: PODS }, (_, i) => workload((host * 7 + i * 13) % WORKLOADS))];
}

function workload(number: number): Owner {
  return ownerOf(`app-${number % 40}`, `team-${number % 10}`, `app-${number}`, number, 8080);
}

function ownerOf(process: string, namespace: string, workload: string, seed: number, port: number): Owner {
  const asns = [0, 1, 2, 3].map((i) => 64_500 + ((seed * 3 + i * i) % ASNS));
  return { process, namespace, workload, asns, port };
}

const labels = (pairs: Readonly<Record<string, string | number>>): string =>
  `{${Object.entries(pairs)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}="${value}"`)
    .join()}}`;

/** The page of one host: 2,000 series that have not changed for two days. */
export function simulatedPage(host: number, nowSeconds: number): string {
  const old = Math.floor(nowSeconds) - 2 * 86_400;
  const page: string[] = [];
  const add = (family: string, pairs: Readonly<Record<string, string | number>>, value: number): void => {
    page.push(`${family}${labels(pairs)} ${value}`);
  };
  const owners = ownersOf(host);
  for (const { asns, port, ...owner } of owners) {
    add('peerscope_baseline_start_timestamp_seconds', { ...owner, scope: 'node' }, old);
    for (const asn of asns) {
      add('peerscope_asn_first_seen_timestamp_seconds', { ...owner, direction: 'outbound', asn }, old);
      add(
        'peerscope_asn_connections',
        { ...owner, direction: 'outbound', network: 'public', asn, state: 'established' },
        3,
      );
    }
    add('peerscope_asn_connections', { ...owner, direction: 'inbound', network: 'private', state: 'established' }, 9);
    for (const state of ['listen', 'established', 'time_wait', 'close_wait'])
      add('peerscope_connections', { ...owner, transport: 'tcp', direction: 'inbound', state }, 4);
    for (const endpoint of ['10.0.0.9:5432', 'AS64500:443', `10.0.0.1:${port}`])
      add(
        'peerscope_endpoint_connections',
        { ...owner, endpoint_group: endpoint, direction: 'outbound', transport: 'tcp', state: 'established' },
        3,
      );
    add('peerscope_listener_accept_queue', { ...owner, local_address: '0.0.0.0', local_port: port }, 0);
    for (const queue of ['receive', 'send'])
      add('peerscope_socket_queue_bytes', { ...owner, transport: 'tcp', queue }, 0);
  }
  for (const asn of new Set(owners.flatMap(({ asns }) => asns)))
    add('peerscope_asn_info', { asn, as_name: `NET-${asn}`, as_country: 'DE' }, 1);
  for (const [direction, states, networks] of SOCKETS)
    for (const state of states)
      for (const network of networks) add('peerscope_sockets', { direction, state, network }, 300);
  for (const reason of ['permission', 'no_descriptor', 'short_lived'])
    add('peerscope_sockets_unattributed', { reason }, 1);
  for (const counter of ['active_opens', 'attempt_fails', 'listen_overflows'])
    add(`peerscope_tcp_${counter}_total`, {}, 7);
  for (const collector of ['sockets', 'asn', 'processes']) add('peerscope_scrape_collector_success', { collector }, 1);
  add('peerscope_snapshot_timestamp_seconds', {}, Math.floor(nowSeconds));
  add('peerscope_build_info', { version: '0.0.0', node_version: '24.0.0' }, 1);
  // One workload of each host does something new.
  const { process, namespace, workload } = ownerOf('svc', '', 'svc.service', 0, 0);
  const what = `AS${64_500 + (host % ASNS)}`;
  add(
    'peerscope_novelty_timestamp_seconds',
    { process, namespace, workload, kind: 'operator', what, reach: 'none', points: 2 },
    old,
  );
  for (let i = 0; page.length < SERIES; i++) add('peerscope_series_folded', { family: `family-${i}` }, 0);
  return `${page.slice(-SERIES).join('\n')}\n`;
}
