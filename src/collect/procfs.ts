import {
  closeSync,
  constants,
  fstatSync,
  opendirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  statfsSync,
  statSync,
  type Dir,
  type Stats,
} from 'node:fs';
import { createServer } from 'node:net';
import { endianness } from 'node:os';
import { dirname, resolve } from 'node:path';
import { reasonOf } from '../common/errors.ts';
import { randomUuid } from '../common/random-uuid.ts';
import type { PortRange } from './direction.ts';
import { TABLES, type SocketRows } from './net-tcp-udp-raw.ts';
import { TableWalk } from './table-walk.ts';
import { TimedReader } from './timed-reader.ts';

/** Why a file in /proc could not be read: its process is gone, the kernel forbids it, or any other error. */
export type ReadFailure = 'vanished' | 'permission' | 'unreadable';

const PROC_SUPER_MAGIC = 0x9fa0;
/** The number of the capability (capability.h). */
const CAP_SYS_PTRACE = 19n;
/** File systems that can make the kernel wait for a user, or for a server. */
const BLOCKING = /\t(?:fuse|nfs4?|cifs|smb3|ceph|9p|afs|lustre|gpfs|virtiofs|orangefs)$/m;
const LARGEST_FILE = 4 << 20;
const LONGEST_LINE = 64 << 10;
/** The routes of the whole internet in a fib_trie take half of it. A recorded file can be sparse, and have any size. */
const MOST_LINES_BYTES = 256 << 20;
/** Where the kernel does not count them, descriptors beyond this number are not counted. */
const MOST_COUNTED = 65_536;

/** Says whether the result of a read is a failure. */
export function failed(outcome: unknown): outcome is ReadFailure {
  return outcome === 'vanished' || outcome === 'permission' || outcome === 'unreadable';
}

/** The mount and inode of a descriptor, from PID/fdinfo/N (Documentation/filesystems/proc.rst, 3.8); 0 if missing. */
export function parseFdinfo(text: Buffer): { mount: number; inode: number } {
  const [, mount, inode] = /^mnt_id:\s*(\d{1,15})\nino:\s*(\d{1,15})$/m.exec(text.toString('latin1')) ?? [];
  return { mount: Number(mount ?? 0), inode: Number(inode ?? 0) };
}

/** AT_PAGESZ in the auxiliary vector of a process (getauxval(3)): pairs of machine words, which have 64 bits where Node.js runs. */
function parsePageSize(auxv: Buffer): number | null {
  const words = new BigUint64Array(new Uint8Array(auxv).buffer, 0, auxv.length >>> 3);
  const at = words.findIndex((type, i) => i % 2 === 0 && type === 6n);
  return at < 0 ? null : Number(words[at + 1]);
}

/** The options of the file system that is mounted at a path, from mountinfo (proc_pid_mountinfo(5)). The last mount covers the others. */
export function mountOptions(mountinfo: string, path: string): string[] {
  const mounts = mountinfo.split('\n').map((line) => line.split(' '));
  const unescaped = (text: string): string =>
    text.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(parseInt(code, 8)));
  const fields = mounts.findLast(([, , , , point = '']) => unescaped(point) === path) ?? [];
  return fields.at(-1)?.split(',') ?? [];
}

function failureOf(error: unknown): ReadFailure {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENOTDIR') return 'vanished';
  if (code === 'EACCES' || code === 'EPERM') return 'permission';
  return 'unreadable';
}

/** The descriptors of a process, a part at a time. It holds a directory open until it is closed or has ended. */
export class DescriptorWalk {
  readonly #directory: Dir;
  #isOpen = true;

  constructor(directory: Dir) {
    this.#directory = directory;
  }

