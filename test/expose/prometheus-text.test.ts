import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CONTENT_TYPES,
  endOf,
  ownMetrics,
  PartWriter,
  renderFamilies,
  withOpenMetricsMetadata,
  type Format,
} from '../../src/expose/prometheus-text.ts';
import type { Family, FamilyType } from '../../src/model.ts';

const CONNECTIONS: Family = {
  name: 'peerscope_connections',
  help: 'Socket rows of all "readable" namespaces,\nby \\ and state.',
  type: 'gauge',
  labels: ['process', 'pod', 'state'],
  samples: [
    { labels: ['nginx', '', 'established'], value: 12 },
    { labels: ['sshd', '', 'listen'], value: 0.5 },
  ],
};
const OPENED: Family = {
  name: 'peerscope_connections_opened_total',
  help: 'Connections opened.',
  type: 'counter',
  labels: ['transport'],
  samples: [{ labels: ['tcp'], value: 3 }],
};

describe('renderFamilies', () => {
  const table: { name: string; families: Family[]; text: string; openmetrics: string }[] = [
    { name: 'returns empty text for no families', families: [], text: '', openmetrics: '' },
    {
      name: 'writes every label, empty ones included, and escapes quotes in HELP only in OpenMetrics',
      families: [CONNECTIONS],
      text: [
        '# HELP peerscope_connections Socket rows of all "readable" namespaces,\\nby \\\\ and state.',
        '# TYPE peerscope_connections gauge',
        'peerscope_connections{process="nginx",pod="",state="established"} 12',
        'peerscope_connections{process="sshd",pod="",state="listen"} 0.5',
        '',
      ].join('\n'),
      openmetrics: [
        '# HELP peerscope_connections Socket rows of all \\"readable\\" namespaces,\\nby \\\\ and state.',
        '# TYPE peerscope_connections gauge',
        'peerscope_connections{process="nginx",pod="",state="established"} 12',
        'peerscope_connections{process="sshd",pod="",state="listen"} 0.5',
        '',
      ].join('\n'),
    },
    {
      name: 'omits the _total suffix only in OpenMetrics metadata, and writes no blank line between families',
      families: [
        OPENED,
        { ...OPENED, name: 'peerscope_asn_queries_total', labels: [], samples: [{ labels: [], value: 7 }] },
      ],
      text: [
        '# HELP peerscope_connections_opened_total Connections opened.',
        '# TYPE peerscope_connections_opened_total counter',
        'peerscope_connections_opened_total{transport="tcp"} 3',
        '# HELP peerscope_asn_queries_total Connections opened.',
        '# TYPE peerscope_asn_queries_total counter',
        'peerscope_asn_queries_total 7',
        '',
      ].join('\n'),
      openmetrics: [
        '# HELP peerscope_connections_opened Connections opened.',
        '# TYPE peerscope_connections_opened counter',
        'peerscope_connections_opened_total{transport="tcp"} 3',
        '# HELP peerscope_asn_queries Connections opened.',
        '# TYPE peerscope_asn_queries counter',
        'peerscope_asn_queries_total 7',
        '',
      ].join('\n'),
    },
    {
      name: 'writes a summary as sum and count, one series after the other',
      families: [
        {
          name: 'x_seconds',
          help: 'X.',
          type: 'summary',
          labels: ['asn'],
          samples: [
            { labels: ['1'], value: 0.25, count: 3 },
            { labels: [''], value: 0, count: 0 },
          ],
        },
      ],
      text: [
        '# HELP x_seconds X.',
        '# TYPE x_seconds summary',
        'x_seconds_sum{asn="1"} 0.25',
        'x_seconds_count{asn="1"} 3',
        'x_seconds_sum{asn=""} 0',
        'x_seconds_count{asn=""} 0',
        '',
      ].join('\n'),
      openmetrics: [
        '# HELP x_seconds X.',
        '# TYPE x_seconds summary',
        '# UNIT x_seconds seconds',
        'x_seconds_sum{asn="1"} 0.25',
        'x_seconds_count{asn="1"} 3',
        'x_seconds_sum{asn=""} 0',
        'x_seconds_count{asn=""} 0',
        '',
      ].join('\n'),
    },
    {
      name: 'writes the metadata of a family without series',
      families: [{ ...OPENED, samples: [] }],
      text: '# HELP peerscope_connections_opened_total Connections opened.\n# TYPE peerscope_connections_opened_total counter\n',
      openmetrics:
        '# HELP peerscope_connections_opened Connections opened.\n# TYPE peerscope_connections_opened counter\n',
    },
    {
      name: 'keeps two series apart whose joined label values are equal',
      families: [
        {
          name: 'x',
          help: 'X.',
          type: 'gauge',
          labels: ['a', 'b'],
          samples: [
            { labels: ['1,b:2', '3'], value: 1 },
            { labels: ['1', '2,b:3'], value: 2 },
          ],
        },
      ],
      text: '# HELP x X.\n# TYPE x gauge\nx{a="1,b:2",b="3"} 1\nx{a="1",b="2,b:3"} 2\n',
      openmetrics: '# HELP x X.\n# TYPE x gauge\nx{a="1,b:2",b="3"} 1\nx{a="1",b="2,b:3"} 2\n',
    },
  ];
  it.each(table)('$name', async ({ families, text, openmetrics }) => {
    expect(await renderFamilies(families, 'text')).toBe(text);
    expect(await renderFamilies(families, 'openmetrics')).toBe(openmetrics);
  });

  it('writes the unit in OpenMetrics when the name ends with one', async () => {
    const units = async (name: string, format: Format): Promise<string[]> => {
      const families: Family[] = [
        { name, help: 'X.', type: name.endsWith('_total') ? 'counter' : 'gauge', labels: [], samples: [] },
      ];
      return (await renderFamilies(families, format)).split('\n').filter((line) => line.startsWith('# UNIT'));
    };
    expect(await units('peerscope_snapshot_timestamp_seconds', 'openmetrics')).toEqual([
      '# UNIT peerscope_snapshot_timestamp_seconds seconds',
    ]);
    expect(await units('peerscope_connection_coverage_ratio', 'openmetrics')).toEqual([
      '# UNIT peerscope_connection_coverage_ratio ratio',
    ]);
    expect(await units('process_cpu_seconds_total', 'openmetrics')).toEqual(['# UNIT process_cpu_seconds seconds']);
    expect(await units('peerscope_socket_queue_bytes', 'openmetrics')).toEqual([
      '# UNIT peerscope_socket_queue_bytes bytes',
    ]);
    expect(await units('peerscope_connections', 'openmetrics')).toEqual([]);
    expect(await units('peerscope_socket_queue_bytes', 'text')).toEqual([]);
  });

  it('has an end marker only in OpenMetrics', () => {
    expect([endOf('text'), endOf('openmetrics')]).toEqual(['', '# EOF\n']);
  });

  it('has the exact Content-Type that Prometheus expects', () => {
    expect(CONTENT_TYPES).toEqual({
      text: 'text/plain; version=0.0.4; charset=utf-8',
      openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
    });
  });

  it('writes text that parses back to the same families, for any label values, help and numbers', async () => {
    const name = fc.stringMatching(/^[a-z][a-z_]{0,8}$/);
    const hostile = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('"', '\\', '\n', 'n', ',', 'b:', '}', ' ') }),
    );
    const family: fc.Arbitrary<Family> = fc
      .record({
        name,
        help: hostile.filter((text) => text !== ''),
        type: fc.constantFrom<FamilyType>('gauge', 'counter', 'summary'),
        labels: fc.uniqueArray(name, { maxLength: 3 }),
      })
      .chain((family) =>
        fc
          .array(fc.record({ labels: fc.tuple(...family.labels.map(() => hostile)), value: fc.double() }), {
            maxLength: 4,
          })
          .map((samples) => ({
            ...family,
            name: family.type === 'counter' ? `${family.name}_total` : family.name,
            samples: samples.map((sample, i) => (family.type === 'summary' ? { ...sample, count: i } : sample)),
          })),
      );
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(family, { maxLength: 3, selector: ({ name }) => name.replace(/_total$/, '') }),
        fc.constantFrom('text', 'openmetrics'),
        async (families, format) => {
          const page = (await renderFamilies(families, format)) + endOf(format);
          const expected = families.map(({ name, help, type, labels, samples }) => ({
            name,
            help,
            type,
            series: samples.flatMap((sample) => {
              const labeled = labels.map((label, i) => [label, sample.labels[i]]);
              const value = sample.value + 0; // Zero has no sign on a page.
              if (!('count' in sample)) return [{ name, labels: labeled, value }];
              return [
                { name: `${name}_sum`, labels: labeled, value },
                { name: `${name}_count`, labels: labeled, value: sample.count },
              ];
            }),
          }));
          expect(readPage(page, format)).toEqual(expected);
        },
      ),
    );
  });
});

