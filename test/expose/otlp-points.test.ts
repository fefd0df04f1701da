import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FOLDED, Points, type Metric } from '../../src/expose/otlp-points.ts';
import { renderFamilies } from '../../src/expose/prometheus-text.ts';
import { cleanLabel } from '../../src/common/sanitize.ts';
import type { Family } from '../../src/model.ts';
import { parsePage } from '../support/page.ts';
import { CATALOGUE, samplesOf } from '../support/otlp-labels.ts';

const EXPORTER = 1_000_000;
const BOOT = 5_000;
const T1 = 1_100_000;
const T2 = 1_160_000;
const T3 = 1_220_000;

type Samples = readonly (readonly [labels: readonly string[], value: number, count?: number])[];

function family(name: string, samples: Samples): Family {
  const spec = CATALOGUE.find((spec) => spec.name === name);
  if (!spec) throw new Error(`Cannot make family "${name}": it is not in the catalogue`);
  const { help, type, labels } = spec;
  const counted = type === 'summary';
  return {
    name,
    help,
    type,
    labels,
    samples: samples.map(([labels, value, count = 1]) => ({ labels, value, ...(counted && { count }) })),
  };
}

const newPoints = (): Points => new Points({ exporter: EXPORTER, boot: BOOT });
const attributes = (metrics: readonly Metric[]): unknown[] =>
  metrics.flatMap(({ points }) => points.map((p) => p.attributes));
const values = (metrics: readonly Metric[]): number[] => metrics.flatMap(({ points }) => points.map((p) => p.value));
const starts = (metrics: readonly Metric[]): number[] => metrics.flatMap(({ points }) => points.map((p) => p.startMs));

describe('a family', () => {
  it.each([
    ['peerscope_connections', 'peerscope.connections', '{connection}', 'gauge'],
    ['peerscope_connections_opened_total', 'peerscope.connections_opened', '{connection}', 'counter'],
    ['peerscope_socket_queue_bytes', 'peerscope.socket_queue', 'By', 'gauge'],
    ['peerscope_scrape_collector_duration_seconds', 'peerscope.scrape_collector_duration', 's', 'gauge'],
    ['peerscope_connection_coverage_ratio', 'peerscope.connection_coverage', '1', 'gauge'],
    ['peerscope_asn_info', 'peerscope.asn_info', '', 'gauge'],
    ['peerscope_asn_sent_bytes_total', 'peerscope.asn.network.io', 'By', 'counter'],
    ['peerscope_asn_received_bytes_total', 'peerscope.asn.network.io', 'By', 'counter'],
    ['peerscope_asn_retransmitted_bytes_total', 'peerscope.asn_retransmitted', 'By', 'counter'],
    ['peerscope_endpoint_sent_bytes_total', 'peerscope.endpoint.network.io', 'By', 'counter'],
    ['peerscope_endpoint_received_bytes_total', 'peerscope.endpoint.network.io', 'By', 'counter'],
    ['peerscope_asn_round_trip_seconds', 'peerscope.asn_round_trip', 's', 'summary'],
  ])('%s is named %s', (name, expected, unit, type) => {
    const { labels } = family(name, []);
    const [metric] = newPoints().of([family(name, [[labels.map(() => 'x'), 1]])], T1);
    expect(metric).toMatchObject({ name: expected, unit, type });
  });

  it('without a label of the catalogue has the attributes of its own labels', () => {
    const labels = ['process', 'namespace', 'workload', 'transport', 'direction', 'state'];
    const samples = [{ labels: ['nginx', 'shop', 'other', 'tcp', 'inbound', 'established'], value: 3 }];
    const metrics = newPoints().of([{ ...family('peerscope_connections', []), labels, samples }], T1);
    expect(attributes(metrics)).toEqual([
      {
        'process.executable.name': 'nginx',
        'k8s.namespace.name': 'shop',
        'network.transport': 'tcp',
        'peerscope.direction': 'inbound',
        'network.connection.state': 'established',
        [FOLDED]: 'peerscope.workload',
      },
    ]);
  });

  it('of the catalogue translates back to its Prometheus name, and metrics have different names', () => {
    const families = CATALOGUE.map(({ name, labels }) => family(name, [[labels.map(() => 'x'), 1]]));
    const metrics = newPoints().of(families, T1);
    const names = metrics.flatMap((metric) =>
      metric.points.flatMap((point) => samplesOf(metric, point).map(([name]) => name)),
    );
    const expected = CATALOGUE.flatMap(({ name, type }) =>
      type === 'summary' ? [`${name}_sum`, `${name}_count`] : [name],
    );
    expect(names.sort()).toEqual(expected.sort());
    expect(new Set(metrics.map(({ name }) => name)).size).toBe(metrics.length);
  });

  it('of bytes sent or received is part of one metric of the semantic conventions', () => {
    const labels = ['curl', '', '', 'outbound', 'public', '64500'];
    const metrics = newPoints().of(
      [
        family('peerscope_asn_sent_bytes_total', [[labels, 3]]),
        family('peerscope_asn_retransmitted_bytes_total', [[labels, 1]]),
        family('peerscope_asn_received_bytes_total', [[labels, 4]]),
      ],
      T1,
    );
    const attributes = {
      'process.executable.name': 'curl',
      'peerscope.direction': 'outbound',
      'peerscope.network': 'public',
      'network.peer.as.number': 64500,
    };
    expect(metrics.map(({ name, unit, points }) => [name, unit, points])).toEqual([
      [
        'peerscope.asn.network.io',
        'By',
        [
          { attributes: { 'network.io.direction': 'transmit', ...attributes }, startMs: EXPORTER, value: 3 },
          { attributes: { 'network.io.direction': 'receive', ...attributes }, startMs: EXPORTER, value: 4 },
        ],
      ],
      ['peerscope.asn_retransmitted', 'By', [{ attributes, startMs: EXPORTER, value: 1 }]],
    ]);
  });

  it('without series is left out', () => {
    expect(newPoints().of([family('peerscope_store_up', [])], T1)).toEqual([]);
  });

  it('leaves out values that are not finite', () => {
    const samples: Samples = [NaN, Infinity, -Infinity, 0].map((value, i) => [[String(i)], value]);
    expect(values(newPoints().of([family('peerscope_scrape_collector_duration_seconds', samples)], T1))).toEqual([0]);
  });
});

