import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readStatistics, renderStatistics, type StatisticsFiles } from '../../src/collect/netstat-s.ts';

const FIXTURES = new URL('../fixtures/', import.meta.url).pathname;
const recorded = (name: string): string => readFileSync(FIXTURES + name, 'latin1');
const NOTHING: StatisticsFiles = { snmp: '', netstat: '', snmp6: null, xfrm: null };
const EVERYTHING: StatisticsFiles = {
  snmp: recorded('netstat-s/snmp'),
  netstat: recorded('netstat-s/netstat'),
  snmp6: recorded('netstat-s/snmp6'),
  xfrm: recorded('netstat-s/xfrm_stat'),
};

/** The lines below each title, in any order: netstat opens a histogram where its first message comes. */
function lines(text: string): Map<string, Set<string>> {
  const sections = new Map<string, Set<string>>();
  let section = new Set<string>();
  for (const line of text.split('\n')) {
    if (/^\w+:$/.test(line)) sections.set(line, (section = new Set<string>()));
    else if (line.trim() !== '') section.add(line.trim());
  }
  return sections;
}

describe('the statistics of a namespace', () => {
  it.each([
    [
      'IPv4',
      'netstat-s/netstat-s.out',
      ['Ip', 'Icmp', 'IcmpMsg', 'Tcp', 'Udp', 'UdpLite', 'TcpExt', 'IpExt', 'MPTcpExt'],
    ],
    ['IPv6', 'netstat-s/netstat-s-6.out', ['Ip6', 'Icmp6', 'Udp6', 'UdpLite6']],
  ])('of %s read as netstat -s writes them, every name in its words', (_family, file, titles) => {
    const shown = lines(renderStatistics(readStatistics(EVERYTHING)));
    const expected = lines(recorded(file));
    for (const title of titles.map((name) => `${name}:`))
      expect([title, shown.get(title)]).toEqual([title, expected.get(title)]);
  });

  it('are in this order, with those of IPsec last', () => {
    const titles = readStatistics(EVERYTHING).map(({ title }) => title);
    expect(titles.join(' ')).toBe('Ip Icmp IcmpMsg Tcp Udp UdpLite TcpExt IpExt MPTcpExt Ip6 Icmp6 Udp6 UdpLite6 Xfrm');
  });

  it('hold every counter of the files except the settings', () => {
    const values = readStatistics(EVERYTHING).flatMap(({ counters }) => counters.map(({ value }) => value));
    const all =
      Object.values(EVERYTHING as unknown as Record<string, string>)
        .join('\n')
        .match(/\b\d{4}\b/g) ?? [];
    const settings = [1002, 1051, 1052, 1053, 1054];
    expect(new Set([...values, ...settings])).toEqual(new Set(all.map(Number)));
  });

  it('leave out what the kernel does not have', () => {
    expect(readStatistics(NOTHING)).toEqual([]);
    expect(renderStatistics(readStatistics({ ...NOTHING, snmp: 'Tcp: ActiveOpens Xyz\nTcp: 7 9\n' }))).toBe(
      'Tcp:\n    7 active connection openings\n    Xyz: 9\n',
    );
  });

  it('show messages by type below the sums, received ones first', () => {
    const snmp6 = 'Icmp6OutMLDv2Reports 3\nIcmp6OutMsgs 5\nIcmp6InEchos 2\nIcmp6InMsgs 4\n';
    expect(renderStatistics(readStatistics({ ...NOTHING, snmp6 }))).toBe(`Icmp6:
    5 ICMP messages sent
    4 ICMP messages received
    ICMP input histogram:
        echo requests: 2
    ICMP output histogram:
        Icmp6OutMLDv2Reports: 3
`);
  });
});
