import { randomUUID } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  opendirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { endianness } from 'node:os';
import { parseSocketRows, TABLES, type SocketRows } from './net-tcp-udp-raw.ts';

/** Why something below /proc could not be read: its process is gone, the kernel forbids it, or any other error. */
export type ReadFailure = 'vanished' | 'permission' | 'unreadable';

const PROC_SUPER_MAGIC = 0x9fa0;
const LARGEST_FILE = 4 << 20;
const LONGEST_LINE = 64 << 10;
/** A read() of a seq_file returns at most one page, whatever the room. */
const PAGE = 4096;

/** Says whether a read gave a failure instead of what was asked. */
export function failed(outcome: unknown): outcome is ReadFailure {
  return outcome === 'vanished' || outcome === 'permission' || outcome === 'unreadable';
}

/** The mount and the inode of a descriptor, from PID/fdinfo/N (Documentation/filesystems/proc.rst, 3.8); 0 where they are not told. */
export function parseFdinfo(text: Buffer): { mount: number; inode: number } {
  const [, mount, inode] = /^mnt_id:\s*(\d{1,15})\nino:\s*(\d{1,15})$/m.exec(text.toString('latin1')) ?? [];
  return { mount: Number(mount ?? 0), inode: Number(inode ?? 0) };
}

/** AT_PAGESZ of a process's auxiliary vector (getauxval(3)): pairs of machine words, of 64 bits where Node.js runs. */
function parsePageSize(auxv: Buffer): number | null {
  const words = new BigUint64Array(new Uint8Array(auxv).buffer, 0, auxv.length >>> 3);
  const at = words.findIndex((type, i) => i % 2 === 0 && type === 6n);
  return at < 0 ? null : Number(words[at + 1]);
}

function failureOf(error: unknown): ReadFailure {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENOTDIR') return 'vanished';
  if (code === 'EACCES' || code === 'EPERM') return 'permission';
  return 'unreadable';
}

/**
 * The one door to /proc: every path is ROOT/PID/... or ROOT/stat, so that ROOT may be the host's /proc mounted anywhere or a recorded tree.
 * Never ROOT/net (it is the reader's own namespace), never below PID/root, PID/cwd or PID/mem.
 * Everything is synchronous: in one worker thread that is twice as cheap as promises, and nothing else waits there.
 */
export class Procfs {
  readonly root: string;
  /** False for a recorded tree: its directory sizes and file inodes mean nothing. */
  readonly live: boolean;
  /** The pid that this process has below this root; null where it has none. */
  readonly self: number | null;
  /** False below a PID namespace other than the host's first: kernel threads exist in that one alone, kthreadd as pid 2. */
  readonly seesAllProcesses: boolean;
  /** How descriptors are read: through PID/fd, or through PID/fdinfo where the former is forbidden and the latter is not. */
  readonly access: 'fd' | 'fdinfo';
  /** Bytes of a page of memory; null where it cannot be told. */
  readonly pageSize: number | null;
  /** The root without links on the way. */
  readonly #place: string;
  readonly #sockfs: number | null;
  readonly #countsDescriptors: boolean;
  readonly #buffer = Buffer.allocUnsafe(64 << 10);
  readonly #littleEndian = endianness() === 'LE';

