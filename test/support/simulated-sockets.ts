import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CLOSE,
  CLOSE_WAIT,
  ESTABLISHED,
  LISTEN,
  NO_UID,
  SYN_RECV,
  TIME_WAIT,
} from '../../src/collect/net-tcp-udp-raw.ts';
import type { SocketDump, SocketSource } from '../../src/collect/netlink.ts';
import { DiagRows, EndedSockets, FIN_ABSENT, FIN_COUNTED, FIN_UNLESS_TIME_WAIT } from '../../src/collect/sock-diag.ts';
import { parseAddress } from '../../src/common/address.ts';
import { printRow } from './kernel-rows.ts';

/** How long the kernel keeps a TIME_WAIT row. */
const TIME_WAIT_MS = 60_000;

/** How a TCP connection ends. The peer's FIN is the last byte of `bytes_received`, unless the TIME_WAIT row gets it. */
export type Ending =
  | 'active close'
  | 'passive close'
  | 'passive close, FIN not read'
  | 'reset'
  | 'unread data'
  | 'SO_LINGER 0'
  | 'refused'
  | 'refused, remote end wiped';

/** A socket, or the TIME_WAIT row of one. */
export interface SimulatedSocket {
  readonly namespace: SimulatedNamespace;
  readonly pid: number;
  readonly local: string;
  readonly remote: string;
  readonly inode: number;
  readonly fd: number;
  cookie: number;
  state: number;
  sent: number;
  received: number;
  retransmitted: number;
  readonly rttUs: number;
  readonly isInbound: boolean;
  /** When its TIME_WAIT row goes. */
  expiresAt: number;
  /** Whether a scan had a row of it; shared with its TIME_WAIT row. */
  readonly history: { wasSeen: boolean };
}

/** A network namespace. */
export interface SimulatedNamespace {
  readonly inode: number;
  /** Its first process. */
  readonly pid: number;
  readonly cgroup: string;
  readonly address: string;
  /** Its number in the namespace of the reader of events; -1 for that one, null for none. */
  readonly nsid: number | null;
  readonly sockets: Set<SimulatedSocket>;
  activeOpens: number;
  passiveOpens: number;
  changes: number;
  written: number;
}

/** An event on its way to the reader. */
interface Event {
  readonly at: number;
  readonly socket: SimulatedSocket;
  readonly ending: Ending;
  readonly nsid: number;
}

/** The network namespaces of a host: their /proc tree, the dumps of the first one, and the events of sockets that end. */
export class SimulatedHost {
  readonly root = mkdtempSync(join(tmpdir(), 'peerscope-host-'));
  readonly source: SocketSource;
  readonly namespaces: SimulatedNamespace[] = [];
  /** Milliseconds since 1970, and of the monotonic clock. */
  now = 1_000_000;
  overruns = 0;
  #events = 0;
  #inode = 1_000;
  #cookie = 1;
  #late: Event[] = [];
  #ended = new EndedSockets(1);
  #taken = new EndedSockets(1);

  constructor() {
    const events = (): number => this.#events;
    const overruns = (): number => this.overruns;
    const own = (): number | null => this.namespaces[0]?.inode ?? null;
    this.source = {
      scope: 'all',
      isUp: true,
      failure: null,
      get netns() {
        return own();
      },
      get events() {
        return events();
      },
      get overruns() {
        return overruns();
      },
      dump: () => Promise.resolve(this.dump()),
      takeEnded: () => this.#takeEnded(),
      nsidsOf: () => Promise.resolve(new Map()),
      close: () => undefined,
    };
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }

  /** Adds a namespace with a process; the first one is that of the reader. */
  add(
    address: string,
    nsid: number | null,
    name = `app-${this.namespaces.length}`,
    cgroup = `/system.slice/${name}.service`,
  ): SimulatedNamespace {
    const number = this.#inode++;
    const namespace: SimulatedNamespace = {
      inode: 4_026_530_000 + number,
      pid: number,
      cgroup,
      address,
      nsid: this.namespaces.length === 0 ? -1 : nsid,
      sockets: new Set(),
      activeOpens: 0,
      passiveOpens: 0,
      changes: 1,
      written: 0,
    };
    this.namespaces.push(namespace);
    this.#start(namespace.pid, namespace.inode, name, cgroup);
    const net = join(this.root, String(namespace.pid), 'net');
    mkdirSync(net);
    writeFileSync(
      join(net, 'fib_trie'),
      `Local:\n        |-- ${address}\n           /32 host LOCAL\n        |-- 127.0.0.0\n           /8 host LOCAL\n`,
    );
    return namespace;
  }

