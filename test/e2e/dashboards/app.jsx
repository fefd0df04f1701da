// Draws the panels of a dashboard with Grafana's own components, from what Prometheus answered (window.VIEW).
import { Component, useEffect, useLayoutEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import * as data from '@grafana/data';
import * as ui from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import 'uplot/dist/uPlot.min.css';
import '@grafana/react-data-grid/lib/styles.css';
import { framesOf, links } from './frames.js';
import { NodeGraph } from './node-graph.jsx';

const { FieldType, LoadingState, ThemeContext, createTheme, dateTime, standardFieldConfigEditorRegistry } = data;
const WIDTH = 1600;
const CELL = 30;
const GAP = 8;
const COLUMN = (WIDTH - 2 * GAP) / 24;

const option = (id, extra) => ({
  ...{ id, path: id, name: id, editor: () => null, override: () => null, settings: {} },
  ...{ process: (value) => value, shouldApply: () => true },
  ...extra,
});
const STANDARD = [
  'displayName',
  'unit',
  'min',
  'max',
  'decimals',
  'noValue',
  'links',
  'color',
  'thresholds',
  'mappings',
];
const CUSTOM = [
  ...[
    'drawStyle',
    'lineInterpolation',
    'lineWidth',
    'fillOpacity',
    'gradientMode',
    'spanNulls',
    'showPoints',
    'pointSize',
  ],
  ...['stacking', 'axisPlacement', 'axisLabel', 'axisColorMode', 'scaleDistribution', 'hideFrom', 'thresholdsStyle'],
  ...['align', 'inspect', 'filterable', 'cellOptions', 'width', 'minWidth', 'hidden'],
];
standardFieldConfigEditorRegistry.setInit(() => STANDARD.map((id) => option(id)));
const transformers = [
  'noop',
  'organize',
  'merge',
  'calculateField',
  'filterFields',
  'filterFrames',
  'renameFields',
  'order',
];
data.standardTransformersRegistry.setInit(() =>
  Object.values(data.standardTransformers)
    .filter(({ id }) => transformers.includes(id))
    .map((transformer) => ({
      ...{ id: transformer.id, name: transformer.name, editor: () => null, imageDark: '', imageLight: '' },
      ...{ transformation: () => Promise.resolve(transformer) },
    })),
);
data.locationUtil.initialize({
  config: { appSubUrl: '' },
  getTimeRangeForUrl: () => ({ from: 'now-3h', to: 'now' }),
  getVariablesUrlParams: () => ({}),
});
const registry = new data.FieldConfigOptionsRegistry();
for (const id of STANDARD) registry.register(option(id));
for (const id of CUSTOM) registry.register(option(`custom.${id}`, { path: id, isCustom: true }));

const theme = createTheme({ colors: { mode: 'dark' } });
const GREEN_RED = {
  mode: 'absolute',
  steps: [
    { value: -Infinity, color: 'green' },
    { value: 80, color: 'red' },
  ],
};

// What Grafana does with a panel that leaves a setting out.
const DEFAULTS = {
  timeseries: {
    custom: {
      ...{ drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none' },
      ...{ spanNulls: false, showPoints: 'auto', pointSize: 5, stacking: { mode: 'none', group: 'A' } },
      ...{ axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', scaleDistribution: { type: 'linear' } },
      ...{ hideFrom: { tooltip: false, viz: false, legend: false }, thresholdsStyle: { mode: 'off' } },
    },
    color: { mode: 'palette-classic' },
  },
  table: { custom: { align: 'auto', inspect: false, cellOptions: { type: 'auto' } } },
};

/** The steps of the JSON have null for minus infinity. */
function finite(thresholds) {
  return {
    ...thresholds,
    steps: thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })),
  };
}

function defaultsOf({ type, fieldConfig }) {
  const { custom = {}, color = { mode: 'thresholds' } } = DEFAULTS[type] ?? {};
  const own = fieldConfig.defaults;
  return {
    color,
    ...own,
    thresholds: finite(own.thresholds ?? GREEN_RED),
    custom: { ...custom, ...own.custom },
  };
}

