import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
  type Dashboard,
  type Panel,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DATASOURCE } from './panels.ts';

/** The dashboards link to each other by this tag. */
const TAG = 'peerscope';

/** The UIDs of the dashboards, for links. */
export const UIDS = {
  overview: 'peerscope-overview',
  unusual: 'peerscope-unusual',
  owner: 'peerscope-owner',
  asn: 'peerscope-asn',
  traffic: 'peerscope-traffic',
  health: 'peerscope-health',
} as const;

/** A variable with the values of a label. */
export interface Variable {
  readonly name: string;
  /** The series selector, which can use earlier variables. */
  readonly of: string;
  /** The value of "All": `.*` if the label can be empty. */
  readonly all?: string;
  /** The user selects exactly one value. */
  readonly single?: true;
}

const TARGET_VARIABLES: readonly Variable[] = [
  { name: 'cluster', of: 'peerscope_build_info', all: '.*' },
  { name: 'job', of: 'peerscope_build_info{cluster=~"$cluster"}' },
  { name: 'instance', of: 'peerscope_build_info{cluster=~"$cluster", job=~"$job"}' },
];

/** Panels under a heading. */
export interface Section {
  readonly heading: string;
  readonly panels: readonly Builder<Panel>[];
}

/** Grafana 10 and newer import classic JSON. The SDK deprecates it in favor of a newer schema. */
/* eslint-disable @typescript-eslint/no-deprecated */
export type Classic = Dashboard;

/** Builds a dashboard, with the settings that all dashboards share. */
export function dashboard(about: {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables?: readonly Variable[];
  readonly sections: readonly Section[];
}): Classic {
  const builder = new DashboardBuilder(`peerscope / ${about.title}`)
    .uid(about.uid)
    .description(about.description)
    .tags([TAG])
    .readonly()
    .refresh('1m')
    .time({ from: 'now-3h', to: 'now' })
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .link(
      new DashboardLinkBuilder('peerscope')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(false)
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data Source').type('prometheus'));
  for (const variable of [...TARGET_VARIABLES, ...(about.variables ?? [])]) builder.withVariable(labelValues(variable));
  for (const { heading, panels } of about.sections) {
    builder.withRow(new RowBuilder(heading));
    for (const panel of panels) builder.withPanel(panel);
  }
  return builder.build();
}

function labelValues({ name, of, all = '.+', single }: Variable): QueryVariableBuilder {
  const query = `label_values(${of}, ${name})`;
  const variable = new QueryVariableBuilder(name)
    .label(name)
    .datasource(DATASOURCE)
    .query({ query, refId: 'PrometheusVariableQueryEditor-VariableQuery' })
    .definition(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.NaturalAsc);
  if (single) return variable.multi(false).includeAll(false);
  return variable.multi(true).includeAll(true).allValue(all).current({ text: 'All', value: '$__all', selected: true });
}