  /** Starts another process in a namespace. Returns its pid. */
  start(namespace: SimulatedNamespace, name: string): number {
    const pid = this.#inode++;
    this.#start(pid, namespace.inode, name, namespace.cgroup);
    symlinkSync(`../${namespace.pid}/net`, join(this.root, String(pid), 'net'));
    return pid;
  }

  #start(pid: number, netns: number, name: string, cgroup: string): void {
    const folder = join(this.root, String(pid));
    mkdirSync(join(folder, 'ns'), { recursive: true });
    mkdirSync(join(folder, 'fd'));
    symlinkSync(`net:[${netns}]`, join(folder, 'ns/net'));
    const zeros = '0 '.repeat(12);
    writeFileSync(join(folder, 'stat'), `${pid} (${name}) S 1 1 1 0 -1 ${zeros}1 0 ${pid} 0 0 ${zeros}${zeros}0 0 0\n`);
    writeFileSync(join(folder, 'status'), `Name:\t${name}\nUmask:\t0022\nUid:\t0\t0\t0\t0\nVmRSS:\t 1 kB\n`);
    writeFileSync(join(folder, 'cgroup'), `0::${cgroup}\n`);
  }

  /** Ends a namespace with its process: all of its sockets end first. */
  remove(namespace: SimulatedNamespace): void {
    for (const socket of namespace.sockets)
      if (socket.state === ESTABLISHED || socket.state === CLOSE_WAIT) this.end(socket, 'reset');
    this.namespaces.splice(this.namespaces.indexOf(namespace), 1);
    rmSync(join(this.root, String(namespace.pid)), { recursive: true });
  }

  listen(namespace: SimulatedNamespace, port: number, pid = namespace.pid): SimulatedSocket {
    return this.#add(namespace, pid, `0.0.0.0:${port}`, '0.0.0.0:0', LISTEN, false);
  }

  /** Opens a connection; the port of a client is reused out of TIME_WAIT. */
  open(
    namespace: SimulatedNamespace,
    localPort: number,
    remote: string,
    { state = ESTABLISHED, isInbound = false, local = namespace.address, pid = namespace.pid } = {},
  ): SimulatedSocket | null {
    const ends = `${local}:${localPort}`;
    for (const other of namespace.sockets) {
      if (other.local !== ends || other.remote !== remote) continue;
      if (other.state !== TIME_WAIT) return null;
      namespace.sockets.delete(other);
    }
    if (isInbound) namespace.passiveOpens++;
    else namespace.activeOpens++;
    return this.#add(namespace, pid, ends, remote, state, isInbound);
  }

  #add(
    namespace: SimulatedNamespace,
    pid: number,
    local: string,
    remote: string,
    state: number,
    isInbound: boolean,
  ): SimulatedSocket {
    const inode = this.#inode++;
    const socket: SimulatedSocket = {
      ...{ namespace, pid, local, remote, inode, state, isInbound, fd: inode, cookie: 0 },
      ...{
        sent: 0,
        received: 0,
        retransmitted: 0,
        rttUs: 1 + (inode % 500),
        expiresAt: Infinity,
        history: { wasSeen: false },
      },
    };
    namespace.sockets.add(socket);
    namespace.changes++;
    if (state !== SYN_RECV) this.#give(socket);
    return socket;
  }

  #give({ pid, inode, fd }: SimulatedSocket): void {
    symlinkSync(`socket:[${inode}]`, join(this.root, String(pid), 'fd', String(fd)));
  }

  /** Establishes a connection in SYN_RECV, and accepts it. */
  establish(socket: SimulatedSocket): void {
    socket.state = ESTABLISHED;
    socket.namespace.changes++;
    this.#give(socket);
  }

  transfer(socket: SimulatedSocket, sent: number, received: number, retransmitted: number): void {
    socket.sent += sent;
    if (socket.state === ESTABLISHED) socket.received += received;
    socket.retransmitted += retransmitted;
    socket.namespace.changes++;
  }

  /** The FIN of the peer arrives. */
  halfClose(socket: SimulatedSocket): void {
    if (socket.state === ESTABLISHED) socket.state = CLOSE_WAIT;
    socket.namespace.changes++;
  }

  /** A SYN_RECV row goes without an event. */
  expire(socket: SimulatedSocket): void {
    socket.namespace.sockets.delete(socket);
    socket.namespace.changes++;
  }

  /** Ends a socket. Its event arrives after `delay` milliseconds, unless it is lost. */
  end(socket: SimulatedSocket, ending: Ending, delay = 0, isLost = false): void {
    const { namespace } = socket;
    namespace.sockets.delete(socket);
    namespace.changes++;
    rmSync(join(this.root, String(socket.pid), 'fd', String(socket.fd)), { force: true });
    // The TIME_WAIT row takes over the cookie that the socket has by then.
    if (ending === 'active close')
      namespace.sockets.add({
        ...socket,
        ...{ inode: 0, state: TIME_WAIT, expiresAt: this.now + TIME_WAIT_MS, sent: 0, received: 0, retransmitted: 0 },
      });
    socket.cookie ||= this.#cookie++;
    if (namespace.nsid === null) return;
    if (isLost) this.overruns++;
    else this.#late.push({ at: this.now + delay, socket, ending, nsid: namespace.nsid });
  }

  /** Lets time pass: events arrive, and TIME_WAIT rows go. */
  pass(ms: number): void {
    this.now += ms;
    const arrived = this.#late.filter(({ at }) => at <= this.now).sort((a, b) => a.at - b.at);
    this.#late = this.#late.filter(({ at }) => at > this.now);
    for (const event of arrived) this.#arrive(event);
    for (const namespace of this.namespaces)
      for (const socket of namespace.sockets) {
        if (socket.expiresAt > this.now) continue;
        namespace.sockets.delete(socket);
        namespace.changes++;
      }
  }

  /** A dump of the first namespace, without the TIME_WAIT row of a FIN_WAIT2 socket that the text calls FIN_WAIT2. */
  dump(): SocketDump {
    const own = this.namespaces[0];
    if (!own) throw new Error('Cannot dump: there is no namespace');
    const tcp = new DiagRows(1);
    for (const socket of own.sockets) {
      socket.cookie ||= this.#cookie++;
      const isFull = socket.state !== TIME_WAIT && socket.state !== SYN_RECV;
      const row = append(tcp, socket.local, socket.remote, socket.state);
      tcp.inode[row] = socket.state === SYN_RECV ? 0 : socket.inode;
      tcp.uid[row] = isFull ? 0 : NO_UID;
      tcp.cookie[row] = socket.cookie;
      if (isFull && socket.state !== LISTEN) setTotals(tcp, row, socket);
      socket.history.wasSeen = true;
    }
    tcp.isComplete = true;
    return { netns: own.inode, tcp, tcp6: new DiagRows(1) };
  }

  /** Writes the /proc tree of this moment. With a dump, the first namespace keeps its text. */
  write(): void {
    for (const namespace of this.namespaces) {
      if (namespace.written === namespace.changes) continue;
      namespace.written = namespace.changes;
      const folder = join(this.root, String(namespace.pid), 'net');
      const rows = [...namespace.sockets].map(({ local, remote, state, inode }) =>
        state === LISTEN
          ? printRow({ table: 'tcp', state, local, inode })
          : printRow({ table: 'tcp', state, local, remote, inode: state === SYN_RECV ? 0 : inode }),
      );
      writeFileSync(join(folder, 'tcp'), `  sl  local_address\n${rows.join('')}`);
      const full = [...namespace.sockets].filter(({ state }) => state !== TIME_WAIT && state !== SYN_RECV).length;
      const timeWait = [...namespace.sockets].filter(({ state }) => state === TIME_WAIT).length;
      writeFileSync(
        join(folder, 'sockstat'),
        `sockets: used ${full}\nTCP: inuse ${full} orphan 0 tw ${timeWait} alloc ${full} mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\n`,
      );
      const { activeOpens, passiveOpens, changes } = namespace;
      writeFileSync(
        join(folder, 'snmp'),
        `Tcp: ActiveOpens PassiveOpens InSegs\nTcp: ${activeOpens} ${passiveOpens} ${changes}\n`,
      );
    }
  }

  /** Marks the sockets that a scan reads as text. */
  markSeen(isDumped: boolean): void {
    for (const [number, { sockets }] of this.namespaces.entries())
      if (number > 0 || !isDumped) for (const socket of sockets) socket.history.wasSeen = true;
  }

  #arrive({ at, socket, ending, nsid }: Event): void {
    this.#events++;
    const rows = this.#ended;
    const isWiped = ending === 'SO_LINGER 0' || ending === 'refused, remote end wiped';
    const wasOpen = ending !== 'refused' && ending !== 'refused, remote end wiped';
    // The kernel discards the address of a client that did not bind one.
    const local = isWiped && !socket.isInbound ? `0.0.0.0:${socket.local.split(':')[1]}` : socket.local;
    const row = append(rows, local, isWiped ? '0.0.0.0:0' : socket.remote, CLOSE);
    rows.inode[row] = 0;
    rows.uid[row] = NO_UID;
    rows.cookie[row] = socket.cookie;
    rows.table[row] = 0;
    rows.nsid[row] = nsid;
    rows.receivedAt[row] = at;
    rows.fin[row] = FIN_ABSENT;
    setTotals(rows, row, isWiped ? { ...socket, sent: 0, received: 0, retransmitted: 0 } : socket);
    if (!wasOpen) rows.minRoundTripUs[row] = 0;
    if (isWiped) return;
    const hasFin = socket.state === CLOSE_WAIT || ending.startsWith('passive close');
    const counted = socket.received + (hasFin ? 1 : 0);
    if (ending === 'passive close, FIN not read' && counted > 0) rows.fin[row] = FIN_COUNTED;
    else if (ending.endsWith('close') && counted > 0) rows.fin[row] = FIN_UNLESS_TIME_WAIT;
    rows.receivedBytes[row] = counted - (rows.fin[row] === FIN_ABSENT ? 0 : 1);
  }

  #takeEnded(): EndedSockets {
    const full = this.#ended;
    this.#ended = this.#taken;
    this.#ended.clear();
    this.#taken = full;
    return full;
  }
}

