import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { Namespaces } from '../collect/namespaces.ts';
import { parseConmon } from '../collect/conmon.ts';
import { nameProcess } from '../collect/process-name.ts';
import { failed, Procfs, type ReadFailure } from '../collect/procfs.ts';
import { TABLES } from '../collect/net-tcp-udp-raw.ts';
import { Redactor } from './record-redact.ts';
import { reasonOf } from '../common/errors.ts';
import { makeDirectory } from '../common/files.ts';

/** Counts of what a recording contains and what is missing from it. */
export interface Recording {
  /** Processes written. */
  readonly processes: number;
  /** Network namespaces whose tables were written. */
  readonly namespaces: number;
  /** Processes that did not exist or exited during the recording. */
  readonly vanished: number;
  /** Processes that could not be read, or not completely, for lack of permission. */
  readonly denied: number;
}

type Files = readonly (readonly [name: string, bytes: Buffer])[];
type Links = readonly (readonly [name: string, target: string])[];

interface RecordedProcess {
  readonly files: Files;
  readonly exe: string | null;
  /** Null if the descriptors cannot be listed. */
  readonly fd: Links | null;
  readonly denied: boolean;
}

const COUNTERS = ['sockstat', 'sockstat6', 'snmp', 'snmp6', 'netstat', 'xfrm_stat', 'fib_trie', 'if_inet6'];
const MAX_ARGUMENTS = 1000;
const MAX_OPTION_LENGTH = 32;

/**
 * Copies what peerscope reads from `procfs` into `directory`, for use as --path.procfs=DIRECTORY: all processes, or those of `pids`,
 * with their descriptors, the socket tables and counters of their network namespaces, and the ephemeral ports of that of pid 1.
 *
 * Arguments are shortened (see {@link redactArguments}); the targets of other descriptors than sockets and memory addresses are
 * removed. Network addresses, cgroups, names and paths of executables are kept unless `redact` is set (see {@link Redactor}). `exe`
 * holds the original path; readers must not follow it. All other links stay inside the tree or are dangling. A process whose
 * descriptors cannot be listed has no `fd`.
 * Throws a one-line Error if `procfs` cannot be read or `directory` exists and is not empty.
 */
export function record(options: {
  readonly procfs: string;
  readonly directory: string;
  readonly pids?: readonly number[];
  /** Replaces names and addresses consistently. */
  readonly redact?: boolean;
}): Recording {
  const { directory } = options;
  const redactor = options.redact ? new Redactor() : null;
  const procfs = new Procfs(options.procfs);
  const pids = options.pids ? [...new Set(options.pids)].sort((a, b) => a - b) : procfs.pids();
  makeEmpty(directory);

  const { namespaces } = new Namespaces().find(procfs, pids);
  const netnsOf = new Map(namespaces.flatMap(({ inode, pids }) => pids.map((pid) => [pid, inode])));
  // Read tables before descriptors, as a scrape does: a socket closed in between has a row without an owner.
  const tablesOf = new Map(namespaces.map(({ inode, pids }) => [inode, readTables(procfs, pids, redactor)]));
  const tablesAt = new Map<number, number>();
  let processes = 0;
  let vanished = 0;
  let denied = 0;

  for (const pid of pids) {
    const recorded = readProcess(procfs, pid, redactor);
    if (recorded === 'vanished') vanished++;
    else if (recorded === 'denied' || recorded.denied) denied++;
    if (recorded === 'vanished' || recorded === 'denied') continue;
    processes++;
    const at = `${directory}/${pid}`;
    writeProcess(at, recorded);

    const netns = netnsOf.get(pid);
    if (netns === undefined) continue;
    mkdirSync(`${at}/ns`);
    symlinkSync(`net:[${netns}]`, `${at}/ns/net`);
    const tables = tablesOf.get(netns);
    const holder = tablesAt.get(netns);
    if (holder !== undefined) {
      symlinkSync(`../${holder}/net`, `${at}/net`);
    } else if (tables) {
      writeFiles(`${at}/net`, tables);
      tablesAt.set(netns, pid);
    }
  }
  const ephemeral = procfs.ephemeralPorts();
  if (ephemeral && pids.includes(1) && netnsOf.get(1) === procfs.netnsInode(ephemeral.pid)) {
    mkdirSync(`${directory}/sys/net`, { recursive: true });
    const text = Buffer.from(`${ephemeral.ports.join('\t')}\n`);
    writeFiles(`${directory}/sys/net/ipv4`, [['ip_local_port_range', text]]);
  }
  return { processes, namespaces: tablesAt.size, vanished, denied };
}

