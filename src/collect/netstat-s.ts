import { parseSnmp, parseSnmp6 } from './snmp.ts';

/** The statistics files of /proc/PID/net; null for one that the kernel does not have. */
export interface StatisticsFiles {
  readonly snmp: string;
  readonly netstat: string;
  readonly snmp6: string | null;
  readonly xfrm: string | null;
}

/** One counter under its kernel name. */
export interface Statistic {
  readonly name: string;
  readonly value: number;
}

/** The statistics of a protocol, with the title of `netstat -s`. */
export interface StatisticsSection {
  readonly title: string;
  readonly counters: readonly Statistic[];
}

/** Fields of these files that are kernel settings, not statistics. */
const SETTINGS = new Set(['DefaultTTL', 'RtoAlgorithm', 'RtoMin', 'RtoMax', 'MaxConn']);
/** The protocols of snmp6, where names begin with the protocol. */
const IPV6 = ['Ip6', 'Icmp6', 'Udp6', 'UdpLite6'] as const;

/** The statistics of a network namespace: IPv4 and TCP, then IPv6, then IPsec. */
export function readStatistics({ snmp, netstat, snmp6, xfrm }: StatisticsFiles): StatisticsSection[] {
  const sections = [...parseSnmp(snmp), ...parseSnmp(netstat)].map(([title, counters]) => ({
    title,
    counters: statisticsOf(counters),
  }));
  const six = statisticsOf(parseSnmp6(snmp6 ?? ''));
  for (const title of IPV6) sections.push({ title, counters: six.filter(({ name }) => name.startsWith(title)) });
  sections.push({ title: 'Xfrm', counters: statisticsOf(parseSnmp6(xfrm ?? '')) });
  return sections.filter(({ counters }) => counters.length > 0);
}

function statisticsOf(counters: ReadonlyMap<string, number>): Statistic[] {
  return [...counters].filter(([name]) => !SETTINGS.has(name)).map(([name, value]) => ({ name, value }));
}

/** Prints sections like `netstat -s` of net-tools, zeros included. A counter without a description is printed as "Name: 7". */
export function renderStatistics(sections: readonly StatisticsSection[]): string {
  return sections.map(({ title, counters }) => `${title}:\n${renderCounters(title, counters)}`).join('');
}

function renderCounters(title: string, counters: readonly Statistic[]): string {
  const lines = (group: Histogram | null, indent: string): string =>
    counters
      .filter(({ name }) => histogramOf(title, name) === group)
      .map((counter) => `${indent}${describe(title, counter)}\n`)
      .join('');
  const below = (group: Histogram): string => {
    const shown = lines(group, '        ');
    return shown === '' ? '' : `    ICMP ${group} histogram:\n${shown}`;
  };
  return lines(null, '    ') + below('input') + below('output');
}

type Histogram = 'input' | 'output';

/** ICMP messages by type are printed apart from the sums. */
function histogramOf(title: string, name: string): Histogram | null {
  if (title !== 'Icmp' && title !== 'Icmp6') return null;
  const [, way] = /^(?:Icmp6)?(In|Out)(?!Msgs|Errors|CsumErrors|RateLimit)/.exec(name) ?? [];
  return way === undefined ? null : way === 'In' ? 'input' : 'output';
}

function describe(title: string, { name, value }: Statistic): string {
  const words = DESCRIPTIONS.get(title)?.get(name.startsWith(title) ? name.slice(title.length) : name);
  if (words === undefined) return `${name}: ${value}`;
  return words.includes('#') ? words.replace('#', String(value)) : `${value} ${words}`;
}