/** Appends a row with these ends and this state. */
export function append(rows: DiagRows, local: string, remote: string, state: number): number {
  rows.reserve();
  const row = rows.count++;
  for (const [text, words, ports] of [
    [local, rows.local, rows.localPort],
    [remote, rows.remote, rows.remotePort],
  ] as const) {
    const colon = text.lastIndexOf(':');
    words.set(parseAddress(text.slice(0, colon).replace(/^\[|\]$/g, '')) ?? [], row * 4);
    ports[row] = Number(text.slice(colon + 1));
  }
  rows.state[row] = state;
  rows.sendQueue[row] = 0;
  rows.receiveQueue[row] = 0;
  rows.cookie[row] = 0;
  rows.hasTotals[row] = 0;
  rows.sentBytes[row] = 0;
  rows.receivedBytes[row] = 0;
  rows.retransmittedBytes[row] = 0;
  rows.roundTripUs[row] = 0;
  rows.minRoundTripUs[row] = 0;
  return row;
}

function setTotals(
  rows: DiagRows,
  row: number,
  { sent, received, retransmitted, rttUs }: Pick<SimulatedSocket, 'sent' | 'received' | 'retransmitted' | 'rttUs'>,
): void {
  rows.hasTotals[row] = 1;
  rows.sentBytes[row] = sent;
  rows.receivedBytes[row] = received;
  rows.retransmittedBytes[row] = retransmitted;
  rows.roundTripUs[row] = rttUs;
  rows.minRoundTripUs[row] = rttUs;
}
