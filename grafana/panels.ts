import { PanelBuilder as BarGauge } from '@grafana/grafana-foundation-sdk/bargauge';
import type { Builder, Dataquery } from '@grafana/grafana-foundation-sdk/cog';
import {
  BarGaugeDisplayMode,
  BarGaugeNamePlacement,
  BarGaugeSizing,
  FrameGeometrySourceBuilder,
  FrameGeometrySourceMode,
  LegendDisplayMode,
  LegendPlacement,
  MapLayerOptionsBuilder,
  ReduceDataOptionsBuilder,
  SortOrder,
  TableSortByFieldStateBuilder,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTextDisplayOptionsBuilder,
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
import { PanelBuilder as NodeGraph } from '@grafana/grafana-foundation-sdk/nodegraph';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeries } from '@grafana/grafana-foundation-sdk/timeseries';

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** The label matchers of every panel: the targets that the variables select. */
export const TARGETS = 'cluster=~"$cluster", job=~"$job", instance=~"$instance"';

/** The alerts that fire. Some are about no target. */
export const ALERTS =
  'ALERTS{alertname=~"Peerscope.+", alertstate="firing", cluster=~"$cluster|", job=~"$job|", instance=~"$instance|"}';

/** The label matchers of panels about owners. */
export const OWNERS = `${TARGETS}, namespace=~"$namespace", workload="$workload", process=~"$process"`;

/** The most rows of a table, and the most lines or bars of a panel with one for each host or owner. */
const MOST_ROWS = 200;
export const MOST_LINES = 20;

/**
 * Gives the series of an expression by cluster and ASN the name that most exporters of that cluster report. Clusters may give an ASN
 * names of their own, and a join that leaves the cluster out fails where several clusters are shown.
 */
export const named = (expr: string, labels = 'as_name', matchers = ''): string =>
  `${expr} * on (cluster, asn) group_left (${labels}) group by (cluster, asn, ${labels}) (topk by (cluster, asn) (1, count by (cluster, asn, ${labels}) (peerscope_asn_info{${TARGETS}${matchers}})))`;

/** The settings of every panel. `width` is in 24ths of the page, `height` in Grafana's grid units. */
export interface Frame {
  readonly title: string;
  readonly description: string;
  readonly width: number;
  readonly height?: number;
  /** The least distance of points of lines over many series. */
  readonly interval?: string;
  /** Links of a value. */
  readonly links?: readonly Link[];
}

/** A panel of numbers. */
export interface Numbers extends Frame {
  readonly unit: string;
  readonly noData: string;
  /** The lowest number that is a failure. It is red, and lower numbers are green. Without it, all numbers are neutral. */
  readonly redFrom?: number;
}

/** A column of numbers. */
export interface Value {
  readonly name: string;
  readonly unit: string;
  readonly expr: string;
}

export type Label = keyof typeof LABEL_NAMES;

/** The columns of a table, in reading order. */
export interface Columns {
  /** The value columns. They come first, and the first one is sorted in descending order. */
  readonly values: readonly Value[];
  /** The label columns. */
  readonly labels: readonly Label[];
  /** Links of the values of label columns. */
  readonly links?: Partial<Record<Label, Link>>;
  /** The text of an empty cell of a label column. */
  readonly empty?: Partial<Record<Label, string>>;
}

/** A link of a value. */
export interface Link {
  readonly title: string;
  readonly url: string;
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
  owner: 'Owner',
  peer_namespace: 'Peer namespace',
  peer_workload: 'Peer workload',
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
  names: readonly (string | readonly [variable: string, field: string])[],
): Link {
  // By default, Grafana does not escape "&", "#" and "+" in values.
  const own = names.map((name) => {
    const [variable, field] = typeof name === 'string' ? [name, name] : name;
    return `var-${variable}=\${${clicked}.${field}:percentencode}`;
  });
  return { title, url: `/d/${uid}?${[VARIABLES, ...own].join('&')}&\${__url_time_range}` };
}

/** Width in pixels of columns with long texts. The other columns share the rest. */
const WIDTHS: Partial<Record<Label, number>> = { alertname: 290, as_name: 430, family: 290, pod: 260 };

/** Current numbers. */
export function stat(frame: Numbers, ...queries: readonly Query[]): Builder<Panel> {
  return numbers(new Stat(), { height: 4, ...frame }, queries.map(instant)).reduceOptions(last());
}

/** Current values as bars, one for each series. */
export function bars(frame: Numbers, ...queries: readonly Query[]): Builder<Panel> {
  return (
    numbers(new BarGauge(), frame, queries.map(instant))
      .reduceOptions(last())
      .orientation(VizOrientation.Horizontal)
      .displayMode(BarGaugeDisplayMode.Gradient)
      // Beside the bars, long names would be cut.
      .namePlacement(BarGaugeNamePlacement.Top)
      .text(new VizTextDisplayOptionsBuilder().titleSize(12).valueSize(14))
      .sizing(BarGaugeSizing.Manual)
      .minVizHeight(30)
      .maxVizHeight(40)
      .min(0)
  );
}

