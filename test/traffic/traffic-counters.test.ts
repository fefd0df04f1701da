import { expect, it } from 'vitest';
import { NETWORK_CLASSES } from '../../src/common/network-class.ts';
import type { Direction } from '../../src/model.ts';
import { TrafficCounters, type AsnLabels, type EndpointLabels } from '../../src/traffic/traffic-counters.ts';

const CURL = { process: 'curl', namespace: '', workload: '' };
const WEB = { process: 'nginx', namespace: 'shop', workload: 'web' };
const DIRECTIONS: readonly Direction[] = ['inbound', 'outbound', 'loopback'];

const toAsn = (owner: typeof CURL, asn: string): AsnLabels => ({
  ...owner,
  direction: 'outbound',
  network: 'public',
  asn,
});
const toEndpoint = (owner: typeof CURL, endpoint_group: string): EndpointLabels => ({
  ...owner,
  endpoint_group,
  direction: 'outbound',
});
const asnTraffic = (sentBytes: number) => ({
  sentBytes,
  receivedBytes: 2 * sentBytes,
  retransmittedBytes: 1,
  closedConnections: 0,
});

function counters(limit = 1000): TrafficCounters {
  const made = new TrafficCounters(limit);
  made.beginScan(0);
  return made;
}

it('sums by all labels of each family', () => {
  const some = counters();
  some.addAsn(toAsn(CURL, '64500'), asnTraffic(10));
  some.addAsn(toAsn(CURL, '64500'), { ...asnTraffic(0), closedConnections: 1 });
  some.addEndpoint(toEndpoint(WEB, 'shop/ledger:5432'), { sentBytes: 3, receivedBytes: 4 });
  some.addRoundTrip({ direction: 'outbound', network: 'public', asn: '64500' }, 0.25, 1);
  some.addRoundTrip({ direction: 'outbound', network: 'public', asn: '64500' }, 0.5, 1);
  expect(some.traffic).toEqual({
    asn: [
      {
        labels: { ...CURL, direction: 'outbound', network: 'public', asn: '64500' },
        sentBytes: 10,
        receivedBytes: 20,
        retransmittedBytes: 2,
        closedConnections: 1,
      },
    ],
    endpoints: [
      {
        labels: { ...WEB, endpoint_group: 'shop/ledger:5432', direction: 'outbound' },
        sentBytes: 3,
        receivedBytes: 4,
      },
    ],
    roundTrips: [{ labels: { direction: 'outbound', network: 'public', asn: '64500' }, sumSeconds: 0.75, count: 2 }],
    folded: { asn: 0, endpoints: 0, roundTrips: 0 },
  });
});

it.each([50, 51, 1000])('direction and built-in networks never fold with a limit of %i', (limit) => {
  const some = counters(limit);
  for (let i = 0; i < 200; i++)
    for (const direction of DIRECTIONS)
      for (const network of [...NETWORK_CLASSES, 'office', `net-${i}`, 'other']) {
        const labels = { process: `p${i}`, namespace: `n${i}`, workload: `w${i}`, direction, network, asn: String(i) };
        some.addAsn(labels, asnTraffic(1));
        some.addEndpoint({ ...labels, endpoint_group: `AS${i}:443` }, { sentBytes: 1, receivedBytes: 1 });
        some.addRoundTrip(labels, 1, 1);
      }
  const { asn, endpoints, roundTrips, folded } = some.traffic;
  const each = 200 * (NETWORK_CLASSES.length + 3);
  for (const series of [asn, endpoints, roundTrips]) expect(series.length).toBeLessThanOrEqual(limit);
  for (const direction of DIRECTIONS) {
    const sum = (
      series: readonly { labels: Readonly<Record<string, string>> }[],
      value: (i: number) => number,
    ): number => series.reduce((total, { labels }, i) => total + (labels['direction'] === direction ? value(i) : 0), 0);
    expect(sum(asn, (i) => asn[i]?.sentBytes ?? 0)).toBe(each);
    expect(sum(endpoints, (i) => endpoints[i]?.receivedBytes ?? 0)).toBe(each);
    expect(sum(roundTrips, (i) => roundTrips[i]?.count ?? 0)).toBe(each);
  }
  for (const network of NETWORK_CLASSES) {
    const inNetwork = asn.filter(({ labels }) => labels['network'] === network);
    expect(inNetwork.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBe(200 * DIRECTIONS.length);
  }
  expect(folded.asn).toBeGreaterThan(0);
});