  /** The next descriptors, at most this many; null after the last one, or if the process is gone. */
  next(most: number): number[] | null {
    if (!this.#isOpen) return null;
    const fds: number[] = [];
    try {
      while (fds.length < most) {
        const entry = this.#directory.readSync();
        if (entry === null) break;
        fds.push(Number(entry.name));
      }
    } catch {
      // The process is gone.
    }
    if (fds.length < most) this.close();
    return fds.length === 0 ? null : fds;
  }

  close(): void {
    if (this.#isOpen) this.#directory.closeSync();
    this.#isOpen = false;
  }
}

/**
 * The only reader of /proc. Every path is ROOT/PID/..., ROOT/stat or ROOT/sys/net/ipv4/ip_local_port_range, so that ROOT can be the /proc of the host, mounted anywhere, or a
 * recorded tree. It never reads ROOT/net (the namespace of the reader) or anything below PID/root, PID/cwd or PID/mem.
 * All calls are synchronous: in a worker thread of their own they cost half as much as promises.
 */
export class Procfs {
  readonly root: string;
  /** False for a recorded tree: its directory sizes and file inodes have no meaning. */
  readonly live: boolean;
  /** The pid of this process in this /proc; null if it has none. */
  readonly self: number | null;
  /** False in a PID namespace below that of the host: kernel threads, such as kthreadd (pid 2), exist only in the first. */
  readonly seesAllProcesses: boolean;
  /** Whether the mount option hidepid hides processes of other users from this process. */
  readonly hidesProcesses: boolean;
  /** How descriptors are read: through PID/fd, or through PID/fdinfo if only that is allowed. */
  readonly access: 'fd' | 'fdinfo';
  /** Bytes of a memory page; null if unknown. */
  readonly pageSize: number | null;
  /** The root with all links resolved. */
  readonly #realRoot: string;
  readonly #sockfs: number | null;
  readonly #countsDescriptors: boolean;
  readonly #buffer = Buffer.allocUnsafe(64 << 10);
  readonly #littleEndian = endianness() === 'LE';
  /** The last that was read. With the last object of its kind, V8 would drop the compiled code that reads them, in every scan. */
  #directory: Stats | undefined;

  /** Null until `guard`. */
  #reader: TimedReader | null = null;
  #mayBlock = false;

  /** Throws an Error of one line if ROOT cannot be read or has no process. */
  constructor(root: string) {
    this.root = root;
    let pids: number[];
    try {
      this.live = statfsSync(root).type === PROC_SUPER_MAGIC;
      this.#realRoot = realpathSync.native(root);
      pids = this.pids();
    } catch (error) {
      throw new Error(`Cannot read procfs "${root}": ${reasonOf(error)}`, { cause: error });
    }
    if (pids.length === 0) throw new Error(`Cannot read procfs "${root}": it has no process directory`);
    const self = this.live ? this.#link('self') : null;
    const second = this.read(2, 'comm');
    this.seesAllProcesses = !this.live || (!failed(second) && second.toString() === 'kthreadd\n');
    this.self = self !== null && /^\d+$/.test(self) ? Number(self) : null;
    this.hidesProcesses = this.#hidesProcesses();
    // Any process with a descriptor shows it: in the /proc of another PID namespace, this one is none of them.
    this.#countsDescriptors = this.live && pids.some((pid) => this.#size(`${root}/${pid}/fd`) > 0);
    this.#sockfs = this.#onlyFdinfoIsOpen(pids) ? this.#sockfsMount() : null;
    this.access = this.#sockfs === null ? 'fd' : 'fdinfo';
    const auxv = this.self === null ? 'unreadable' : this.read(this.self, 'auxv');
    this.pageSize = failed(auxv) ? null : parsePageSize(auxv);
  }

  /** When the kernel booted (btime of ROOT/stat), milliseconds since 1970; null if unknown. */
  bootedAt(): number | null {
    const [, seconds] = /^btime (\d+)$/m.exec(this.#readText('stat') ?? '') ?? [];
    return seconds === undefined ? null : Number(seconds) * 1000;
  }

  /**
   * The first and the last port that the kernel gives to clients, in the namespace of process `pid`; null if unknown. /proc/sys/net is
   * that of the reader, in any procfs, so other namespaces cannot be read. A recorded tree has the range of its pid 1.
   */
  ephemeralPorts(): { readonly pid: number; readonly ports: PortRange } | null {
    const pid = this.live ? this.self : 1;
    const text = this.#readText('sys/net/ipv4/ip_local_port_range');
    const [, first, last] = /^(\d{1,5})\s+(\d{1,5})\s*$/.exec(text ?? '') ?? [];
    return pid === null || first === undefined ? null : { pid, ports: [Number(first), Number(last)] };
  }

  /** The pids of all processes, ascending. */
  pids(): number[] {
    const names = this.live
      ? readdirSync(this.root)
      : readdirSync(this.root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
    this.#mayBlock ||= this.#reader !== null && BLOCKING.test(this.#readText('filesystems') ?? '');
    const pids = names.filter((name) => /^[1-9]\d{0,9}$/.test(name)).map(Number);
    return pids.sort((a, b) => a - b);
  }

  /** The content of ROOT/PID/NAME, truncated after at least `maxBytes`. */
  read(pid: number, name: string, maxBytes = LARGEST_FILE): Buffer | ReadFailure {
    let fd: number;
    try {
      fd = this.#open(`${pid}/${name}`);
    } catch (error) {
      return failureOf(error);
    }
    try {
      return this.#contents(fd, maxBytes);
    } catch (error) {
      return failureOf(error);
    } finally {
      closeSync(fd);
    }
  }

  /** Ends reads by `readGuarded` that take too long, from the next scan on. */
  guard(): void {
    if (this.live) this.#reader ??= new TimedReader();
  }

  /** How many guarded reads are blocked now. */
  get blockedReads(): number {
    return this.#reader?.blocked ?? 0;
  }

  /** The content of ROOT/PID/NAME, which a process can block: its arguments, or its memory map. */
  readGuarded(pid: number, name: 'cmdline' | 'maps', most: number): Buffer | ReadFailure | 'blocked' {
    if (!this.#reader || !this.#mayBlock) return this.read(pid, name, most);
    return this.#reader.read(this.#at(`${pid}/${name}`), most) ?? 'unreadable';
  }

  /** The path of the executable of a process, as the kernel prints it; null if it cannot be read. */
  executable(pid: number): string | null {
    return this.#link(`${pid}/exe`);
  }

  /** The inode number of ns/net of a process. */
  netnsInode(pid: number): number | ReadFailure {
    return this.#bracketed(`${pid}/ns/net`, 'net:[') || 'unreadable';
  }

  /** The file inode of net/tcp, equal for all processes of a namespace; without meaning in a recorded tree. */
  netTcpInode(pid: number): number | ReadFailure {
    try {
      return statSync(this.#at(`${pid}/net/tcp`)).ino;
    } catch (error) {
      return failureOf(error);
    }
  }

  /** Passes each line of ROOT/PID/NAME, of any length, to `onLine` without its newline. Returns null after the last line. */
  readLines(pid: number, name: string, onLine: (line: string) => void): ReadFailure | null {
    let fd: number;
    try {
      fd = this.#open(`${pid}/${name}`);
    } catch (error) {
      return failureOf(error);
    }
    try {
      let rest = '';
      for (let bytes = 0; ;) {
        const read = readSync(fd, this.#buffer, 0, this.#buffer.length, null);
        if (read === 0) break;
        bytes += read;
        if (bytes > MOST_LINES_BYTES) return 'unreadable';
        const lines = (rest + this.#buffer.toString('latin1', 0, read)).split('\n');
        rest = (lines.pop() ?? '').slice(0, LONGEST_LINE);
        for (const line of lines) onLine(line);
      }
      if (rest !== '') onLine(rest);
      return null;
    } catch (error) {
      return failureOf(error);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * The content of a small ROOT/PID/NAME, which the kernel returns in one read().
   * The bytes are in a shared buffer: they are valid until the next call of any method.
   */
  readSmall(pid: number, name: string): Buffer | ReadFailure {
    let fd: number;
    try {
      fd = this.#open(`${pid}/${name}`);
    } catch (error) {
      return failureOf(error);
    }
    try {
      return this.#buffer.subarray(0, readSync(fd, this.#buffer, 0, this.#buffer.length, null));
    } catch (error) {
      return failureOf(error);
    } finally {
      closeSync(fd);
    }
  }

  /** The thread ids of a process; none if they cannot be read. */
  threads(pid: number): number[] {
    try {
      return readdirSync(this.#at(`${pid}/task`, true)).map(Number);
    } catch {
      return [];
    }
  }

  /**
   * The number of open descriptors of a process, or of a thread by its id: the size of its fd directory since Linux 6.2, which needs no
   * privilege. On older kernels, and in a recorded tree, they are listed.
   */
  descriptorCount(pid: number): number | ReadFailure {
    if (this.#countsDescriptors) {
      try {
        this.#directory = statSync(`${this.root}/${pid}/fd`, { throwIfNoEntry: false });
        return this.#directory?.size ?? 'vanished';
      } catch (error) {
        return failureOf(error);
      }
    }
    const walk = this.walkDescriptors(pid);
    if (failed(walk)) return walk;
    const count = walk.next(MOST_COUNTED)?.length ?? 0;
    walk.close();
    return count;
  }

  /** Whether the kernel counts the descriptors of a process; otherwise they are listed. */
  get countsDescriptors(): boolean {
    return this.#countsDescriptors;
  }

  /** Begins to list the descriptors of a process: a process can have millions. */
  walkDescriptors(pid: number): DescriptorWalk | ReadFailure {
    try {
      return new DescriptorWalk(opendirSync(this.#at(`${pid}/${this.access}`, true), { bufferSize: 256 }));
    } catch (error) {
      return this.#listFailure(pid, error);
    }
  }

  #listFailure(pid: number, error: unknown): ReadFailure {
    const failure = failureOf(error);
    // A recording has no fd directory for descriptors that could not be listed.
    return failure === 'vanished' && !this.live && !failed(this.read(pid, 'stat')) ? 'permission' : failure;
  }

  /** The descriptors of a process, as text. */
  descriptors(pid: number): string[] | ReadFailure {
    try {
      return readdirSync(this.#at(`${pid}/${this.access}`, true));
    } catch (error) {
      return this.#listFailure(pid, error);
    }
  }

  /** The inode of the socket of a descriptor; 0 for another kind of file. */
  socketInode(pid: number, fd: number): number | ReadFailure {
    if (this.#sockfs === null) return this.#bracketed(`${pid}/fd/${fd}`, 'socket:[');
    const text = this.readSmall(pid, `fdinfo/${fd}`);
    if (failed(text)) return text;
    const { mount, inode } = parseFdinfo(text);
    return mount === this.#sockfs ? inode : 0;
  }

  /**
   * Begins to read a socket table of the namespace of a process, or continues at the position of an earlier walk. Null if the kernel does
   * not have the table.
   */
  walkTable(pid: number, table: number, position = 0): TableWalk | ReadFailure | null {
    try {
      return new TableWalk(this.#open(`${pid}/net/${TABLES[table] ?? ''}`), table, this.#littleEndian, position);
    } catch (error) {
      const failure = failureOf(error);
      return failure === 'vanished' && this.#hasNet(pid) ? null : failure;
    }
  }

  /** Passes on the next rows of a table, until `isOver` returns true or the table ends: then it returns true. */
  readRows(
    walk: TableWalk,
    rows: SocketRows,
    isOver: () => boolean,
    onRows: (rows: SocketRows) => void,
  ): boolean | ReadFailure {
    try {
      return walk.next(this.#buffer, rows, isOver, onRows);
    } catch (error) {
      return failureOf(error);
    }
  }

  /** The number in a link such as "socket:[123]"; 0 for another link. */
  #bracketed(path: string, opening: string): number | ReadFailure {
    try {
      const link = readlinkSync(this.#at(path));
      return link.startsWith(opening) && link.endsWith(']') ? Number(link.slice(opening.length, -1)) || 0 : 0;
    } catch (error) {
      return failureOf(error);
    }
  }

  #size(path: string): number {
    try {
      return statSync(path, { throwIfNoEntry: false })?.size ?? -1;
    } catch {
      return -1;
    }
  }

  /**
   * hidepid of proc(5) hides processes unless the reader has CAP_SYS_PTRACE or, without "ptraceable", is in the group of the option gid.
   * A capability of a user namespace has no effect outside of it: pid 1 shows that.
   */
  #hidesProcesses(): boolean {
    if (this.self === null) return false;
    const mounts = this.read(this.self, 'mountinfo');
    const options = failed(mounts) ? [] : mountOptions(mounts.toString(), this.#realRoot);
    const valueOf = (name: string): string | undefined =>
      options.findLast((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
    const hidepid = valueOf('hidepid') ?? '0';
    if (hidepid === '0' || hidepid === 'off') return false;
    const status = this.read(this.self, 'status');
    const text = failed(status) ? '' : status.toString('latin1');
    const capabilities = BigInt(`0x${/^CapEff:\t([\da-f]{1,16})$/m.exec(text)?.[1] ?? '0'}`);
    const groups = [
      /^Gid:\t\d+\t\d+\t\d+\t(\d+)$/m.exec(text)?.[1],
      ...(/^Groups:\t(.*)$/m.exec(text)?.[1] ?? '').split(' '),
    ];
    const isPtraceable = hidepid === '4' || hidepid === 'ptraceable';
    const isExempt =
      ((capabilities >> CAP_SYS_PTRACE) & 1n) === 1n || (!isPtraceable && groups.includes(valueOf('gid') ?? '0'));
    return !isExempt || failed(this.read(1, 'stat'));
  }

  /** With only CAP_SYS_PTRACE, descriptors of other users can be read through fdinfo (0555), not through fd (0500). */
  #onlyFdinfoIsOpen(pids: readonly number[]): boolean {
    const opens = (path: string): boolean => {
      try {
        closeSync(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
        return true;
      } catch {
        return false;
      }
    };
    return this.live && pids.some((pid) => !opens(`${this.root}/${pid}/fd`) && opens(`${this.root}/${pid}/fdinfo`));
  }

  /**
   * The mount of all sockets in fdinfo, which has the inode too since Linux 5.14. It is read from a socket of our own, which listens on
   * an abstract Unix address meanwhile. Null if unknown.
   */
  #sockfsMount(): number | null {
    if (this.self === null) return null;
    const server = createServer().listen({ path: `\0peerscope-${randomUuid()}` });
    server.on('error', () => undefined);
    try {
      for (const fd of readdirSync(`${this.root}/self/fd`)) {
        if (!this.#link(`self/fd/${fd}`)?.startsWith('socket:[')) continue;
        const text = this.readSmall(this.self, `fdinfo/${fd}`);
        const { mount, inode } = failed(text) ? { mount: 0, inode: 0 } : parseFdinfo(text);
        return inode > 0 ? mount : null;
      }
      return null;
    } finally {
      server.close();
    }
  }

  #hasNet(pid: number): boolean {
    try {
      return statSync(this.#at(`${pid}/net/sockstat`), { throwIfNoEntry: false }) !== undefined;
    } catch {
      return false;
    }
  }

  /**
   * The path of a file or link in ROOT, or of a folder to list. A recorded tree can come from anyone: it throws if a folder of the path is
   * a link, except for PID/net, which is a link to that of another process in the same namespace.
   */
  #at(path: string, isFolder = false): string {
    const full = `${this.root}/${path}`;
    if (this.live) return full;
    const folder = isFolder ? path : dirname(path);
    const real = realpathSync.native(`${this.root}/${folder}`);
    if (real === resolve(this.#realRoot, folder)) return full;
    const target = /^\d+\/net$/.test(folder) ? readlinkSync(`${this.root}/${folder}`) : '';
    if (/^\.\.\/\d+\/net$/.test(target) && real === `${this.#realRoot}/${target.slice(3)}`) return full;
    throw new Error(`Cannot read "${path}": a folder is a link`);
  }

  /** Opens a file. In a recorded tree links, pipes and devices are refused. */
  #open(path: string): number {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | (this.live ? 0 : constants.O_NOFOLLOW);
    const fd = openSync(this.#at(path), flags);
    if (this.live || fstatSync(fd).isFile()) return fd;
    closeSync(fd);
    throw new Error(`Cannot read "${path}": it is not a regular file`);
  }
  /** What an open file contains, truncated after at least `maxBytes`. Files below /proc/sys refuse buffers of 4 MiB. */
  #contents(fd: number, maxBytes: number): Buffer {
    const chunks: Buffer[] = [];
    for (let size = 0; size < maxBytes;) {
      const read = readSync(fd, this.#buffer, 0, this.#buffer.length, null);
      if (read === 0) break;
      chunks.push(Buffer.from(this.#buffer.subarray(0, read)));
      size += read;
    }
    return chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks);
  }

  /** The content of a file that belongs to no process; null if it cannot be read. */
  #readText(path: string): string | null {
    let fd: number | undefined;
    try {
      fd = this.#open(path);
      return this.#contents(fd, LARGEST_FILE).toString('latin1');
    } catch {
      return null;
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  #link(path: string): string | null {
    try {
      return readlinkSync(this.#at(path));
    } catch {
      return null;
    }
  }
}