describe('a label', () => {
  it.each<[situation: string, name: string, labels: string[], expected: object]>([
    [
      'has its name of the semantic conventions, else one of ours, and "" is left out',
      'peerscope_connections',
      ['nginx', 'shop', 'web', 'web-1', 'nginx', 'tcp', 'inbound', 'established'],
      {
        'process.executable.name': 'nginx',
        'k8s.namespace.name': 'shop',
        'peerscope.workload': 'web',
        'k8s.pod.name': 'web-1',
        'k8s.container.name': 'nginx',
        'network.transport': 'tcp',
        'peerscope.direction': 'inbound',
        'network.connection.state': 'established',
      },
    ],
    [
      'asn is an integer, and 0 is not announced',
      'peerscope_asn_info',
      ['0', 'not announced', ''],
      { 'network.peer.as.number': 0, 'network.peer.as.organization.name': 'not announced' },
    ],
    [
      'that folded is listed, but not what only reads so',
      'peerscope_asn_info',
      ['other', 'other', ''],
      { 'network.peer.as.organization.name': 'other', [FOLDED]: 'network.peer.as.number' },
    ],
    [
      'that folded is listed beside the ones that did not',
      'peerscope_listener_accept_queue',
      ['_other', '', 'other', 'other', '80'],
      {
        'process.executable.name': '_other',
        'network.local.port': 80,
        [FOLDED]: 'peerscope.workload,network.local.address',
      },
    ],
    [
      'of a counter folds with all the others',
      'peerscope_tcp_active_opens_total',
      ['other', 'other'],
      { [FOLDED]: 'k8s.namespace.name,k8s.pod.name' },
    ],
    [
      'of a counter does not fold alone: that is a namespace of this name',
      'peerscope_tcp_active_opens_total',
      ['other', 'web-1'],
      { 'k8s.namespace.name': 'other', 'k8s.pod.name': 'web-1' },
    ],
    [
      'that never folds can have the value other',
      'peerscope_sockets_unattributed',
      ['other'],
      { 'peerscope.reason': 'other' },
    ],
  ])('%s', (_situation, name, labels, expected) => {
    expect(attributes(newPoints().of([family(name, [[labels, 1]])], T1))).toEqual([expected]);
  });
});

describe('a missing series', () => {
  const here = (name: string, value = 3): Family => {
    const { labels } = family(name, []);
    return family(name, [[labels.map(() => 'x'), value]]);
  };

  it.each([
    ['of a count is 0 once, then left out', 'peerscope_connections', [[3], [0], []]],
    ['of a size is 0 once, then left out', 'peerscope_socket_queue_bytes', [[3], [0], []]],
    ['of an info metric is left out', 'peerscope_asn_info', [[3], [], []]],
    ['of a duration is left out', 'peerscope_scrape_collector_duration_seconds', [[3], [], []]],
    ['of a ratio is left out', 'peerscope_connection_coverage_ratio', [[3], [], []]],
    ['of a counter is left out', 'peerscope_connections_opened_total', [[3], [], []]],
  ])('%s', (_situation, name, expected) => {
    const points = newPoints();
    const exports = [[here(name)], [family(name, [])], [family(name, [])]].map((families, i) => {
      const metrics = points.of(families, T1 + i);
      points.confirm();
      return values(metrics);
    });
    expect(exports).toEqual(expected);
  });

  it('is 0 until an export succeeds', () => {
    const points = newPoints();
    points.of([here('peerscope_connections')], T1);
    points.confirm();
    const gone = [family('peerscope_connections', [])];
    expect(values(points.of(gone, T2))).toEqual([0]);
    expect(values(points.of(gone, T3))).toEqual([0]);
    points.confirm();
    expect(values(points.of(gone, T3 + 1))).toEqual([]);
  });

  it('is not 0 if the receiver never had a value', () => {
    const points = newPoints();
    points.of([here('peerscope_connections')], T1);
    expect(values(points.of([family('peerscope_connections', [])], T2))).toEqual([]);
  });

  it('that returns is one series with its value', () => {
    const points = newPoints();
    points.of([here('peerscope_connections')], T1);
    points.confirm();
    points.of([family('peerscope_connections', [])], T2);
    expect(values(points.of([here('peerscope_connections', 7)], T3))).toEqual([7]);
  });
});