function useFrames(panel, answers) {
  const [frames, setFrames] = useState(null);
  useEffect(() => {
    const raw = framesOf(data, panel, answers);
    const transformations = (panel.transformations ?? []).map((one) => ({ ...one, disabled: false }));
    const context = { interpolate: (text) => text };
    const subscription = data.transformDataFrame(transformations, raw, context).subscribe((made) => {
      const overrides = panel.fieldConfig.overrides.map(({ matcher, properties }) => ({
        matcher,
        properties: properties.map((one) => (one.id === 'thresholds' ? { ...one, value: finite(one.value) } : one)),
      }));
      const fieldConfig = { defaults: defaultsOf(panel), overrides };
      const replaceVariables = (text) => text;
      const common = { fieldConfigRegistry: registry, fieldConfig, replaceVariables, theme, timeZone: 'utc' };
      const applied = data.applyFieldOverrides({ data: made, ...common });
      data.cacheFieldDisplayNames(applied);
      for (const frame of applied) for (const field of frame.fields) field.getLinks = links(frame, field);
      setFrames(applied);
    });
    return () => subscription.unsubscribe();
  }, []);
  return frames;
}

function Body({ panel, answers, width, height, range }) {
  const frames = useFrames(panel, answers);
  return frames && <div data-drawn>{drawn({ panel, frames, width, height, range })}</div>;
}

function drawn({ panel, frames, width, height, range }) {
  const defaults = defaultsOf(panel);
  const isEmpty = frames.every(({ length }) => length === 0);
  if (isEmpty && panel.type !== 'table') {
    const style = { width, height, display: 'grid', placeItems: 'center', color: theme.colors.text.secondary };
    return (
      <div data-empty style={style}>
        {defaults.noValue ?? 'No data'}
      </div>
    );
  }
  const fieldConfig = { defaults, overrides: [] };
  const size = { width, height };
  const values = () => {
    const { reduceOptions } = panel.options;
    const more = { replaceVariables: (text) => text, theme, data: frames, sparkline: false, timeZone: 'utc' };
    return data.getFieldDisplayValues({ fieldConfig, reduceOptions, ...more });
  };
  switch (panel.type) {
    case 'stat':
      return <Stats panel={panel} values={values} frames={frames} {...size} />;
    case 'bargauge':
      return <Bars panel={panel} values={values} frames={frames} {...size} />;
    case 'timeseries':
      return (
        <ui.TimeSeries
          {...{ frames, ...size, timeRange: range, timeZone: 'utc', structureRev: 1 }}
          legend={panel.options.legend}
          options={panel.options}
        >
          {(config) => <Marks panel={panel} config={config} />}
        </ui.TimeSeries>
      );
    case 'table':
      return (
        <TableNG
          {...{
            data: frames[0] ?? data.toDataFrame({ fields: [] }),
            ...size,
            timeRange: range,
            structureRev: 1,
            fieldConfig,
          }}
          columnMinWidth={panel.fieldConfig.defaults.custom?.minWidth ?? 150}
          noValue="No rows"
          sortBy={panel.options.sortBy}
        />
      );
    case 'nodeGraph':
      return <NodeGraph frames={frames} theme={theme} {...size} />;
    case 'geomap':
      return <Places frames={frames} />;
    default:
      throw new Error(`Cannot draw a panel of type "${panel.type}"`);
  }
}

/** Annotations are vertical lines where they begin. Grafana draws them outside of its components. */
function Marks({ panel, config }) {
  useLayoutEffect(() => {
    config.addHook('draw', ({ ctx, bbox, valToPos }) => {
      const within = marks.filter((one) => one.from > from && one.from <= to);
      ctx.save();
      ctx.setLineDash([4, 4]);
      for (const one of within) {
        const x = valToPos(one.from * 1000, 'x', true);
        ctx.strokeStyle = theme.visualization.getColorByName(one.color);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
      }
      ctx.restore();
      for (const section of document.querySelectorAll('section'))
        if (section.dataset.panel === panel.title) section.dataset.marks = String(within.length);
    });
  }, [config]);
  return null;
}

function Stats({ panel, values, frames, width, height }) {
  const { colorMode, graphMode, justifyMode = 'auto', textMode = 'auto', orientation } = panel.options;
  return (
    <ui.VizRepeater
      {...{ getValues: values, source: frames, width, height, orientation }}
      autoGrid
      renderCounter={0}
      itemSpacing={3}
      renderValue={({ value, width, height, count }) => (
        <ui.BigValue
          {...{ width, height, count, theme, colorMode, graphMode, justifyMode, textMode }}
          value={{ ...value.display, title: count > 1 || textMode === 'value_and_name' ? value.display.title : '' }}
          wideLayout
        />
      )}
    />
  );
}

