import { networkInterfaces } from 'node:os';
import { formatAddress, parseAddress } from '../common/address.ts';
import { cleanLabel } from '../common/sanitize.ts';
import type { Address, Cgroup, OwnerLabels, Process, Row, State, UnattributedReason } from '../model.ts';
import { parseCgroup } from './cgroup.ts';
import type { CommandOutput, Commands } from './ss-netstat.ts';
import type { ConnectionTable } from './connection-table.ts';
import type { IsOwn, PortRange } from './direction.ts';
import type { Host } from './host.ts';
import type { UnreadNamespaces } from './namespaces.ts';
import { NO_UID, SocketRows, stateOf, SYN_RECV, TABLES, TIME_WAIT, TRANSPORTS } from './net-tcp-udp-raw.ts';
import type { NamespaceCounts } from './namespace-tables.ts';

const UNSPECIFIED: Address = [0, 0, 0, 0];
const CODES = new Map<State, number>(Array.from({ length: 12 }, (_, code) => [stateOf(0, code), code]));
/** The fields of a process that no command prints. */
const UNKNOWN_FIELDS = {
  startTime: 0,
  ppid: 0,
  state: '',
  uid: null,
  umask: null,
  threads: 0,
  residentMemoryBytes: null,
  openFds: 0,
  cgroup: parseCgroup(''),
};

/** Where the labels of a process come from; equal labels must be one object. */
interface Labeler {
  labelsOf(process: string, cgroup: Cgroup): OwnerLabels;
}

/** A socket by its row. It has a negative number that takes the place of the inode. */
interface NumberedSocket {
  readonly number: number;
  readonly host: number;
  readonly row: Row;
}

/** The names that every host has for its loopback addresses. */
const LOOPBACK_NAME = /^(?:localhost|ip6-localhost|ip6-loopback|localhost[46]?(?:\.localdomain[46]?)?)$/i;

/**
 * A host whose rows come from its own commands, or from text that they printed on one or more hosts: then each host has the namespace
 * of its number. It covers one network namespace, without containers or counters; of processes only the
 * pid and name are known. The rows go through the same connection table. A truncated address is unspecified there, so that its ASN is
 * never looked up.
 */
export class CommandHost implements Host {
  readonly status: NamespaceCounts = { read: 0, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0 };
  readonly namespaces = null;
  readonly unread: UnreadNamespaces = { hidden: 0, withoutProcess: 0 };
  readonly malformed = new Map<string, number>();
  oldestReadAt = 0;
  readonly protocolsMs = 0;
  readonly protocolsFailure = null;
  readonly holding: readonly Process[] = [];
  readonly unattributed = new Map<UnattributedReason, number>();
  readonly #commands: Commands;
  readonly #connections: ConnectionTable;
  readonly #names: Labeler;
  #sockets = new Map<string, NumberedSocket>();
  #rowByNumber = new Map<number, Row>();
  #rowByNumberBefore = new Map<number, Row>();
  #hasOwners = false;
  #processes = new Map<string, Process>();
  readonly #rows = new SocketRows();
  /** The addresses of each host. */
  readonly #own = new Map<number, Set<string>>();
  #namesByPid: ReadonlyMap<number, string> = new Map();
  #next = -1;

  constructor(commands: Commands, connections: ConnectionTable, names: Labeler) {
    this.#commands = commands;
    this.#connections = connections;
    this.#names = names;
  }

  /** Rules need more of a process than its pid and name. */
  renameAll(): void {
    // Without cgroups there are no workloads.
  }

  adopt(): void {
    return;
  }

  /** Only the labels of containers change, and there are none here. */
  relabel(): void {
    return;
  }