describe('PartWriter', () => {
  it('writes the same text as renderFamilies on every page, whichever series appear, disappear or share a joined key', async () => {
    const value = fc.constantFrom('', 'a', 'b', 'a\nb', '\n', '"');
    const samples = fc.uniqueArray(fc.record({ labels: fc.tuple(value, value), value: fc.nat(9) }), {
      maxLength: 8,
      selector: ({ labels }) => JSON.stringify(labels),
    });
    const page = fc
      .uniqueArray(fc.record({ name: fc.constantFrom('x', 'y'), samples }), {
        maxLength: 2,
        selector: ({ name }) => name,
      })
      .map((families) =>
        families.map((family): Family => ({ ...family, help: 'X.', type: 'gauge', labels: ['one', 'two'] })),
      );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(page, fc.constantFrom<Format>('text', 'openmetrics')), { maxLength: 5 }),
        async (pages) => {
          const writer = new PartWriter();
          for (const [families, format] of pages) {
            const { parts, failures } = await writer.write(families, format);
            expect(failures).toEqual([]);
            expect(parts.map(({ text }) => text).join('')).toBe(await renderFamilies(families, format));
          }
        },
      ),
    );
  });
});

it('PartWriter leaves out a family that fails and reports the reason', async () => {
  const families: Family[] = [CONNECTIONS, { ...OPENED, help: '' }, { ...CONNECTIONS, samples: [] }];
  const { parts, failures } = await new PartWriter().write(families, 'text');
  expect(parts.map(({ text }) => text)).toEqual([await renderFamilies([CONNECTIONS], 'text')]);
  expect(failures).toEqual([
    {
      collector: 'sockets',
      reason: 'Cannot render "peerscope_connections_opened_total": Missing mandatory help parameter',
    },
    {
      collector: 'sockets',
      reason:
        'Cannot render "peerscope_connections": A metric with the name peerscope_connections has already been registered.',
    },
  ]);
});

