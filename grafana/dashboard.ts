import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  AnnotationQueryBuilder,
  CustomVariableBuilder,
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
import { ALERTS, DATASOURCE } from './panels.ts';

/** The dashboards link to each other by this tag. */
const TAG = 'peerscope';

/** The UIDs of the dashboards, for links. */
export const UIDS = {
  overview: 'peerscope-overview',
  unusual: 'peerscope-unusual',
  map: 'peerscope-map',
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
  /** The user selects exactly one value, and starts with the first one. */
  readonly single?: true;
  /** For `single`: what ranks the values, the highest first. By default, they are sorted by name. */
  readonly rankedBy?: string;
}

/** Peers that were met inbound can be many, and are rarely what one looks for. */
const DIRECTIONS = ['outbound', 'inbound'];

const TARGET_VARIABLES: readonly Variable[] = [
  { name: 'cluster', of: 'peerscope_build_info' },
  { name: 'job', of: 'peerscope_build_info{cluster=~"$cluster"}' },
  { name: 'instance', of: 'peerscope_build_info{cluster=~"$cluster", job=~"$job"}' },
];

/**
 * The value of "All". With `.+`, Prometheus would look up every series of every instance for each panel: several times the cost of the
 * panel itself in a fleet.
 */
const ALL = '.*';

/** Panels under a heading. */
export interface Section {
  readonly heading: string;
  /** Grafana asks for the panels when a viewer opens the heading. */
  readonly isCollapsed?: true;
  readonly panels: readonly Builder<Panel>[];
}

/** Events that are marked in all panels: the times at which the query has series. */
export interface Annotation {
  readonly name: string;
  readonly expr: string;
  readonly title: string;
  readonly text: string;
  readonly color: string;
}

const FIRING: Annotation = {
  name: 'Alerts',
  expr: `group by (alertname, severity, instance, namespace, workload, process) (${ALERTS})`,
  title: '{{alertname}}',
  text: '{{namespace}} {{workload}} {{process}} {{instance}}',
  color: 'red',
};

/** Grafana 10 and newer import classic JSON. The SDK deprecates it in favor of a newer schema. */
/* eslint-disable @typescript-eslint/no-deprecated */
export type Classic = Dashboard;

/** Builds a dashboard, with the settings that all dashboards share. */
export function dashboard(about: {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables?: readonly Variable[];
  /** Panels show one direction or both: `direction=~"$direction"`. */
  readonly choosesDirection?: true;
  /** Further events that are marked in its panels. */
  readonly annotations?: readonly Annotation[];
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
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'));
  for (const variable of [...TARGET_VARIABLES, ...(about.variables ?? [])]) builder.withVariable(labelValues(variable));
  if (about.choosesDirection) builder.withVariable(directions());
  for (const annotation of [FIRING, ...(about.annotations ?? [])]) builder.annotation(marks(annotation));
  for (const { heading, panels, isCollapsed = false } of about.sections) {
    const row = new RowBuilder(heading).collapsed(isCollapsed);
    for (const panel of isCollapsed ? panels : []) row.withPanel(panel);
    builder.withRow(row);
    for (const panel of isCollapsed ? [] : panels) builder.withPanel(panel);
  }
  return builder.build();
}

function marks({ name, expr, title, text, color }: Annotation): AnnotationQueryBuilder {
  return new AnnotationQueryBuilder()
    .name(name)
    .datasource(DATASOURCE)
    .enable(true)
    .iconColor(color)
    .expr(expr)
    .step('60s')
    .titleFormat(title)
    .textFormat(text);
}

function directions(): CustomVariableBuilder {
  const [first = ''] = DIRECTIONS;
  return new CustomVariableBuilder('direction')
    .label('Direction')
    .values(DIRECTIONS.join(','))
    .multi(true)
    .includeAll(true)
    .allValue(ALL)
    .current({ text: [first], value: [first], selected: true })
    .options(DIRECTIONS.map((value) => ({ text: value, value, selected: value === first })));
}

const capitalized = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

function labelValues({ name, of, single, rankedBy }: Variable): QueryVariableBuilder {
  const query =
    rankedBy === undefined ? `label_values(${of}, ${name})` : `query_result(sort_desc(topk(500, ${rankedBy})))`;
  const variable = new QueryVariableBuilder(name)
    .label(capitalized(name))
    .datasource(DATASOURCE)
    .query({ query, refId: 'PrometheusVariableQueryEditor-VariableQuery' })
    .definition(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(rankedBy === undefined ? VariableSort.NaturalAsc : VariableSort.Disabled);
  if (rankedBy !== undefined) variable.regex(`/${name}="([^"]+)"/`);
  if (single) return variable.multi(false).includeAll(false);
  return variable.multi(true).includeAll(true).allValue(ALL).current({ text: 'All', value: '$__all', selected: true });
}