  collect(at: number): void {
    const output = this.#commands.read();
    this.malformed.set(output.command, (this.malformed.get(output.command) ?? 0) + output.malformed.length);
    this.oldestReadAt = at;
    Object.assign(this.status, { read: 1, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0 });
    this.#namesByPid = output.names;
    const sockets = this.#number(output);
    this.#own.clear();
    const interfaces = this.#commands.isThisHost ? interfaceAddresses() : [];
    for (const { host, row } of sockets) {
      const own = this.#own.get(host) ?? new Set(interfaces);
      this.#own.set(host, own);
      if (row.local_address !== null) own.add(row.local_address);
    }
    this.#connections.begin(at);
    this.#merge(sockets);
    this.#connections.end(
      { ownOf: (host) => this.isOwn(host), ephemeralPortsOf: (host) => this.ephemeralPortsOf(host) },
      () => false,
    );
  }

  /** Numbers the socket of each row as in the last output. An ended connection whose ends are open again is a new socket. */
  #number({ rows, hosts }: CommandOutput): readonly NumberedSocket[] {
    const before = this.#sockets;
    this.#sockets = new Map();
    this.#rowByNumberBefore = this.#rowByNumber;
    this.#rowByNumber = new Map();
    const twins = new Map<string, number>();
    return rows.map((row, i) => {
      const host = hosts?.[i] ?? 0;
      const base = `${host} ${socketKey(row)}`;
      const twin = (twins.get(base) ?? 0) + 1;
      twins.set(base, twin);
      const key = `${base} ${twin}`;
      const last = before.get(key);
      const isSame = last && !(hasEnded(last.row) && !hasEnded(row));
      const socket = { number: isSame ? last.number : this.#next--, host, row };
      this.#sockets.set(key, socket);
      this.#rowByNumber.set(socket.number, row);
      return socket;
    });
  }

  #merge(sockets: readonly NumberedSocket[]): void {
    const byTable = Map.groupBy(sockets, ({ host, row }) => host * TABLES.length + tableOf(row));
    for (const [key, members] of [...byTable].sort(([a], [b]) => a - b)) {
      this.#rows.clear();
      for (const socket of members) this.#add(socket);
      this.#connections.merge(Math.floor(key / TABLES.length), key % TABLES.length, this.#rows);
    }
  }

  #add({ number, row }: NumberedSocket): void {
    const rows = this.#rows;
    rows.reserve();
    const i = rows.count++;
    const wildcard = row.family === 4 ? parseAddress('0.0.0.0') : UNSPECIFIED;
    const loopback = parseAddress(row.family === 6 ? '::1' : '127.0.0.1');
    const isOneName = row.local_name !== null && row.local_name === row.remote_name;
    const address = (text: string | null, name: string | null): Address => {
      const isLoopback = name !== null && (isOneName || LOOPBACK_NAME.test(name));
      return parseAddress(text ?? '') ?? (isLoopback ? loopback : wildcard) ?? UNSPECIFIED;
    };
    rows.local.set(address(row.local_address, row.local_name), i * 4);
    rows.remote.set(address(row.remote_address, row.remote_name), i * 4);
    rows.localPort[i] = row.local_port ?? 0;
    rows.remotePort[i] = row.remote_port ?? 0;
    rows.state[i] = CODES.get(row.state === 'unconnected' ? 'closed' : (row.state ?? 'unknown')) ?? 0;
    rows.receiveQueue[i] = row.receive_queue ?? 0;
    rows.sendQueue[i] = row.send_queue ?? 0;
    rows.uid[i] = row.uid ?? NO_UID;
    rows.inode[i] = number;
  }

  attribute(): void {
    this.unattributed.clear();
    this.#hasOwners = [...this.#rowByNumber.values()].some((row) => row.owner_evidence !== null);
    const before = this.#processes;
    this.#processes = new Map();
    for (const i of this.#connections.indexes()) {
      const row = this.commandRow(i);
      if (row) this.#assign(i, row, before);
    }
  }

  #assign(i: number, row: Row, before: ReadonlyMap<string, Process>): void {
    const { process, state } = this.#connections;
    const holders = this.#processesOf(row, before);
    const chosen = holders.find(({ pid }) => pid === row.pid) ?? holders[0] ?? null;
    const former = process[i] ?? null;
    const listener = chosen || former || state[i] !== SYN_RECV ? -1 : this.#connections.listenerOf(i);
    const owner = chosen ?? former ?? process[listener] ?? null;
    const labels = owner?.labels ?? this.#names.labelsOf('', UNKNOWN_FIELDS.cgroup);
    const evidence = chosen ? 'text' : former ? 'history' : owner ? 'listener' : null;
    const reason = labels.process === '' ? this.#unattributedReason(i, row, owner) : null;
    if (reason) this.unattributed.set(reason, (this.unattributed.get(reason) ?? 0) + 1);
    this.#connections.setOwner(i, { process: owner, holders, evidence, labels, reason });
  }

  /** A command prints no process that it may not read, and none for sockets without a descriptor. A process without a name ended meanwhile. */
  #unattributedReason(i: number, row: Row, owner: Process | null): UnattributedReason | null {
    if (!this.#commands.isThisHost) return row.unattributed_reason;
    if (owner) return 'vanished';
    const state = this.#connections.state[i];
    if (state === TIME_WAIT) return 'short_lived';
    return state === SYN_RECV ? 'no_descriptor' : 'permission';
  }

  #processesOf({ pids, pid, process }: Row, before: ReadonlyMap<string, Process>): readonly Process[] {
    if (pids.length === 0) return process === null ? [] : [this.#processOf(0, process, before)];
    const nameOf = (other: number): string => (other === pid ? process : null) ?? this.#namesByPid.get(other) ?? '';
    return pids.map((other) => this.#processOf(other, nameOf(other), before));
  }

  #processOf(pid: number, printedName: string, before: ReadonlyMap<string, Process>): Process {
    const name = cleanLabel(printedName);
    const key = `${pid} ${name}`;
    const process = this.#processes.get(key) ??
      before.get(key) ?? { ...UNKNOWN_FIELDS, pid, name, labels: this.#names.labelsOf(name, UNKNOWN_FIELDS.cgroup) };
    this.#processes.set(key, process);
    return process;
  }

  get malformedNow(): number {
    return this.#commands.malformed;
  }

  get seesOwners(): boolean {
    return this.#hasOwners;
  }

  get namingFailure(): null {
    return null;
  }

  takeHashCost(): null {
    return null;
  }

  userName(): null {
    return null;
  }

  namespace(): null {
    return null;
  }

  ephemeralPortsOf(host: number): PortRange {
    return this.#commands.ephemeralPortsOf(host);
  }

  isOwn(number: number): IsOwn {
    return (address) => this.#own.get(number)?.has(formatAddress(address)) ?? false;
  }

  knowsOwn(): boolean {
    return true;
  }

  isHostOwn(address: Address): boolean {
    return this.isOwn(0)(address);
  }

  isAlive(): boolean {
    return true;
  }

  startOf(): null {
    return null;
  }

  commandRow(index: number): Row | null {
    const number = this.#connections.inode[index] ?? 0;
    return this.#rowByNumber.get(number) ?? this.#rowByNumberBefore.get(number) ?? null;
  }
}

