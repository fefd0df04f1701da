import type { Classic } from '../../grafana/dashboard.ts';
import { DASHBOARDS } from '../../grafana/generated.ts';

/** How the fields of an answer become the columns of a table. */
export interface Organized {
  readonly excludeByName: Readonly<Record<string, boolean>>;
  readonly indexByName: Readonly<Record<string, number>>;
  readonly renameByName: Readonly<Record<string, string>>;
}

/** A panel as Grafana reads it. */
export interface Panel {
  readonly dashboard: string;
  readonly type: string;
  readonly title: string;
  readonly description: string;
  readonly datasource: { readonly type: string; readonly uid: string };
  readonly fieldConfig: {
    readonly defaults: {
      readonly unit?: string;
      readonly noValue?: string;
      readonly decimals?: number;
      readonly thresholds?: { readonly steps: readonly { readonly value: number | null; readonly color: string }[] };
      readonly links?: readonly { readonly title: string; readonly url: string }[];
    };
    readonly overrides: readonly {
      readonly matcher: { readonly id: string; readonly options: string };
      readonly properties: readonly { readonly id: string; readonly value: unknown }[];
    }[];
  };
  readonly transformations?: readonly { readonly id: string; readonly options: Partial<Organized> }[];
  readonly interval?: string;
  readonly options?: {
    readonly tooltip?: unknown;
    readonly sortBy?: readonly { readonly displayName: string; readonly desc: boolean }[];
  };
  readonly targets: readonly {
    readonly refId: string;
    readonly expr: string;
    readonly instant?: boolean;
    readonly datasource: { readonly uid: string };
  }[];
}

export { DASHBOARDS };

/** All panels but the rows, with those of collapsed rows. */
export const PANELS: readonly Panel[] = DASHBOARDS.flatMap((dashboard) =>
  (dashboard.panels ?? [])
    // A collapsed row holds its panels.
    .flatMap((panel) => [panel, ...('panels' in panel ? panel.panels : [])])
    .filter(({ type }) => type !== 'row')
    .map((panel) => ({ ...(panel as unknown as Omit<Panel, 'dashboard'>), dashboard: titleOf(dashboard) })),
);

export function titleOf({ title }: Classic): string {
  return title ?? '';
}

/** What Grafana makes of an expression where everything is chosen, and this network operator. */
export function substituted(expr: string, asn = '13335'): string {
  return expr
    .replaceAll('$__rate_interval', '5m')
    .replaceAll('$asn', asn)
    .replaceAll(/(?<!!)="\$(?:workload|namespace)"/g, '=~".*"')
    .replaceAll(/\$(job|instance)\b/g, '.+')
    .replaceAll(/\$(cluster|namespace|workload|process|direction)\b/g, '.*');
}