const IP = {
  InReceives: 'total packets received',
  InHdrErrors: 'with invalid headers',
  InAddrErrors: 'with invalid addresses',
  InUnknownProtos: 'with unknown protocol',
  InDiscards: 'incoming packets discarded',
  InDelivers: 'incoming packets delivered',
  OutRequests: 'requests sent out',
  OutDiscards: 'outgoing packets dropped',
  OutNoRoutes: 'dropped because of missing route',
  ReasmTimeout: 'fragments dropped after timeout',
  ReasmReqds: 'reassemblies required',
  ReasmOKs: 'packets reassembled ok',
  ReasmFails: 'packet reassemblies failed',
  FragOKs: 'outgoing packets fragmented ok',
  FragFails: 'outgoing packets failed fragmentation',
  FragCreates: 'fragments created',
};

const UDP = {
  InDatagrams: 'packets received',
  NoPorts: 'packets to unknown port received',
  InErrors: 'packet receive errors',
  OutDatagrams: 'packets sent',
};

/**
 * The descriptions of `netstat -s` by section and kernel name, as net-tools 2.10 prints them; "#" is the place of the number if it is not
 * first.
 */
const DESCRIPTIONS = mapOf({
  Ip: { ...IP, ForwDatagrams: 'forwarded' },
  Ip6: {
    ...IP,
    InTooBigErrors: 'with packets too big',
    InNoRoutes: 'incoming packets with no route',
    InTruncatedPkts: 'with truncated packets',
    OutForwDatagrams: 'forwarded',
    InMcastPkts: 'incoming multicast packets',
    OutMcastPkts: 'outgoing multicast packets',
  },
  Icmp: {
    InMsgs: 'ICMP messages received',
    InErrors: 'input ICMP message failed',
    OutMsgs: 'ICMP messages sent',
    OutErrors: 'ICMP messages failed',
    InDestUnreachs: 'destination unreachable: #',
    InTimeExcds: 'timeout in transit: #',
    InParmProbs: 'wrong parameters: #',
    InSrcQuenchs: 'source quenches: #',
    InRedirects: 'redirects: #',
    InEchos: 'echo requests: #',
    InEchoReps: 'echo replies: #',
    InTimestamps: 'timestamp request: #',
    InTimestampReps: 'timestamp reply: #',
    InAddrMasks: 'address mask request: #',
    InAddrMaskReps: 'address mask replies: #',
    OutDestUnreachs: 'destination unreachable: #',
    OutTimeExcds: 'time exceeded: #',
    OutParmProbs: 'wrong parameters: #',
    OutSrcQuenchs: 'source quench: #',
    OutRedirects: 'redirect: #',
    OutEchos: 'echo requests: #',
    OutEchoReps: 'echo replies: #',
    OutTimestamps: 'timestamp requests: #',
    OutTimestampReps: 'timestamp replies: #',
    OutAddrMasks: 'address mask requests: #',
    OutAddrMaskReps: 'address mask replies: #',
  },
  Icmp6: {
    InMsgs: 'ICMP messages received',
    InErrors: 'input ICMP message failed',
    OutMsgs: 'ICMP messages sent',
    InDestUnreachs: 'destination unreachable: #',
    InPktTooBigs: 'packets too big: #',
    InTimeExcds: 'received ICMPv6 time exceeded: #',
    InParmProblems: 'parameter problem: #',
    InEchos: 'echo requests: #',
    InEchoReplies: 'echo replies: #',
    InGroupMembQueries: 'group member queries: #',
    InGroupMembResponses: 'group member responses: #',
    InGroupMembReductions: 'group member reductions: #',
    InRouterSolicits: 'router solicits: #',
    InRouterAdvertisements: 'router advertisement: #',
    InNeighborSolicits: 'neighbour solicits: #',
    InNeighborAdvertisements: 'neighbour advertisement: #',
    InRedirects: 'redirects: #',
    OutDestUnreachs: 'destination unreachable: #',
    OutPktTooBigs: 'packets too big: #',
    OutTimeExcds: 'sent ICMPv6 time exceeded: #',
    OutParmProblems: 'parameter problem: #',
    OutEchos: 'echo requests: #',
    OutEchoReplies: 'echo replies: #',
    OutGroupMembQueries: 'group member queries: #',
    OutGroupMembResponses: 'group member responses: #',
    OutGroupMembReductions: 'group member reductions: #',
    OutRouterSolicits: 'router solicits: #',
    OutNeighborSolicits: 'neighbor solicits: #',
    OutNeighborAdvertisements: 'neighbor advertisements: #',
    OutRedirects: 'redirects: #',
  },
  Tcp: {
    ActiveOpens: 'active connection openings',
    PassiveOpens: 'passive connection openings',
    AttemptFails: 'failed connection attempts',
    EstabResets: 'connection resets received',
    CurrEstab: 'connections established',
    InSegs: 'segments received',
    OutSegs: 'segments sent out',
    RetransSegs: 'segments retransmitted',
    InErrs: 'bad segments received',
    OutRsts: 'resets sent',
  },
  Udp: { ...UDP, RcvbufErrors: 'receive buffer errors', SndbufErrors: 'send buffer errors' },
  Udp6: UDP,
  TcpExt: {
    SyncookiesSent: 'SYN cookies sent',
    SyncookiesRecv: 'SYN cookies received',
    SyncookiesFailed: 'invalid SYN cookies received',
    EmbryonicRsts: 'resets received for embryonic SYN_RECV sockets',
    PruneCalled: 'packets pruned from receive queue because of socket buffer overrun',
    RcvPruned: 'packets pruned from receive queue',
    OfoPruned: 'packets dropped from out-of-order queue because of socket buffer overrun',
    OutOfWindowIcmps: 'ICMP packets dropped because they were out-of-window',
    LockDroppedIcmps: 'ICMP packets dropped because socket was locked',
    TW: 'TCP sockets finished time wait in fast timer',
    TWRecycled: 'time wait sockets recycled by time stamp',
    PAWSActive: 'active connections rejected because of time stamp',
    PAWSEstab: 'packets rejected in established connections because of timestamp',
    DelayedACKs: 'delayed acks sent',
    DelayedACKLocked: 'delayed acks further delayed because of locked socket',
    DelayedACKLost: 'Quick ack mode was activated # times',
    ListenOverflows: 'times the listen queue of a socket overflowed',
    ListenDrops: 'SYNs to LISTEN sockets dropped',
    TCPHPHits: 'packet headers predicted',
    TCPPureAcks: 'acknowledgments not containing data payload received',
    TCPHPAcks: 'predicted acknowledgments',
    TCPRenoRecovery: 'times recovered from packet loss due to fast retransmit',
    TCPSACKReorder: 'Detected reordering # times using SACK',
    TCPRenoReorder: 'Detected reordering # times using reno fast retransmit',
    TCPTSReorder: 'Detected reordering # times using time stamp',
    TCPFullUndo: 'congestion windows fully recovered without slow start',
    TCPPartialUndo: 'congestion windows partially recovered using Hoe heuristic',
    TCPLossUndo: 'congestion windows recovered without slow start after partial ack',
    TCPRenoFailures: 'timeouts after reno fast retransmit',
    TCPLossFailures: 'timeouts in loss state',
    TCPFastRetrans: 'fast retransmits',
    TCPSlowStartRetrans: 'retransmits in slow start',
    TCPRcvCollapsed: 'packets collapsed in receive queue due to low socket buffer',
    TCPAbortOnData: 'connections reset due to unexpected data',
    TCPAbortOnClose: 'connections reset due to early user close',
    TCPAbortOnMemory: 'connections aborted due to memory pressure',
    TCPAbortOnTimeout: 'connections aborted due to timeout',
    TCPAbortOnLinger: 'connections aborted after user close in linger timeout',
    TCPAbortFailed: 'times unable to send RST due to no memory',
    TCPMemoryPressures: 'TCP ran low on memory # times',
  },
});

/** A map, not an object: kernel names must not meet Object.prototype. */
function mapOf(
  words: Readonly<Record<string, Readonly<Record<string, string>>>>,
): ReadonlyMap<string, ReadonlyMap<string, string>> {
  return new Map(Object.entries(words).map(([title, names]) => [title, new Map(Object.entries(names))]));
}
