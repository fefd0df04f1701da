import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { Namespaces } from '../collect/namespaces.ts';
import { nameProcess } from '../collect/process-name.ts';
import { failed, Procfs, type ReadFailure } from '../collect/procfs.ts';
import { TABLES } from '../collect/net-tcp-udp-raw.ts';
import { Redactor } from './record-redact.ts';
import { makeFolder } from '../common/files.ts';

/** What a recording holds and what it had to leave out. */
export interface Recording {
  /** Processes written. */
  readonly processes: number;
  /** Network namespaces whose tables were written. */
  readonly namespaces: number;
  /** Processes left out because they were gone, or ended meanwhile. */
  readonly vanished: number;
  /** Processes whose descriptors, or which altogether, the kernel forbade to read. */
  readonly denied: number;
}

type Files = readonly (readonly [name: string, bytes: Buffer])[];
type Links = readonly (readonly [name: string, target: string])[];

interface RecordedProcess {
  readonly files: Files;
  readonly exe: string | null;
  /** Null where the descriptors may not be listed. */
  readonly fd: Links | null;
  readonly denied: boolean;
}

const COUNTERS = ['sockstat', 'sockstat6', 'snmp', 'snmp6', 'netstat', 'xfrm_stat', 'fib_trie', 'if_inet6'];
const MAX_ARGUMENTS = 1000;
const MAX_OPTION_LENGTH = 32;

/**
 * Writes a tree below `directory` from which peerscope, started with --path.procfs=DIRECTORY, sees what it sees below `procfs`:
 * every process, or those of `pids`, with its descriptors, and the socket tables and counters of their network namespaces.
 *
 * Left out are arguments (see {@link redactArguments}), what descriptors that are no sockets point to, and memory addresses;
 * network addresses, cgroups, and names and paths of executables stay, unless `redact` replaces them (see {@link Redactor}). `exe` is the true path, a text that readers must not
 * follow; every other link stays inside the tree or leads nowhere. A process whose descriptors may not be listed has no `fd`.
 * Throws an Error with one clear line when `procfs` cannot be read or `directory` is neither new nor empty.
 */
export function record(options: {
  readonly procfs: string;
  readonly directory: string;
  readonly pids?: readonly number[];
  /** Invents names and addresses: what is seen in the recording is then the same but for them. */
  readonly redact?: boolean;
}): Recording {
  const { directory } = options;
  const redactor = options.redact ? new Redactor() : null;
  const procfs = new Procfs(options.procfs);
  const pids = options.pids ? [...new Set(options.pids)].sort((a, b) => a - b) : procfs.pids();
  makeEmpty(directory);

  const { namespaces } = new Namespaces().find(procfs, pids);
  const netnsOf = new Map(namespaces.flatMap(({ inode, pids }) => pids.map((pid) => [pid, inode])));
  // Tables before descriptors, as in a scrape: a socket closed in between has a row and no owner.
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
  return { processes, namespaces: tablesAt.size, vanished, denied };
}

/**
 * Cuts arguments to what names a process: of the first its first word, of the others the fewest with which `name` gives the same
 * as with all (of an interpreter: its script, module, jar or class). The others read "…", or "-…" and longer beginnings where
 * `name` must see an option. Arguments after the thousandth are dropped.
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

/** Puts 0 for the addresses in /proc/PID/stat, fields 26-30, 35 and 45-51 of proc(5), as the kernel does for most readers. */
export function clearStatAddresses(stat: string): string {
  const start = stat.lastIndexOf(')') + 2;
  const isAddress = (field: number): boolean =>
    (field >= 26 && field <= 30) || field === 35 || (field >= 45 && field <= 51);
  const fields = stat.slice(start).split(' ');
  return stat.slice(0, start) + fields.map((value, i) => (isAddress(i + 3) ? '0' : value)).join(' ');
}

/** Puts zeros for the kernel's pointers, the twelfth column of a socket table, as the kernel does with kptr_restrict=2. */
export function clearPointers(table: string): string {
  return table.replaceAll(
    /^( *\d+:(?: +[^ \n]+){10} +)([0-9a-f]+)/gm,
    (_, before: string, pointer: string) => before + '0'.repeat(pointer.length),
  );
}

function makeEmpty(directory: string): void {
  let names: string[];
  try {
    makeFolder(directory);
    names = readdirSync(directory);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot record into "${directory}": ${reason}`, { cause: error });
  }
  if (names.length > 0) throw new Error(`Cannot record into "${directory}": it is not empty`);
}

/** The tables, whatever their length, of the first of these processes that shows them to the end. */
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

/** A process that is called otherwise, and all that shows its name. */
function redactProcess(recorded: RecordedProcess, name: string, redactor: Redactor): RecordedProcess {
  const other = redactor.process(name);
  const redacted: Readonly<Record<string, (text: string) => string>> = {
    stat: (text) => text.replace(/^(\d+ )\(.*\)/s, `$1(${other})`),
    status: (text) => text.replace(/^Name:\t.*$/m, `Name:\t${other}`),
    comm: () => `${other}\n`,
    cmdline: (text) => (text === '' ? '' : `${other}\0`),
    cgroup: (text) => redactor.cgroup(text),
  };
  const files = recorded.files.map(([file, bytes]): [string, Buffer] => {
    const redact = redacted[file];
    return [file, redact ? Buffer.from(redact(bytes.toString('latin1')), 'latin1') : bytes];
  });
  return { ...recorded, files, exe: recorded.exe === null ? null : `/redacted/${other}` };
}

function redactCmdline(cmdline: Buffer, exe: string | null, comm: string): Buffer {
  const args = cmdline.toString().replace(/\0$/, '').split('\0');
  const kept = redactArguments(args, (args) => nameProcess({ exe, comm, cmdline: args, self: false }, []));
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