function Bars({ panel, values, frames, width, height }) {
  const { orientation, displayMode, showUnfilled, valueMode, namePlacement, minVizHeight, maxVizHeight } =
    panel.options;
  const longest = () => {
    const all = values().map(({ display }) => display);
    const longer = (texts) => texts.reduce((a, b) => (b.length > a.length ? b : a), '');
    return {
      title: longer(all.map(({ title = '' }) => title)),
      text: longer(all.map(({ text, suffix = '' }) => text + suffix)),
    };
  };
  return (
    <ui.VizRepeater
      {...{ getValues: values, source: frames, width, height, orientation, minVizHeight, maxVizHeight }}
      renderCounter={0}
      itemSpacing={10}
      getAlignmentFactors={longest}
      renderValue={({ value, width, height, alignmentFactors }) => (
        <a href={value.getLinks?.({})[0]?.href}>
          <ui.BarGauge
            {...{ width, height, orientation, theme, displayMode, showUnfilled, namePlacement, alignmentFactors }}
            {...{
              value: value.display,
              field: value.field,
              valueDisplayMode: valueMode,
              itemSpacing: 10,
              lcdCellWidth: 12,
            }}
            text={panel.options.text ?? {}}
            display={value.view?.getFieldDisplayProcessor?.(value.colIndex ?? 0)}
          />
        </a>
      )}
    />
  );
}

/** The background of a map comes from elsewhere: only what stands on it is drawn. */
function Places({ frames }) {
  const [frame] = frames;
  const value = frame.fields.find(({ type }) => type === FieldType.number);
  const place = frame.fields.find(({ name }) => name === 'as_country');
  return place.values.map((name, i) => (
    <span key={name} style={{ margin: 6, display: 'inline-block' }}>
      {name} {data.formattedValueToString(value.display(value.values[i]))}
    </span>
  ));
}

class Guard extends Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    const { error } = this.state;
    return error ? <pre data-broken>{String(error.stack).slice(0, 800)}</pre> : this.props.children;
  }
}

const { dashboard, answers, marks, from, to, shown } = window.VIEW;
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-3h', to: 'now' } };
const filled = (text) => text.replaceAll(/\$\{?(\w+)\}?/g, (whole, name) => shown[name] ?? whole);

/** The panels of a collapsed row are below it, as when a viewer opens it: the positions leave room for them. */
const panels = [];
for (const panel of dashboard.panels) {
  const at = panel.gridPos;
  panels.push(panel);
  if (!panel.collapsed) continue;
  const top = Math.min(...panel.panels.map(({ gridPos }) => gridPos.y));
  panels.push(
    ...panel.panels.map((one) => ({ ...one, gridPos: { ...one.gridPos, y: one.gridPos.y - top + at.y + 1 } })),
  );
}
const bottom = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * COLUMN + GAP, top: y * (CELL + GAP) + 36 };
  const title = filled(panel.title);
  if (panel.type === 'row')
    return (
      <h2 style={{ ...place, margin: 0, fontSize: 15, color: theme.colors.text.primary }}>
        {panel.collapsed ? '>' : 'v'} {title}
      </h2>
    );
  const size = { width: w * COLUMN - GAP, height: h * (CELL + GAP) - GAP };
  return (
    <section style={place} data-panel={panel.title} data-type={panel.type}>
      <Guard>
        <ui.PanelChrome title={title} {...size} loadingState={LoadingState.Done}>
          {(width, height) => (
            <Guard>
              <Body {...{ panel, width, height, range, answers: answers[panel.key] ?? [] }} />
            </Guard>
          )}
        </ui.PanelChrome>
      </Guard>
    </section>
  );
}

function App() {
  const chosen = dashboard.templating.list.map(({ name, label }) => `${label}: ${shown[name] ?? 'All'}`);
  return (
    <ThemeContext.Provider value={theme}>
      <ui.GlobalStyles />
      <main
        style={{
          ...{ position: 'relative', width: WIDTH, height: bottom * (CELL + GAP) + 60 },
          background: theme.colors.background.canvas,
        }}
      >
        <h1 style={{ margin: 0, padding: GAP, fontSize: 15, color: theme.colors.text.primary }}>
          {dashboard.title} [{chosen.join('] [')}]
        </h1>
        {panels.map((panel, i) => (
          <Panel key={i} panel={panel} />
        ))}
      </main>
    </ThemeContext.Provider>
  );
}
createRoot(document.getElementById('root')).render(<App />);