describe('withOpenMetricsMetadata', () => {
  it.each<{ name: string; metric: Parameters<typeof withOpenMetricsMetadata>[1]; text: string; expected: string }>([
    {
      name: 'escapes quotes, backslashes and newlines in HELP',
      metric: { name: 'x', help: 'A "b"\\\nc.', type: 'gauge' },
      text: '# HELP x A "b"\\\\\\nc.\n# TYPE x gauge\nx{a="# TYPE x"} 1\n',
      expected: '# HELP x A \\"b\\"\\\\\\nc.\n# TYPE x gauge\nx{a="# TYPE x"} 1\n',
    },
    {
      name: 'adds the unit of the name',
      metric: { name: 'x_seconds', help: 'X.', type: 'counter' },
      text: '# HELP x_seconds X.\n# TYPE x_seconds counter\n',
      expected: '# HELP x_seconds X.\n# TYPE x_seconds counter\n# UNIT x_seconds seconds\n',
    },
  ])('$name', ({ metric, text, expected }) => {
    expect(withOpenMetricsMetadata(text, metric)).toBe(expected);
  });
});

describe('ownMetrics', () => {
  it('writes the metrics of the process in both formats, also at the same time', async () => {
    const formats: Format[] = ['text', 'openmetrics', 'text', 'openmetrics'];
    const pages = await Promise.all(
      formats.map(async (format) => readPage((await ownMetrics(format)) + endOf(format), format)),
    );
    const shown = pages.map((page) => page.map(({ name, type }) => `${name} ${type}`));
    expect(shown[0]).toEqual(
      expect.arrayContaining([
        'process_cpu_seconds_total counter',
        'process_resident_memory_bytes gauge',
        'nodejs_gc_duration_seconds histogram',
      ]),
    );
    for (const page of shown) expect(page).toEqual(shown[0]);
    for (const page of pages) {
      const version = page.find(({ name }) => name === 'nodejs_version_info')?.series[0];
      expect(new Map(version?.labels).get('version')).toBe(process.version);
    }
  });
});

interface ReadFamily {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly series: { readonly name: string; readonly labels: [string, string][]; readonly value: number }[];
}

const HELP: Readonly<Record<Format, RegExp>> = {
  text: /# HELP (\w+) ((?:[^\\\n]|\\[\\n])*)\n/y,
  openmetrics: /# HELP (\w+) ((?:[^"\\\n]|\\["\\n])*)\n/y,
};

/** Parses a page strictly by its format, or throws. Each family has the name of its series. */
function readPage(page: string, format: Format): ReadFamily[] {
  let at = 0;
  const take = (pattern: RegExp): string[] => {
    pattern.lastIndex = at;
    const match = pattern.exec(page);
    if (!match) throw new SyntaxError(`Cannot read page "${page.slice(at, at + 60)}": expected ${pattern.source}`);
    at = pattern.lastIndex;
    return match.slice(1);
  };
  const families: ReadFamily[] = [];
  while (page.slice(at) !== endOf(format)) {
    const [named = '', help = ''] = take(HELP[format]);
    const [type = ''] = take(new RegExp(`# TYPE ${named} (\\w+)\n`, 'y'));
    const [, unit] = format === 'openmetrics' ? (/_(seconds|bytes|ratio)$/.exec(named) ?? []) : [];
    if (unit !== undefined) take(new RegExp(`# UNIT ${named} ${unit}\n`, 'y'));
    const name = type === 'counter' && format === 'openmetrics' ? `${named}_total` : named;
    const suffix = { histogram: '_(?:bucket|sum|count)', summary: '_(?:sum|count)' }[type] ?? '';
    const series: ReadFamily['series'] = [];
    while (at < page.length && page[at] !== '#') {
      const [own = ''] = take(new RegExp(`(${name}${suffix})(?=[{ ])`, 'y'));
      const labels: [string, string][] = [];
      if (page[at] === '{') {
        do {
          const [label = '', value = ''] = take(/[{,]([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?=[,}])/y);
          labels.push([label, unescape(value)]);
        } while (page[at] === ',');
        at++;
      }
      const [number = ''] = take(/ (Nan|[+-]Inf|-?[\d.]+(?:e[+-]\d+)?)\n/y);
      series.push({ name: own, labels, value: Number(number.replace('Inf', 'Infinity')) });
    }
    families.push({ name, help: unescape(help), type, series });
  }
  return families;
}

function unescape(text: string): string {
  return text.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
}