/**
 * Shortens arguments to those that name the process: the first word of the first argument, and the fewest others for which `name`
 * returns the same result (the script, module, jar or class of an interpreter). The others become "…", or keep a prefix such as "-…"
 * if `name` needs the option. Arguments after the first 1000 are dropped.
 */
export function redactArguments(args: readonly string[], name: (args: readonly string[]) => string): string[] {
  let kept = args.slice(0, MAX_ARGUMENTS);
  const full = name(kept);
  for (const [i, arg] of kept.entries()) {
    const beginnings = arg.startsWith('-')
      ? Array.from(arg.slice(0, MAX_OPTION_LENGTH), (_, end) => arg.slice(0, end))
      : [''];
    const shorter = i === 0 ? [arg.replace(/\s.*$/s, ' …')] : beginnings.map((text) => `${text}…`);
    kept = shorter.map((text) => kept.with(i, text)).find((candidate) => name(candidate) === full) ?? kept;
  }
  return kept;
}

/** Zeroes the memory addresses in /proc/PID/stat (fields 26-30, 35 and 45-51 of proc(5)), as the kernel does for unprivileged readers. */
export function clearStatAddresses(stat: string): string {
  const start = stat.lastIndexOf(')') + 2;
  const isAddress = (field: number): boolean =>
    (field >= 26 && field <= 30) || field === 35 || (field >= 45 && field <= 51);
  const fields = stat.slice(start).split(' ');
  return stat.slice(0, start) + fields.map((value, i) => (isAddress(i + 3) ? '0' : value)).join(' ');
}

/** Zeroes the kernel pointers in the twelfth column of a socket table, as kptr_restrict=2 does. */
export function clearPointers(table: string): string {
  return table.replaceAll(
    /^( *\d+:(?: +[^ \n]+){10} +)([0-9a-f]+)/gm,
    (_, before: string, pointer: string) => before + '0'.repeat(pointer.length),
  );
}

function makeEmpty(directory: string): void {
  let names: string[];
  try {
    makeDirectory(directory);
    names = readdirSync(directory);
  } catch (error) {
    throw new Error(`Cannot record into "${directory}": ${reasonOf(error)}`, { cause: error });
  }
  if (names.length > 0) throw new Error(`Cannot record into "${directory}": it is not empty`);
}

/** The complete tables, from the first process that they can be read from. */
function readTables(procfs: Procfs, pids: readonly number[], redactor: Redactor | null): Files | undefined {
  for (const pid of pids) {
    const files = [...TABLES, ...COUNTERS].map((name) => [name, procfs.read(pid, `net/${name}`, Infinity)] as const);
    if (files.some(([, bytes]) => failed(bytes) && bytes !== 'vanished') || failed(procfs.netTcpInode(pid))) continue;
    return files
      .filter((file): file is readonly [(typeof file)[0], Buffer] => !failed(file[1]))
      .map(([name, bytes]) => [name, Buffer.from(redactTable(name, bytes.toString('latin1'), redactor), 'latin1')]);
  }
  return undefined;
}

function redactTable(name: string, text: string, redactor: Redactor | null): string {
  if (name === 'fib_trie') return redactor?.fibTrie(text) ?? text;
  if (name === 'if_inet6') return redactor?.ifInet6(text) ?? text;
  const table = clearPointers(text);
  return redactor?.table(table) ?? table;
}

