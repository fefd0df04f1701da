import { describe, expect, it } from 'vitest';
import { flags } from '../../src/config/flags.ts';
import { UsageError } from '../../src/common/errors.ts';
import { FAMILIES } from '../../src/metrics/catalogue.ts';
import { checkFamilies, Published, type PublishedOptions } from '../../src/metrics/published.ts';
import type { Family, Sample } from '../../src/model.ts';
import { scanNode } from '../support/simulated-node.ts';

const ALL: PublishedOptions = { families: ['*'], podLabel: true, containerLabel: true };

describe('families that are published', () => {
  it.each<[situation: string, families: string[], published: string[], leftOut: string[]]>([
    [
      'by default',
      flags.families.default.split(','),
      ['peerscope_connections', 'peerscope_processes', 'peerscope_series', 'peerscope_build_info'],
      ['peerscope_process_threads', 'peerscope_process_open_fds', 'peerscope_baseline_start_timestamp_seconds'],
    ],
    ['all', ['*'], ['peerscope_connections', 'peerscope_process_threads', 'peerscope_build_info'], []],
    [
      'with a name',
      ['peerscope_asn_info'],
      ['peerscope_asn_info', 'peerscope_build_info', 'peerscope_series_folded'],
      ['peerscope_connections', 'peerscope_asn_connections'],
    ],
    [
      'with a pattern',
      ['peerscope_asn_*', 'peerscope_sockets'],
      ['peerscope_asn_connections', 'peerscope_asn_cache_entries', 'peerscope_sockets'],
      ['peerscope_sockets_unattributed', 'peerscope_endpoint_connections'],
    ],
    [
      'with a name to leave out',
      ['!peerscope_process*', '!peerscope_series*'],
      ['peerscope_connections', 'peerscope_build_info'],
      ['peerscope_processes', 'peerscope_process_threads', 'peerscope_series_limit'],
    ],
    [
      'with a name to leave out of a pattern, in any order',
      ['!peerscope_asn_first_seen_*', 'peerscope_asn_*'],
      ['peerscope_asn_connections'],
      ['peerscope_asn_first_seen_timestamp_seconds', 'peerscope_connections'],
    ],
    ['with none', [], ['peerscope_build_info'], ['peerscope_connections', 'peerscope_asn_info']],
  ])('%s', (_situation, families, names, others) => {
    const published = new Published({ ...ALL, families });
    expect([...names, ...others].filter((name) => published.has(name))).toEqual(names);
  });

  it.each([
    'asn_connections',
    'peerscope_asn_connection',
    '!peerscope_',
    'node_*',
    `${'*'.repeat(200)}z`,
    'peerscope_asn_round_trip_seconds_sum',
  ])('cannot be called %s', (name) => {
    const reason = `Cannot use --metrics.families "${name}": must be a metric family of docs/metrics.md, such as peerscope_asn_connections`;
    expect(() => checkFamilies(['peerscope_connections', name])).toThrow(new UsageError(reason));
    expect(() => checkFamilies(['*', '!peerscope_processes'])).not.toThrow();
  });

  it('are all that the families of the series limit are about', () => {
    const options = { ...ALL, families: ['peerscope_asn_*'] };
    const all = scanNode({ pods: 4, seriesLimit: 1000 }, options);
    // The status page shows the others.
    expect(all.map(({ name }) => name)).toContain('peerscope_connections');
    const families = new Published(options).of(all);
    const limited = families.find(({ name }) => name === 'peerscope_series_limit')?.samples ?? [];
    const names = limited.flatMap(({ labels }) => labels);
    expect(names).toContain('peerscope_asn_connections');
    expect(names).toContain('peerscope_asn_info');
    expect(names.filter((name) => !name.startsWith('peerscope_asn_'))).toEqual([]);
    expect(families.map(({ name }) => name)).not.toContain('peerscope_connections');
  });
});

describe('samples of 0', () => {
  const sizesOf = (families: readonly Family[]): (readonly [name: string, series: number, exported: number])[] => {
    const exported = families.find(({ name }) => name === 'peerscope_series')?.samples ?? [];
    const sizes = new Map(exported.map(({ labels: [name = ''], value }) => [name, value]));
    return families
      .filter(({ name }) => sizes.has(name))
      .map(({ name, samples }) => [name, samples.length, sizes.get(name) ?? 0]);
  };

  it('of queues are not published, and not counted as exported', () => {
    const all = scanNode({ pods: 4, seriesLimit: 1000 }, ALL);
    const sample = (value: number): Sample => ({ labels: ['api', 'shop', 'api', '0.0.0.0', '80'], value });
    const given = all.map((family) =>
      family.name === 'peerscope_listener_accept_queue' ? { ...family, samples: [sample(0), sample(3)] } : family,
    );
    const sizes = sizesOf(new Published(ALL).of(given));
    expect(sizes.filter(([name]) => name.includes('queue'))).toEqual([
      ['peerscope_listener_accept_queue', 1, 1],
      ['peerscope_socket_queue_bytes', 0, 0],
    ]);
    expect(sizes.filter(([, series, exported]) => series !== exported)).toEqual([]);
  });

  it('of counters are published, so that their first increase is seen', () => {
    const published = new Published(ALL).of(scanNode({ pods: 4, seriesLimit: 1000 }, ALL));
    const zeros = published.filter(
      ({ type, samples }) => type === 'counter' && samples.some(({ value }) => value === 0),
    );
    expect(zeros.map(({ name }) => name)).toContain('peerscope_tcp_listen_overflows_total');
  });
});

describe('labels that are left out', () => {
  const sumOf = (
    options: PublishedOptions,
    seriesLimit: number,
  ): { labels: readonly string[]; sum: number; series: number } => {
    const [family] = scanNode({ pods: 24, seriesLimit }, options);
    const samples = family?.samples ?? [];
    expect(family?.name).toBe('peerscope_connections');
    expect(new Set(samples.map(({ labels }) => JSON.stringify(labels))).size).toBe(samples.length);
    return {
      labels: family?.labels ?? [],
      sum: samples.reduce((sum, { value }) => sum + value, 0),
      series: samples.length,
    };
  };

  it.each<[left: string[], options: PublishedOptions]>([
    [['pod'], { ...ALL, podLabel: false }],
    [['container'], { ...ALL, containerLabel: false }],
    [['pod', 'container'], { ...ALL, podLabel: false, containerLabel: false }],
  ])('%s', (left, options) => {
    for (const limit of [1000, 60]) {
      const [whole, fewer] = [sumOf(ALL, limit), sumOf(options, limit)];
      expect(fewer.labels).toEqual(whole.labels.filter((label) => !left.includes(label)));
      expect(fewer.sum).toBe(whole.sum);
      expect(fewer.series).toBeLessThanOrEqual(limit);
      if (limit === 1000 && left.includes('pod')) expect(fewer.series).toBeLessThan(whole.series);
    }
    for (const spec of FAMILIES)
      expect(new Published(options).labeled(spec).labels).toEqual(spec.labels.filter((label) => !left.includes(label)));
  });
});
