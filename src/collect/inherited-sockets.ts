import { constants, fstatSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { endianness } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import type { Clock } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import { EndedQueue } from './ended-queue.ts';
import { DiagRows, parseDump, type EndedSockets } from './sock-diag.ts';
import type { SocketDump, SocketSource } from './socket-source.ts';

/** Netlink sockets that this program was started with. */
export interface InheritedDescriptors {
  /** For requests. */
  readonly dump: number;
  /** A member of the destroy groups of TCP. */
  readonly ended: number;
}

const FIRST_DESCRIPTOR = 3;
const NETLINK_SOCK_DIAG = 4;
/** The groups SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY. */
const DESTROY_GROUPS = 0b101;
const DRAIN_MS = 20;
/** The most datagrams of one drain, so that a flood does not stop everything else. */
const MOST_DATAGRAMS = 5_000;
const DATAGRAM = 64 << 10;
/** `ss -t` asks for the same, without the extension. */
const INET_DIAG_REQUEST = 72;

/**
 * The descriptors named "dump" and "ended" that systemd handed over to this process (sd_listen_fds(3)): null if there are none.
 * With -1 one of them is missing.
 */
export function findInherited(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): InheritedDescriptors | null {
  const names = namesOfDescriptors(environment, pid);
  const [dump = -1, ended = -1] = ['dump', 'ended'].map((name) => {
    const at = names.indexOf(name);
    return at < 0 ? at : FIRST_DESCRIPTOR + at;
  });
  return dump < 0 && ended < 0 ? null : { dump, ended };
}

/** The other descriptors that systemd handed over to this process: the sockets on which it is to serve. */
export function findListeners(environment: Readonly<Record<string, string | undefined>>, pid: number): number[] {
  return namesOfDescriptors(environment, pid).flatMap((name, i) =>
    name === 'dump' || name === 'ended' ? [] : [FIRST_DESCRIPTOR + i],
  );
}

/** The name of each descriptor that systemd handed over to this process; "" for one without a name. */
function namesOfDescriptors(environment: Readonly<Record<string, string | undefined>>, pid: number): string[] {
  const { LISTEN_PID, LISTEN_FDS = '', LISTEN_FDNAMES = '' } = environment;
  const count = LISTEN_PID === String(pid) && /^\d{1,4}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : 0;
  const names = LISTEN_FDNAMES.split(':');
  return Array.from({ length: count }, (_, i) => names[i] ?? '');
}

/** Sockets of this program's own namespace, through descriptors that it was started with. */
export class InheritedSockets implements SocketSource {
  readonly scope = 'own';
  failure: string | null;
  readonly netns: number | null = null;
  readonly #dumpFd: number;
  readonly #endedFd: number;
  readonly #clock: Clock;
  readonly #littleEndian = endianness() === 'LE';
  readonly #ended = new EndedQueue();
  readonly #tcp = new DiagRows();
  readonly #tcp6 = new DiagRows();
  readonly #buffer = new Uint8Array(DATAGRAM);
  /** Null if the descriptors cannot be used. */
  #timer: NodeJS.Timeout | null = null;
  #droppedBefore = 0;
  #isOverrun = false;
  #overruns = 0;
  #sequence = 0;

  constructor({ dump, ended }: InheritedDescriptors, clock: Clock) {
    this.#dumpFd = dump;
    this.#endedFd = ended;
    this.#clock = clock;
    this.failure = whyNotNetlink(dump, 'dump', 0) ?? whyNotNetlink(ended, 'ended', DESTROY_GROUPS);
    if (this.failure !== null) return;
    this.netns = statSync('/proc/self/ns/net').ino;
    this.#discard(ended);
    this.#droppedBefore = droppedBy(ended);
    this.#timer = setInterval(() => this.#drain(), DRAIN_MS).unref();
  }

  get isUp(): boolean {
    return this.failure === null;
  }

  get events(): number {
    return this.#ended.events;
  }

  get overruns(): number {
    return this.#overruns + this.#ended.overruns;
  }

  dump(withinMs: number): Promise<SocketDump | null> {
    if (this.netns === null || this.#timer === null) return Promise.resolve(null);
    const deadline = this.#clock.monotonic() + withinMs;
    this.#drain();
    const isComplete = this.#dump(4, this.#tcp, deadline) && this.#dump(6, this.#tcp6, deadline);
    // A socket that ended during the dump is in the next batch, not missing in both.
    this.#drain();
    return Promise.resolve(isComplete ? { netns: this.netns, tcp: this.#tcp, tcp6: this.#tcp6 } : null);
  }

  takeEnded(): EndedSockets {
    this.#drain();
    return this.#ended.take();
  }

  nsidsOf(): Promise<ReadonlyMap<number, number>> {
    return Promise.resolve(new Map());
  }

  close(): void {
    this.#stop('The netlink descriptors are not used any more');
  }

  #dump(family: 4 | 6, rows: DiagRows, deadline: number): boolean {
    try {
      for (let attempt = 1; attempt <= 2; attempt++) {
        this.#request(family);
        rows.clear();
        while (!rows.isComplete) {
          if (this.#clock.monotonic() > deadline) return this.#failed('the dump did not end in time');
          const length = readSync(this.#dumpFd, this.#buffer);
          if (this.#sequenceOf(length) === this.#sequence)
            parseDump(this.#buffer.subarray(0, length), family, this.#littleEndian, rows);
        }
        if (rows.errno !== 0) return this.#failed(getSystemErrorMessage(-rows.errno));
        // The kernel may say that sockets changed under a dump: then another one is asked for, once.
        if (!rows.isInterrupted) break;
      }
      this.failure = null;
      return true;
    } catch (error) {
      return this.#failed(reasonOf(error));
    }
  }

  /** Reads all that waits: the rest of an earlier dump, or events from before the start, whose time is unknown. */
  #discard(fd: number): void {
    let left: number | string = 0;
    while (left !== 'EAGAIN') left = read(fd, this.#buffer);
  }

  /** Asks for a dump. The kernel has its first part ready when the write returns. */
  #request(family: 4 | 6): void {
    this.#discard(this.#dumpFd);
    writeSync(this.#dumpFd, encodeDump(family, ++this.#sequence, this.#littleEndian));
  }

  #sequenceOf(length: number): number {
    return length < 16 ? -1 : new DataView(this.#buffer.buffer).getUint32(8, this.#littleEndian);
  }

  #failed(reason: string): false {
    this.failure = `Cannot dump sockets through descriptor ${this.#dumpFd}: ${reason}`;
    return false;
  }

  #drain(): void {
    if (this.#timer === null) return;
    const now = this.#clock.monotonic();
    for (let i = 0; i < MOST_DATAGRAMS; i++) {
      let length: ReturnType<typeof read>;
      try {
        length = read(this.#endedFd, this.#buffer);
      } catch (error) {
        this.#stop(`Cannot read descriptor ${this.#endedFd} "ended": ${reasonOf(error)}`);
        return;
      }
      if (length === 'EAGAIN') {
        if (this.#isOverrun)
          this.#overruns = Math.max(this.#overruns + 1, droppedBy(this.#endedFd) - this.#droppedBefore);
        this.#isOverrun = false;
        return;
      }
      // Until the queue is empty, the kernel says so only once, whatever else it discards.
      if (length === 'ENOBUFS') this.#isOverrun = true;
      else this.#ended.append(this.#buffer.subarray(0, length), this.#littleEndian, -1, now);
    }
  }

  #stop(reason: string): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.failure = reason;
  }
}

/** Reads a datagram and returns its length; "EAGAIN" if there is none, "ENOBUFS" if the kernel discarded some. */
function read(fd: number, buffer: Uint8Array): number | 'EAGAIN' | 'ENOBUFS' {
  try {
    return readSync(fd, buffer);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN' || code === 'ENOBUFS') return code;
    throw error;
  }
}

/** The columns of a socket in /proc/net/netlink of this network namespace; undefined if it is not there. */
function columnsOf(fd: number): string[] | undefined {
  const inode = String(fstatSync(fd).ino);
  const lines = readFileSync('/proc/self/net/netlink', 'latin1').split('\n');
  return lines.map((line) => line.trim().split(/\s+/)).find((columns) => columns[9] === inode);
}

/** How many messages the kernel has discarded for a socket; 0 if it cannot be read. */
function droppedBy(fd: number): number {
  try {
    return Number(columnsOf(fd)?.[8] ?? 0);
  } catch {
    return 0;
  }
}

/** Why a descriptor is not a non-blocking sock_diag socket of this namespace; null if it is one. */
function whyNotNetlink(fd: number, name: string, groups: number): string | null {
  const refused = (reason: string): string => `Cannot use descriptor ${fd} "${name}": ${reason}`;
  if (fd < 0) return `Cannot use the descriptors of LISTEN_FDNAMES: none is called "${name}"`;
  try {
    if (!fstatSync(fd).isSocket()) return refused('it is not a socket');
    const flags = parseInt(
      /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '0',
      8,
    );
    // A read that blocks would stop the whole program.
    if ((flags & constants.O_NONBLOCK) === 0)
      return refused('it is blocking; systemd needs NonBlocking=true in the service');
    const row = columnsOf(fd);
    if (!row) return refused('it is not a netlink socket of this network namespace');
    if (row[1] !== String(NETLINK_SOCK_DIAG))
      return refused(`it is a netlink socket of protocol ${row[1]}, not 4 (inet-diag)`);
    return (parseInt(row[3] ?? '', 16) & groups) === groups
      ? null
      : refused(`it is in the groups ${row[3]}, not in ${groups.toString(16).padStart(8, '0')}`);
  } catch (error) {
    return refused(reasonOf(error));
  }
}

/** A request for all TCP sockets of a family with their tcp_info (struct inet_diag_req_v2). */
export function encodeDump(family: 4 | 6, sequence: number, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(INET_DIAG_REQUEST);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, INET_DIAG_REQUEST, littleEndian);
  view.setUint16(4, 20, littleEndian); // SOCK_DIAG_BY_FAMILY
  view.setUint16(6, 0x301, littleEndian); // NLM_F_REQUEST | NLM_F_DUMP
  view.setUint32(8, sequence, littleEndian);
  bytes[16] = family === 4 ? 2 : 10; // AF_INET, AF_INET6
  bytes[17] = 6; // IPPROTO_TCP
  bytes[18] = 2; // INET_DIAG_INFO
  view.setUint32(20, 0x1ffe, littleEndian); // States 1 to 12: all sockets that have a remote end or listen.
  return bytes;
}