function readProcess(procfs: Procfs, pid: number, redactor: Redactor | null): RecordedProcess | 'vanished' | 'denied' {
  const stat = procfs.read(pid, 'stat');
  if (failed(stat)) return stat === 'permission' ? 'denied' : 'vanished';
  const exe = procfs.executable(pid);
  const comm = procfs.read(pid, 'comm');
  const cmdline = procfs.read(pid, 'cmdline');
  const files: (readonly [string, Buffer | ReadFailure])[] = [
    ['stat', Buffer.from(clearStatAddresses(stat.toString('latin1')), 'latin1')],
    ['status', procfs.read(pid, 'status')],
    ['comm', comm],
    ['cgroup', procfs.read(pid, 'cgroup')],
    ['cmdline', failed(cmdline) ? cmdline : redactCmdline(cmdline, exe, failed(comm) ? '' : comm.toString())],
  ];
  const descriptors = readDescriptors(procfs, pid);
  if (failed(procfs.read(pid, 'stat'))) return 'vanished';
  const whole = files.filter((file): file is readonly [string, Buffer] => !failed(file[1]));
  const recorded = { files: whole, exe, ...descriptors };
  return redactor ? redactProcess(recorded, nameOf(exe, comm, cmdline), redactor) : recorded;
}

function nameOf(exe: string | null, comm: Buffer | ReadFailure, cmdline: Buffer | ReadFailure): string {
  const args = failed(cmdline) ? null : cmdline.toString().replace(/\0$/, '').split('\0');
  return nameProcess(
    { exe, comm: failed(comm) ? '' : comm.toString().replace(/\n$/, ''), cmdline: args, self: false },
    [],
  );
}

/** Replaces the name of a process in all its files. */
function redactProcess(recorded: RecordedProcess, name: string, redactor: Redactor): RecordedProcess {
  const newName = redactor.process(name);
  const redacted: Readonly<Record<string, (text: string) => string>> = {
    stat: (text) => text.replace(/^(\d+ )\(.*\)/s, `$1(${newName})`),
    status: (text) => text.replace(/^Name:\t.*$/m, `Name:\t${newName}`),
    comm: () => `${newName}\n`,
    cmdline: (text) => (text === '' ? '' : `${newName}\0`),
    cgroup: (text) => redactor.cgroup(text),
  };
  const files = recorded.files.map(([file, bytes]): [string, Buffer] => {
    const redact = redacted[file];
    return [file, redact ? Buffer.from(redact(bytes.toString('latin1')), 'latin1') : bytes];
  });
  return { ...recorded, files, exe: recorded.exe === null ? null : `/redacted/${newName}` };
}

function redactCmdline(cmdline: Buffer, exe: string | null, comm: string): Buffer {
  const args = cmdline.toString().replace(/\0$/, '').split('\0');
  // The arguments of conmon name a container of Podman.
  const kept = redactArguments(args, (args) =>
    JSON.stringify([nameProcess({ exe, comm, cmdline: args, self: false }, []), parseConmon(args)]),
  );
  return Buffer.from(cmdline.length === 0 ? '' : kept.join('\0') + '\0');
}

function readDescriptors(procfs: Procfs, pid: number): Pick<RecordedProcess, 'fd' | 'denied'> {
  const fds = procfs.descriptors(pid);
  if (failed(fds)) return { fd: null, denied: fds === 'permission' };
  const links: [string, string][] = [];
  let denied = false;
  for (const fd of fds) {
    const inode = procfs.socketInode(pid, Number(fd));
    if (inode === 'permission') denied = true;
    else if (!failed(inode)) links.push([fd, inode > 0 ? `socket:[${inode}]` : 'file']);
  }
  return { fd: denied ? null : links, denied };
}

function writeProcess(directory: string, { files, exe, fd }: RecordedProcess): void {
  writeFiles(directory, files);
  if (exe !== null) symlinkSync(exe, `${directory}/exe`);
  if (fd === null) return;
  mkdirSync(`${directory}/fd`);
  for (const [name, target] of fd) symlinkSync(target, `${directory}/fd/${name}`);
}

function writeFiles(directory: string, files: Files): void {
  mkdirSync(directory);
  for (const [name, bytes] of files) writeFileSync(`${directory}/${name}`, bytes, { flag: 'wx' });
}