describe('a counter', () => {
  const opens = (...samples: Samples): Family[] => [family('peerscope_tcp_active_opens_total', samples)];
  const rows = (...samples: Samples): Family[] => [family('peerscope_malformed_rows_total', samples)];

  it('of the exporter starts with the exporter, even if its first series appears later', () => {
    const points = newPoints();
    expect(starts(points.of(rows([['tcp'], 1]), T1))).toEqual([EXPORTER]);
    expect(starts(points.of(rows([['tcp'], 2], [['udp'], 1]), T2))).toEqual([EXPORTER, EXPORTER]);
  });

  it('of the kernel starts at boot', () => {
    expect(starts(newPoints().of(opens([['', ''], 70]), T1))).toEqual([BOOT]);
  });

  it('that decreased restarts at the previous export', () => {
    const points = newPoints();
    points.of(opens([['shop', 'web-1'], 70]), T1);
    expect(starts(points.of(opens([['shop', 'web-1'], 6]), T2))).toEqual([T1]);
    expect(starts(points.of(opens([['shop', 'web-1'], 9]), T3))).toEqual([T1]);
  });

  it('that returns restarts at the last export without it', () => {
    const points = newPoints();
    points.of(opens([['shop', 'web-1'], 70]), T1);
    points.of(opens(), T2);
    expect(starts(points.of(opens([['shop', 'web-1'], 90]), T3))).toEqual([T2]);
  });

  it('never ends before its start when the clock is set back', () => {
    expect(starts(newPoints().of(rows([['tcp'], 1]), EXPORTER - 1))).toEqual([EXPORTER - 1]);
  });
});

describe('a summary', () => {
  const trips = (sum: number, count: number): Family[] => [
    family('peerscope_asn_round_trip_seconds', [[['outbound', 'public', '64500'], sum, count]]),
  ];

  it('has its sum and its count, and starts like a counter', () => {
    const points = newPoints();
    expect(points.of(trips(0.5, 2), T1)).toMatchObject([{ points: [{ value: 0.5, count: 2, startMs: EXPORTER }] }]);
    expect(points.of(trips(0.75, 3), T2)).toMatchObject([{ points: [{ value: 0.75, count: 3, startMs: EXPORTER }] }]);
    expect(points.of(trips(0.9, 1), T3)).toMatchObject([{ points: [{ value: 0.9, count: 1, startMs: T2 }] }]);
  });
});

it('Prometheus text and OTLP points have the same samples, for any labels', async () => {
  const text = fc.oneof(
    fc.constantFrom('', 'other', '_other', '0', '64500', '007', '1,b:2'),
    fc.string({ unit: 'binary' }).map(cleanLabel),
  );
  const arbitrary = fc.constantFrom(...CATALOGUE).chain(({ name, labels, fold, ...spec }) => {
    const mayFold = new Set(fold.flatMap((step) => step.labels));
    const isFoldedElsewhere = 'folded' in spec;
    // Integer labels have integer values, and "other" is only in labels that fold.
    const value = (label: string): fc.Arbitrary<string> =>
      label === 'asn' || label === 'local_port'
        ? fc.constantFrom('', '0', '80', '64500', ...(mayFold.has(label) ? ['other'] : []))
        : isFoldedElsewhere
          ? text.map((value) => (value === 'other' ? 'another' : value))
          : text;
    return fc
      .uniqueArray(fc.tuple(fc.tuple(...labels.map(value)), fc.nat()), {
        selector: ([labels]) => JSON.stringify(labels),
      })
      .map((samples) => family(name, samples));
  });
  const families = fc.uniqueArray(arbitrary, { selector: ({ name }) => name, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(families, async (families) => {
      const page = Buffer.from(await renderFamilies(families, 'text'));
      const onPage = parsePage(new Uint8Array(page).buffer).map(({ name, labels, value }) => {
        const told = Object.entries(labels).filter(([, text]) => text !== '');
        return JSON.stringify([name, told.sort(), value]);
      });
      const sent = newPoints()
        .of(families, T1)
        .flatMap((metric) =>
          metric.points.flatMap((point) => samplesOf(metric, point).map((sample) => JSON.stringify(sample))),
        );
      expect(sent.sort()).toEqual(onPage.sort());
      expect(new Set(sent).size).toBe(sent.length);
    }),
  );
});
