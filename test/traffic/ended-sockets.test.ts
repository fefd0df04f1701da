import { beforeEach, describe, expect, it } from 'vitest';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { DEFAULT_EPHEMERAL_PORTS } from '../../src/collect/direction.ts';
import type { ScannedNamespaces } from '../../src/collect/namespace-tables.ts';
import { CLOSE, LISTEN } from '../../src/collect/net-tcp-udp-raw.ts';
import { DiagRows, EndedSockets } from '../../src/collect/sock-diag.ts';
import { formatAddress } from '../../src/common/address.ts';
import { EndedMatcher } from '../../src/traffic/ended-sockets.ts';
import { append } from '../support/simulated-sockets.ts';

/** Namespace 0 has the events of nsid -1; namespace 1 has 10.0.0.1. */
const NAMESPACES: ScannedNamespaces = {
  facts: { ownOf: () => null, ephemeralPortsOf: () => DEFAULT_EPHEMERAL_PORTS },
  numbers: () => [0, 1],
  namespace: (number) => ({ inode: 100 + number, pids: [1] }),
  isOwn: (number) => (address) => number === 1 && formatAddress(address) === '10.0.0.1',
  wasRead: () => true,
};

let connections: ConnectionTable;
let matcher: EndedMatcher<number>;
let now: number;

beforeEach(() => {
  connections = new ConnectionTable();
  connections.keepTotals();
  matcher = new EndedMatcher(connections, NAMESPACES);
  now = 10_000;
  scan();
});

/** A scan that finds a listener on port 80. Returns what ended: connections by direction, and those outside the table. */
function scan(): { listed: number; rows: number; unlisted: Record<string, number>; withoutTotals: number } {
  const rows = new DiagRows(1);
  append(rows, '192.0.2.1:80', '0.0.0.0:0', LISTEN);
  rows.inode[0] = 1;
  connections.begin(now);
  connections.merge(0, 0, rows);
  connections.end(NAMESPACES.facts, () => false);
  matcher.match(new EndedSockets(1), 100, now);
  const { indexes, unlisted, withoutTotals } = matcher.settle((i) => i);
  connections.closeEnded();
  now += 1_000;
  const listed = indexes.reduce((sum, i) => sum + connections.weightOf(i), 0);
  const numbers = [...unlisted].map(([direction, { connections: count }]) => [direction, count]);
  return {
    listed,
    rows: indexes.length,
    unlisted: Object.fromEntries(numbers) as Record<string, number>,
    withoutTotals,
  };
}

/** Connections that ended, each with other remote ends. */
function end(count: number, { local = '192.0.2.1:40000', nsid = -1, isWiped = false } = {}): void {
  const ended = new EndedSockets(count);
  for (let i = 0; i < count; i++) {
    const remote = `198.51.${i >> 8}.${i & 255}:443`;
    const row = append(ended, local, isWiped ? '0.0.0.0:0' : remote, CLOSE);
    ended.hasTotals[row] = 1;
    ended.sentBytes[row] = 3;
    ended.minRoundTripUs[row] = 1;
    ended.nsid[row] = nsid;
    ended.receivedAt[row] = now - 1;
    ended.cookie[row] = i + 1;
  }
  matcher.take(ended);
}

describe('of more connections than there are places', () => {
  it('those without a place keep their bytes', () => {
    end(20_000);
    matcher.match(new EndedSockets(1), 100, now);
    const { unlisted } = matcher.settle((i) => i);
    connections.closeEnded();
    expect(unlisted.get('outbound')).toMatchObject({ connections: 11_808, sentBytes: 35_424 });
  });

  it('all are counted, those without a place by their directions', () => {
    end(20_000);
    end(10, { local: '192.0.2.1:80' });
    expect(scan()).toEqual({
      listed: 8_192,
      rows: 8_192,
      unlisted: { inbound: 10, outbound: 11_808 },
      withoutTotals: 0,
    });
  });

  it('one namespace leaves places for others', () => {
    end(20_000);
    end(20_000, { local: '10.0.0.1:40000', nsid: 7 });
    expect(scan()).toMatchObject({ listed: 8_192 + 4_096 });
  });

  it('those that are listed apart are grouped', () => {
    matcher.listsEach = true;
    for (let round = 0; round < 3; round++) end(5_000);
    expect(scan()).toEqual({ listed: 15_000, rows: 8_192, unlisted: {}, withoutTotals: 0 });
  });

  it('the places are free again in the next scan', () => {
    end(20_000);
    scan();
    end(5_000);
    expect(scan()).toEqual({ listed: 5_000, rows: 5_000, unlisted: {}, withoutTotals: 0 });
  });
});

it('events of unknown namespaces wait for one scan, and no more than a bounded number', () => {
  end(100_000, { local: '10.9.9.9:40000', nsid: 9 });
  expect(scan()).toMatchObject({ listed: 0, withoutTotals: 100_000 });
  expect(scan()).toMatchObject({ listed: 0, withoutTotals: 0 });
});

it('wiped connections that no scan saw are counted by their direction, no more than a bounded number at a time', () => {
  end(100_000, { isWiped: true });
  end(5, { isWiped: true, local: '192.0.2.1:80' });
  expect(scan()).toMatchObject({ unlisted: {}, withoutTotals: 34_469 });
  scan();
  expect(scan()).toMatchObject({ unlisted: { outbound: 65_536 }, withoutTotals: 65_536 });
});

it('a socket that ended about when the first scan began is of a connection from before', () => {
  const early = new EndedMatcher<number>(connections, NAMESPACES);
  matcher = early;
  end(3);
  expect(scan()).toMatchObject({ listed: 0, withoutTotals: 0 });
  now -= 900;
  end(3);
  expect(scan()).toMatchObject({ listed: 0, withoutTotals: 0 });
  end(3);
  expect(scan()).toMatchObject({ listed: 3 });
});
