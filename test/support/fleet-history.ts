import { writeFileSync } from 'node:fs';
import { existsAt, Fleet, nameOf, valueBefore, type NodeSeries } from '../../bench/fleet-page.ts';

const STEP = 120;

/** Alerts that a viewer finds firing. */
const ALERTS: readonly (readonly [minutes: number, labels: Readonly<Record<string, string>>])[] = [
  [
    42,
    {
      ...{ alertname: 'PeerscopeUnusual', severity: 'critical', namespace: 'shop', workload: 'payments' },
    },
  ],
  [
    55,
    {
      ...{ alertname: 'PeerscopeCloseWaitLeak', severity: 'warning', process: 'java', namespace: 'billing' },
      ...{ workload: 'checkout', instance: 'node-3' },
    },
  ],
  [
    150,
    {
      ...{ alertname: 'PeerscopeSeriesFolded', severity: 'warning', instance: 'node-6' },
      family: 'peerscope_endpoint_connections',
    },
  ],
];

/** One cluster has a name of its own for a private ASN. */
function inEast(series: NodeSeries): NodeSeries {
  if (series.family !== 'peerscope_asn_info' || series.labels['asn'] !== '64512') return series;
  return { ...series, labels: { ...series.labels, as_name: 'OFFICE-OF-EAST' } };
}

/** Writes three hours of a simulated fleet, in the OpenMetrics format. */
export function writeHistory(
  path: string,
  { hosts, podsPerHost, now }: { hosts: number; podsPerHost: number; now: number },
): void {
  const fleet = new Fleet({ hosts, podsPerHost, now });
  const parts: string[] = [];
  const steps = (3 * 3600) / STEP;
  for (let host = 0; host < hosts; host++) {
    const target = { cluster: host % 2 === 0 ? 'west' : 'east', job: 'peerscope', instance: `node-${host}` };
    for (const plain of fleet.series(host)) {
      const series = target.cluster === 'east' ? inEast(plain) : plain;
      const name = nameOf(series, target);
      for (let step = steps; step >= 0; step--)
        if (existsAt(series, now - step * STEP))
          parts.push(`${name} ${valueBefore(series, step * STEP)} ${now - step * STEP}\n`);
    }
  }
  for (const [minutes, labels] of ALERTS) {
    const alert = { alertstate: 'firing', cluster: 'west', job: 'peerscope', ...labels };
    const name = nameOf({ family: 'ALERTS', labels: alert, value: 1, motion: 'fixed' });
    const since = nameOf({
      family: 'ALERTS_FOR_STATE',
      labels: { cluster: 'west', job: 'peerscope', ...labels },
      value: 1,
      motion: 'fixed',
    });
    for (let step = Math.floor((minutes * 60) / STEP); step >= 0; step--)
      parts.push(`${name} 1 ${now - step * STEP}\n`);
    for (let step = Math.floor((minutes * 60) / STEP); step >= 0; step--)
      parts.push(`${since} ${now - minutes * 60} ${now - step * STEP}\n`);
  }
  writeFileSync(path, [...parts, '# EOF\n'].join(''));
}
