import { PanelBuilder as BarGauge } from '@grafana/grafana-foundation-sdk/bargauge';
import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import {
  BarGaugeDisplayMode,
  FrameGeometrySourceBuilder,
  FrameGeometrySourceMode,
  LegendDisplayMode,
  LegendPlacement,
  MapLayerOptionsBuilder,
  ReduceDataOptionsBuilder,
  TableSortByFieldStateBuilder,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardLinkBuilder,
  DashboardLinkType,
  FieldColorBuilder,
  FieldColorModeId,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type Panel,
  type Threshold,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as Geomap } from '@grafana/grafana-foundation-sdk/geomap';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeries } from '@grafana/grafana-foundation-sdk/timeseries';

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** The label matchers of every panel: the targets that the variables select. */
export const TARGETS = 'cluster=~"$cluster", job=~"$job", instance=~"$instance"';

/** The label matchers of panels about owners. */
export const OWNERS = `${TARGETS}, namespace=~"$namespace", workload=~"$workload", process=~"$process"`;

/** The settings of every panel. `width` is in 24ths of the page, `height` in Grafana's grid units. */
export interface Frame {
  readonly title: string;
  readonly description: string;
  readonly width: number;
  readonly height?: number;
  /** Links of a value. */
  readonly links?: readonly { readonly title: string; readonly url: string }[];
}

/** A panel of numbers. */
export interface Numbers extends Frame {
  readonly unit: string;
  readonly noData: string;
  /** The lowest number that is a failure. It is red, and lower numbers are green. Without it, all numbers are neutral. */
  readonly redFrom?: number;
}

/** The columns of a table, in reading order. */
export interface Columns {
  /** The value column. It comes first and is sorted in descending order. */
  readonly value?: { readonly name: string; readonly unit: string };
  /** The label columns. Without a value column, the first one sorts the table. */
  readonly labels: readonly (keyof typeof LABEL_NAMES)[];
}

/** Column titles of labels. */
const LABEL_NAMES = {
  alertname: 'Alert',
  as_country: 'Country',
  as_name: 'Network operator',
  asn: 'ASN',
  cluster: 'Cluster',
  collector: 'Collector',
  container: 'Container',
  direction: 'Direction',
  endpoint_group: 'Endpoint',
  family: 'Family',
  instance: 'Host',
  job: 'Job',
  kind: 'Kind',
  local_port: 'Local port',
  namespace: 'Namespace',
  network: 'Network',
  node_version: 'Node.js',
  pod: 'Pod',
  points: 'Points',
  process: 'Process',
  process_state: 'State',
  provider: 'Provider',
  reach: 'Reach',
  reason: 'Reason',
  resource: 'Resource',
  scope: 'Scope',
  severity: 'Severity',
  source: 'Source',
  store: 'Store',
  umask: 'Umask',
  version: 'Version',
  what: 'What',
  workload: 'Workload',
} as const;

/** A query and the name of its series. */
export type Query = readonly [expr: string, legend: string];

const VARIABLES = ['datasource', 'cluster', 'job', 'instance'].map((name) => `\${${name}:queryparam}`).join('&');

/** A link to another dashboard that passes the variables, and labels of the clicked series or fields of the clicked row. */
export function drillDown(
  title: string,
  uid: string,
  clicked: '__field.labels' | '__data.fields',
  names: readonly string[],
): { title: string; url: string } {
  // By default, Grafana does not escape "&", "#" and "+" in values.
  const own = names.map((name) => `var-${name}=\${${clicked}.${name}:percentencode}`);
  return { title, url: `/d/${uid}?${[VARIABLES, ...own].join('&')}&\${__url_time_range}` };
}

/** Width in pixels of columns with long texts. The other columns share the rest. */
const WIDTHS: Partial<Record<keyof typeof LABEL_NAMES, number>> = { alertname: 300, as_name: 260, pod: 200 };

/** Current numbers. */
export function stat(frame: Numbers, ...queries: readonly Query[]): Builder<Panel> {
  return numbers(new Stat(), { height: 4, ...frame }, queries.map(instant)).reduceOptions(last());
}

/** Current values as bars, one for each series. */
export function bars(frame: Numbers, ...queries: readonly Query[]): Builder<Panel> {
  return numbers(new BarGauge(), frame, queries.map(instant))
    .reduceOptions(last())
    .orientation(VizOrientation.Horizontal)
    .displayMode(BarGaugeDisplayMode.Gradient)
    .min(0);
}