/** Lines over time. */
export function lines(frame: Numbers, ...queries: readonly Query[]): Builder<Panel> {
  return (
    numbers(
      new TimeSeries(),
      frame,
      queries.map(([expr, legend], i) => query(expr, i).range().legendFormat(legend)),
    )
      // A point a minute is enough for lines over hours, and costs a quarter of one for each scrape.
      .interval(frame.interval ?? '1m')
      .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
      .fillOpacity(10)
      .legend(
        new VizLegendOptionsBuilder()
          .displayMode(LegendDisplayMode.Table)
          .placement(LegendPlacement.Right)
          .calcs(['lastNotNull', 'max'])
          .sortBy('Last *')
          .sortDesc(true)
          .showLegend(true),
      )
      .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending))
  );
}

/**
 * A table of the current series. The queries group by the labels that are columns.
 *
 * Grafana applies the defaults of a table to text too: a unit turns a name into "NaN" and an ASN into a date, and the text for missing
 * data fills empty cells. So only the value columns have units, and the description says when the table is empty.
 */
export function table(frame: Frame, { values, labels, links = {}, empty = {} }: Columns): Builder<Panel> {
  const isOne = values.length === 1;
  const valueNames = values.map(({ name }, i) => [isOne ? 'Value' : `Value #${refId(i)}`, name] as const);
  const columns = [...valueNames, ...labels.map((label) => [label, LABEL_NAMES[label]] as const)];
  const queries = values.map(({ expr }, i) =>
    query(`topk(${MOST_ROWS}, ${expr})`, i).instant().format(PromQueryFormat.Table),
  );
  const panel = framed(new Table(), frame, queries);
  if (!isOne) {
    panel.withTransformation({ id: 'merge', options: {} });
    panel.withTransformation({ id: 'sortBy', options: { sort: [{ field: 'Value #A', desc: true }] } });
    panel.withTransformation({ id: 'limit', options: { limitField: MOST_ROWS } });
  }
  panel
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        indexByName: Object.fromEntries(columns.map(([field], i) => [field, i])),
        renameByName: Object.fromEntries(columns),
      },
    })
    .sortBy([new TableSortByFieldStateBuilder().displayName(values[0]?.name ?? '').desc(true)])
    .minWidth(90)
    .filterable(true);
  for (const { name, unit } of values)
    panel.overrideByName(name, [
      { id: 'unit', value: unit },
      { id: 'custom.width', value: Math.max(unit === 'dateTimeFromNow' ? 150 : 120, 40 + 9 * name.length) },
    ]);
  for (const label of labels) {
    const [width, link, text] = [WIDTHS[label], links[label], empty[label]];
    const properties = [
      ...(width === undefined ? [] : [{ id: 'custom.width', value: width }]),
      ...(link === undefined ? [] : [{ id: 'links', value: [link] }]),
      ...(text === undefined
        ? []
        : [{ id: 'mappings', value: [{ type: 'special', options: { match: 'empty', result: { text } } }] }]),
    ];
    if (properties.length > 0) panel.overrideByName(LABEL_NAMES[label], properties);
  }
  return panel;
}

/**
 * Circles for the `id` of each node, and lines from `source` to `target` of each edge. Grafana takes the numbers from fields of fixed
 * names, and a renamed field keeps its name, so they are calculated. As for tables, only these fields have a unit.
 */
export function nodeGraph(frame: Frame, nodes: string, edges: string, links: readonly Link[]): Builder<Panel> {
  const queries = [nodes, edges].map((expr, i) => query(expr, i).instant().format(PromQueryFormat.Table));
  const panel = framed(new NodeGraph(), frame, queries);
  for (const id of ['A', 'B'])
    panel.withTransformation({
      id: 'calculateField',
      filter: { id: 'byRefId', options: id },
      options: { mode: 'reduceRow', reduce: { reducer: 'sum', include: [`Value #${id}`] }, alias: 'mainstat' },
    });
  return panel
    .overrideByName('mainstat', [{ id: 'unit', value: 'short' }])
    .overrideByQuery('A', [{ id: 'links', value: links }]);
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
  return new DataqueryBuilder().refId(refId(index)).datasource(DATASOURCE).expr(expr);
}

function refId(index: number): string {
  return String.fromCharCode('A'.charCodeAt(0) + index);
}

function instant([expr, legend]: Query, index: number): DataqueryBuilder {
  return query(expr, index).instant().legendFormat(legend);
}

function last(): ReduceDataOptionsBuilder {
  return new ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false);
}
