import { provisioning } from './alerting.ts';
import asn from './asn.ts';
import health from './health.ts';
import map from './map.ts';
import overview from './overview.ts';
import owner from './owner.ts';
import traffic from './traffic.ts';
import unusual from './unusual.ts';

const RULES = ['peerscope.rules.yml', 'peerscope-extra.rules.yml'];

export const DASHBOARDS = [overview, unusual, map, owner, asn, traffic, health];

/** The files that Grafana imports: path below this folder, and text. */
export function generated(): ReadonlyMap<string, string> {
  const dashboards = DASHBOARDS.map(
    (dashboard) => [`dashboards/${dashboard.uid ?? ''}.json`, `${JSON.stringify(dashboard, visible, 2)}\n`] as const,
  );
  const rules = RULES.map((name) => new URL(`../deploy/prometheus/${name}`, import.meta.url));
  return new Map([...dashboards, ['provisioning/alerting/peerscope.yaml', provisioning(rules)] as const]);
}

/** The SDK puts every link into a menu of Grafana 13 unless a placement is set. Without a placement, Grafana shows links next to the variables. */
function visible(key: string, value: unknown): unknown {
  return key === 'placement' && value === 'inControlsMenu' ? undefined : value;
}