/** Lines over time. */
export function lines(frame: Numbers, ...queries: readonly Query[]): Builder<Panel> {
  return numbers(
    new TimeSeries(),
    frame,
    queries.map(([expr, legend], i) => query(expr, i).range().legendFormat(legend)),
  )
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
    .fillOpacity(10)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.Table)
        .placement(LegendPlacement.Right)
        .calcs(['lastNotNull', 'max'])
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi));
}

/**
 * A table of the current series. The query groups by the labels that are columns.
 *
 * Grafana applies the defaults of a table to text too: a unit turns a name into "NaN" and an ASN into a date, and the text for missing
 * data fills empty cells. So only the value column has a unit, and the description says when the table is empty.
 */
export function table(frame: Frame, { value, labels }: Columns, expr: string): Builder<Panel> {
  const names = new Map(labels.map((label) => [label, LABEL_NAMES[label]] as const));
  const fields = value ? ['Value', ...labels] : labels;
  const [first = ''] = [...(value ? [value.name] : []), ...names.values()];
  const panel = framed(new Table(), frame, [query(expr, 0).instant().format(PromQueryFormat.Table)])
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: { Time: true, ...(value ? {} : { Value: true }) },
        indexByName: Object.fromEntries(fields.map((field, i) => [field, i])),
        renameByName: { ...(value ? { Value: value.name } : {}), ...Object.fromEntries(names) },
      },
    })
    .sortBy([new TableSortByFieldStateBuilder().displayName(first).desc(value !== undefined)])
    .minWidth(80)
    .filterable(true);
  if (value) panel.overrideByName(value.name, [{ id: 'unit', value: value.unit }]);
  for (const [label, name] of names) {
    const width = WIDTHS[label];
    if (width !== undefined) panel.overrideByName(name, [{ id: 'custom.width', value: width }]);
  }
  return panel;
}

/** Circles on a map, by the two-letter country code in this label. */
export function map(frame: Numbers, country: string, expr: string): Builder<Panel> {
  return numbers(new Geomap(), frame, [query(expr, 0).instant().format(PromQueryFormat.Table)]).layers([
    new MapLayerOptionsBuilder()
      .type('markers')
      .name('Countries')
      .tooltip(true)
      .config({ showLegend: false, style: { size: { field: 'Value', min: 4, max: 24 } } })
      .location(
        new FrameGeometrySourceBuilder()
          .mode(FrameGeometrySourceMode.Lookup)
          .lookup(country)
          .gazetteer('public/gazetteer/countries.json'),
      ),
  ]);
}

interface Framed<This> extends Builder<Panel> {
  title(text: string): This;
  description(text: string): This;
  unit(text: string): This;
  noValue(text: string): This;
  thresholds(config: ThresholdsConfigBuilder): This;
  span(width: number): This;
  height(height: number): This;
  datasource(reference: typeof DATASOURCE): This;
  targets(targets: Builder<Dataquery>[]): This;
  dataLinks(links: DashboardLinkBuilder[]): This;
}

function numbers<T extends Framed<T>>(panel: T, frame: Numbers, targets: Builder<Dataquery>[]): T {
  // Without thresholds, Grafana shows values of 80 and above in red.
  const steps: Threshold[] =
    frame.redFrom === undefined
      ? [{ value: null, color: 'blue' }]
      : [
          { value: null, color: 'green' },
          { value: frame.redFrom, color: 'red' },
        ];
  return framed(panel, frame, targets)
    .unit(frame.unit)
    .noValue(frame.noData)
    .thresholds(new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps));
}

function framed<T extends Framed<T>>(panel: T, frame: Frame, targets: Builder<Dataquery>[]): T {
  const links = (frame.links ?? []).map(({ title, url }) =>
    new DashboardLinkBuilder(title).type(DashboardLinkType.Link).url(url),
  );
  return panel
    .title(frame.title)
    .description(frame.description)
    .span(frame.width)
    .height(frame.height ?? 8)
    .datasource(DATASOURCE)
    .targets(targets)
    .dataLinks(links);
}

function query(expr: string, index: number): DataqueryBuilder {
  const refId = String.fromCharCode('A'.charCodeAt(0) + index);
  return new DataqueryBuilder().refId(refId).datasource(DATASOURCE).expr(expr);
}

function instant([expr, legend]: Query, index: number): DataqueryBuilder {
  return query(expr, index).instant().legendFormat(legend);
}

function last(): ReduceDataOptionsBuilder {
  return new ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false);
}
