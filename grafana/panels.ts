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
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardLinkBuilder,
  DashboardLinkType,
  type DynamicConfigValue,
  type Panel,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as Geomap } from '@grafana/grafana-foundation-sdk/geomap';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeries } from '@grafana/grafana-foundation-sdk/timeseries';

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** The matchers of every panel: the targets that the variables choose. */
export const TARGETS = 'cluster=~"$cluster", job=~"$job", instance=~"$instance"';

/** The matchers of panels about owners. */
export const OWNERS = `${TARGETS}, namespace=~"$namespace", workload=~"$workload", process=~"$process"`;

/** What every panel has. `width` is in 24ths of the page, `height` in Grafana's units. */
export interface Frame {
  readonly title: string;
  readonly description: string;
  readonly unit: string;
  readonly noData: string;
  readonly width: number;
  readonly height?: number;
  /** Where a click on a value leads. */
  readonly links?: readonly { readonly title: string; readonly url: string }[];
}

/** A query and the name of its series. */
export type Query = readonly [expr: string, legend: string];

const VARIABLES = ['datasource', 'cluster', 'job', 'instance'].map((name) => `\${${name}:queryparam}`).join('&');

/** A link to another dashboard with the variables of this one, and with labels of the series or fields of the row that is clicked. */
export function drillDown(
  title: string,
  uid: string,
  clicked: '__field.labels' | '__data.fields',
  names: readonly string[],
): { title: string; url: string } {
  // By default Grafana leaves "&", "#" and "+" of a value as they are.
  const own = names.map((name) => `var-${name}=\${${clicked}.${name}:percentencode}`);
  return { title, url: `/d/${uid}?${[VARIABLES, ...own].join('&')}&\${__url_time_range}` };
}

/** Numbers of this moment. */
export function stat(frame: Frame, ...queries: readonly Query[]): Builder<Panel> {
  return framed(new Stat(), { height: 4, ...frame }, queries.map(instant)).reduceOptions(last());
}

/** Bars of this moment, one for each series. */
export function bars(frame: Frame, ...queries: readonly Query[]): Builder<Panel> {
  return framed(new BarGauge(), frame, queries.map(instant))
    .reduceOptions(last())
    .orientation(VizOrientation.Horizontal)
    .displayMode(BarGaugeDisplayMode.Gradient)
    .min(0);
}

/** Lines over time. */
export function lines(frame: Frame, ...queries: readonly Query[]): Builder<Panel> {
  return framed(
    new TimeSeries(),
    frame,
    queries.map(([expr, legend], i) => query(expr, i).range().legendFormat(legend)),
  )
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

/** A row for each series of this moment: its labels and, in a column of this name, its value. */
export function table(frame: Frame, value: string, expr: string, hidden: readonly string[] = []): Builder<Panel> {
  const excluded = ['Time', 'job', '__name__', ...hidden].map((name) => [name, true] as const);
  return framed(new Table(), frame, [query(expr, 0).instant().format(PromQueryFormat.Table)])
    .withTransformation({
      id: 'organize',
      options: { excludeByName: Object.fromEntries(excluded), renameByName: { Value: value } },
    })
    .overrideByName(value, [property('unit', frame.unit)])
    .filterable(true);
}

/** Circles on a map, by the two letters of the country in this label. */
export function map(frame: Frame, country: string, expr: string): Builder<Panel> {
  return framed(new Geomap(), frame, [query(expr, 0).instant().format(PromQueryFormat.Table)]).layers([
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
  span(width: number): This;
  height(height: number): This;
  datasource(reference: typeof DATASOURCE): This;
  targets(targets: Builder<Dataquery>[]): This;
  dataLinks(links: DashboardLinkBuilder[]): This;
}

function framed<T extends Framed<T>>(panel: T, frame: Frame, targets: Builder<Dataquery>[]): T {
  const links = (frame.links ?? []).map(({ title, url }) =>
    new DashboardLinkBuilder(title).type(DashboardLinkType.Link).url(url),
  );
  return panel
    .title(frame.title)
    .description(frame.description)
    .unit(frame.unit)
    .noValue(frame.noData)
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

function property(id: string, value: unknown): DynamicConfigValue {
  return { id, value };
}