  /** Throws an Error with one clear line when ROOT cannot be read or holds no process. */
  constructor(root: string) {
    this.root = root;
    let pids: number[];
    try {
      pids = this.pids();
      this.live = statfsSync(root).type === PROC_SUPER_MAGIC;
      this.#place = realpathSync.native(root);
    } catch (error) {
      throw new Error(`Cannot read procfs "${root}": ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
    if (pids.length === 0) throw new Error(`Cannot read procfs "${root}": it holds no process directory`);
    const self = this.live ? this.#link(`${root}/self`) : null;
    const second = this.read(2, 'comm');
    this.seesAllProcesses = !this.live || (!failed(second) && second.toString() === 'kthreadd\n');
    this.self = self !== null && /^\d+$/.test(self) ? Number(self) : null;
    this.#countsDescriptors = this.live && this.self !== null && this.#size(`${root}/self/fd`) > 0;
    this.#sockfs = this.#onlyFdinfoIsOpen(pids) ? this.#sockfsMount() : null;
    this.access = this.#sockfs === null ? 'fd' : 'fdinfo';
    const auxv = this.self === null ? 'unreadable' : this.read(this.self, 'auxv');
    this.pageSize = failed(auxv) ? null : parsePageSize(auxv);
  }

  /** When the kernel booted, milliseconds since 1970 (btime of ROOT/stat); null where it is not told. */
  bootedAt(): number | null {
    let fd: number | undefined;
    try {
      fd = this.#open('stat');
      const [, seconds] = /^btime (\d+)$/m.exec(readFileSync(fd, 'latin1')) ?? [];
      return seconds === undefined ? null : Number(seconds) * 1000;
    } catch {
      return null;
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  /** Every process directory, ascending. */
  pids(): number[] {
    const pids: number[] = [];
    for (const name of readdirSync(this.root)) {
      if (/^[1-9]\d{0,9}$/.test(name)) pids.push(Number(name));
    }
    return pids.sort((a, b) => a - b);
  }

  /** ROOT/PID/NAME from its beginning, cut when so many bytes or a little more are read. */
  read(pid: number, name: string, most = LARGEST_FILE): Buffer | ReadFailure {
    let fd: number;
    try {
      fd = this.#open(`${pid}/${name}`);
    } catch (error) {
      return failureOf(error);
    }
    try {
      const chunks: Buffer[] = [];
      for (let size = 0; size < most;) {
        const read = readSync(fd, this.#buffer, 0, this.#buffer.length, null);
        if (read === 0) break;
        chunks.push(Buffer.from(this.#buffer.subarray(0, read)));
        size += read;
      }
      return chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks);
    } catch (error) {
      return failureOf(error);
    } finally {
      closeSync(fd);
    }
  }

  /** The executable of a process, as the kernel names it. */
  executable(pid: number): string | null {
    return this.#link(`${this.root}/${pid}/exe`);
  }

  /** The inode number of ns/net of a process. */
  netnsInode(pid: number): number | ReadFailure {
    return this.#bracketed(`${this.root}/${pid}/ns/net`, 'net:[') || 'unreadable';
  }

  /** The file inode of net/tcp, equal for all processes of a namespace; means nothing in a recorded tree. */
  netTcpInode(pid: number): number | ReadFailure {
    try {
      return statSync(`${this.root}/${pid}/net/tcp`).ino;
    } catch (error) {
      return failureOf(error);
    }
  }

  /** Hands over ROOT/PID/NAME line by line, without the line ends, however long it is; null when it was read to its end. */
  readLines(pid: number, name: string, take: (line: string) => void): ReadFailure | null {
    let fd: number;
    try {
      fd = this.#open(`${pid}/${name}`);
    } catch (error) {
      return failureOf(error);
    }
    try {
      let rest = '';
      for (;;) {
        const read = readSync(fd, this.#buffer, 0, this.#buffer.length, null);
        if (read === 0) break;
        const lines = (rest + this.#buffer.toString('latin1', 0, read)).split('\n');
        rest = (lines.pop() ?? '').slice(0, LONGEST_LINE);
        for (const line of lines) take(line);
      }
      if (rest !== '') take(rest);
      return null;
    } catch (error) {
      return failureOf(error);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * ROOT/PID/NAME read at once, for small files that the kernel prints whole in one read().
   * The bytes are those of a shared buffer: they stand until the next call of any method.
   */
  glance(pid: number, name: string): Buffer | ReadFailure {
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

  /** The threads of a process. */
  threads(pid: number): number[] {
    try {
      return readdirSync(`${this.root}/${pid}/task`).map(Number);
    } catch {
      return [];
    }
  }

  /**
   * How many descriptors a process, or a thread by its number, has open: the size of its fd directory since Linux 6.2, which
   * needs no right at all; before it, and in a recorded tree, they are listed.
   */
  descriptorCount(pid: number): number | ReadFailure {
    if (this.#countsDescriptors) {
      const size = this.#size(`${this.root}/${pid}/fd`);
      return size < 0 ? 'vanished' : size;
    }
    const listed = this.descriptors(pid);
    return failed(listed) ? listed : listed.length;
  }

  /** The names of a process's descriptors. */
  descriptors(pid: number): string[] | ReadFailure {
    try {
      return readdirSync(`${this.root}/${pid}/${this.access}`);
    } catch (error) {
      const failure = failureOf(error);
      // A recording leaves out the descriptors that could not be listed.
      return failure === 'vanished' && !this.live && !failed(this.read(pid, 'stat')) ? 'permission' : failure;
    }
  }

  /** The inode of the socket behind a descriptor; 0 for any other kind of file. */
  socketInode(pid: number, fd: number): number | ReadFailure {
    if (this.#sockfs === null) return this.#bracketed(`${this.root}/${pid}/fd/${fd}`, 'socket:[');
    const text = this.glance(pid, `fdinfo/${fd}`);
    if (failed(text)) return text;
    const { mount, inode } = parseFdinfo(text);
    return mount === this.#sockfs ? inode : 0;
  }

  /**
   * Reads one socket table of the namespace that a process is in, and hands over the rows batch by batch.
   * A table that the kernel does not have holds no rows. Gives the number of malformed lines.
   */
  readTable(pid: number, table: number, rows: SocketRows, deliver: (rows: SocketRows) => void): number | ReadFailure {
    let fd: number;
    try {
      fd = this.#open(`${pid}/net/${TABLES[table] ?? ''}`);
    } catch (error) {
      const failure = failureOf(error);
      return failure === 'vanished' && this.#hasNet(pid) ? 0 : failure;
    }
    try {
      return this.#readRows(fd, table, rows, deliver);
    } catch (error) {
      return failureOf(error);
    } finally {
      closeSync(fd);
    }
  }

  #readRows(fd: number, table: number, rows: SocketRows, deliver: (rows: SocketRows) => void): number {
    const buffer = this.#buffer;
    const family = table & 1 ? 6 : 4;
    let malformed = 0;
    let held = 0;
    let skipping = true;
    for (let ended = false; !ended;) {
      while (buffer.length - held >= PAGE) {
        const read = readSync(fd, buffer, held, buffer.length - held, null);
        if (read === 0) {
          ended = true;
          break;
        }
        held += read;
      }
      if (ended && held > 0 && buffer[held - 1] !== 0x0a) buffer[held++] = 0x0a;
      let start = 0;
      if (skipping) {
        const newline = buffer.subarray(0, held).indexOf(0x0a);
        start = newline < 0 ? held : newline + 1;
        skipping = newline < 0;
      }
      rows.clear();
      const parsed = parseSocketRows(buffer, start, held, family, this.#littleEndian, rows);
      malformed += rows.malformed;
      if (rows.count > 0) deliver(rows);
      buffer.copyWithin(0, parsed, held);
      held -= parsed;
      if (buffer.length - held < PAGE) {
        malformed++;
        held = 0;
        skipping = true;
      }
    }
    return malformed;
  }

  /** The number in a link such as "socket:[123]"; 0 where the link is another one. */
  #bracketed(path: string, opening: string): number | ReadFailure {
    try {
      const link = readlinkSync(path);
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

  /** With CAP_SYS_PTRACE alone the descriptors of other users can be read through fdinfo (0555), not through fd (0500). */
  #onlyFdinfoIsOpen(pids: readonly number[]): boolean {
    const opens = (path: string): boolean => {
      try {
        opendirSync(path).closeSync();
        return true;
      } catch {
        return false;
      }
    };
    return this.live && pids.some((pid) => !opens(`${this.root}/${pid}/fd`) && opens(`${this.root}/${pid}/fdinfo`));
  }

  /**
   * The mount that all sockets are on, as fdinfo names it (Linux 5.14 names the inode too): learned from a socket of our own, which
   * listens on an abstract Unix address for this moment. Null where it cannot be told.
   */
  #sockfsMount(): number | null {
    if (this.self === null) return null;
    const server = createServer().listen({ path: `\0peerscope-${randomUUID()}` });
    server.on('error', () => undefined);
    try {
      for (const fd of readdirSync(`${this.root}/self/fd`)) {
        if (!this.#link(`${this.root}/self/fd/${fd}`)?.startsWith('socket:[')) continue;
        const text = this.glance(this.self, `fdinfo/${fd}`);
        const { mount, inode } = failed(text) ? { mount: 0, inode: 0 } : parseFdinfo(text);
        return inode > 0 ? mount : null;
      }
      return null;
    } finally {
      server.close();
    }
  }

  #hasNet(pid: number): boolean {
    return this.#size(`${this.root}/${pid}/net/sockstat`) >= 0;
  }

  /** Opens a file; in a tree that anyone may have made, one outside of it, or that is no regular file (a pipe, a device), is refused. */
  #open(path: string): number {
    if (!this.live && !realpathSync.native(`${this.root}/${path}`).startsWith(`${this.#place}/`))
      throw new Error(`Cannot read "${path}": it is outside of the tree`);
    const fd = openSync(`${this.root}/${path}`, constants.O_RDONLY | constants.O_NONBLOCK);
    if (this.live || fstatSync(fd).isFile()) return fd;
    closeSync(fd);
    throw new Error(`Cannot read "${path}": it is no regular file`);
  }

  #link(path: string): string | null {
    try {
      return readlinkSync(path);
    } catch {
      return null;
    }
  }
}