/** What identifies the socket of a row in the output of a command. Several sockets can be equal, such as those with SO_REUSEPORT. */
export function socketKey(row: Row): string {
  const local = `${row.local_address ?? row.local_name} ${row.local_port}`;
  const remote = `${row.remote_address ?? row.remote_name} ${row.remote_port}`;
  const { transport, family, pids } = row;
  return `${transport} ${family} ${local} ${remote} ${row.remote_port === null ? pids.join(' ') : ''}`;
}

/** Whether a row has a peer that its text does not show, such as one that is cut off. Then its direction is unknown. */
export function lacksPeer({ state, remote_address, remote_port, remote_name }: Row): boolean {
  const isConnected = state !== null && !['listen', 'unconnected', 'closed', 'unknown'].includes(state);
  return isConnected && remote_address === null && remote_port === null && remote_name === null;
}

function interfaceAddresses(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((some) => some ?? []);
  return addresses.flatMap(({ address }) => {
    const parsed = parseAddress(address.replace(/%.*$/, ''));
    return parsed ? [formatAddress(parsed)] : [];
  });
}

/** The two transports with ports have the same rules of direction: a row without a transport is like one of TCP. */
function tableOf({ transport, family }: Row): number {
  return TRANSPORTS.indexOf(transport ?? 'tcp') * 2 + (family === 4 ? 0 : 1);
}

function hasEnded({ state }: Row): boolean {
  return state === 'time_wait' || state === 'last_ack' || state === 'closing';
}
