import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Attribution } from '../../src/collect/attribution.ts';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { Namespaces } from '../../src/collect/namespaces.ts';
import { SocketOwners } from '../../src/collect/socket-owners.ts';
import { NO_CGROUP, Processes } from '../../src/collect/processes.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { ProtocolCounters } from '../../src/collect/protocol-counters.ts';
import { NamespaceTables } from '../../src/collect/namespace-tables.ts';
import { OwnerLabeler } from '../../src/enrich/owner-labels.ts';

/** A copy of a recorded /proc tree that a test may change. */
export class Tree {
  readonly root: string;

  constructor(scenario: string) {
    this.root = mkdtempSync(join(tmpdir(), 'peerscope-tree-'));
    const recorded = fileURLToPath(new URL(`../fixtures/proc/${scenario}`, import.meta.url));
    cpSync(recorded, this.root, { recursive: true, verbatimSymlinks: true });
  }

  /** Writes a file of a process; null takes it away. */
  write(pid: number, name: string, text: string | null): void {
    const path = join(this.root, String(pid), name);
    rmSync(path, { recursive: true, force: true });
    if (text !== null) writeFileSync(path, text);
  }

  read(pid: number, name: string): string {
    return readFileSync(join(this.root, String(pid), name), 'latin1');
  }

  /** Exchanges one text for another in a file of a process. */
  edit(pid: number, name: string, from: string | RegExp, to: string | ((...groups: string[]) => string)): void {
    const path = join(this.root, String(pid), name);
    const text = readFileSync(path, 'latin1');
    const edited = typeof to === 'string' ? text.replace(from, to) : text.replace(from, to);
    if (edited === text) throw new Error(`Cannot edit "${path}": it holds no ${String(from)}`);
    writeFileSync(path, edited);
  }

  /** Makes a file of a process unreadable, to root too: a directory in its place. */
  spoil(pid: number, name: string): void {
    this.write(pid, name, null);
    mkdirSync(join(this.root, String(pid), name));
  }

  /** Opens descriptor `fd` of a process for a socket, or (0) a file; null closes it. */
  open(pid: number, fd: number, inode: number | null): void {
    const path = join(this.root, String(pid), 'fd', String(fd));
    rmSync(path, { force: true });
    if (inode !== null) symlinkSync(inode === 0 ? 'file' : `socket:[${inode}]`, path);
  }

  /** Takes the right to read a directory of a process, as a recording without it shows. */
  forbid(pid: number, name: string): void {
    rmSync(join(this.root, String(pid), name), { recursive: true });
  }

  /** Another process like one that is there, in its namespace, without descriptors. */
  fork(pid: number, child: number): void {
    cpSync(join(this.root, String(pid)), join(this.root, String(child)), { recursive: true, verbatimSymlinks: true });
    rmSync(join(this.root, String(child), 'fd'), { recursive: true });
    mkdirSync(join(this.root, String(child), 'fd'));
    const net = join(this.root, String(child), 'net');
    rmSync(net, { recursive: true });
    symlinkSync(`../${pid}/net`, net);
    this.edit(child, 'stat', /^\d+/, String(child));
  }

  /** Moves a process to the network namespace with this inode. */
  move(pid: number, netns: number): void {
    const path = join(this.root, String(pid), 'ns/net');
    rmSync(path);
    symlinkSync(`net:[${netns}]`, path);
  }

  /** Ends a process; its namespace lives on where `heir` is in it. */
  end(pid: number, heir?: number): void {
    if (heir !== undefined) {
      const net = join(this.root, String(heir), 'net');
      rmSync(net, { recursive: true });
      renameSync(join(this.root, String(pid), 'net'), net);
    }
    rmSync(join(this.root, String(pid)), { recursive: true });
  }

  has(pid: number): boolean {
    return existsSync(join(this.root, String(pid)));
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }
}

/** What collects from a tree, put together as a scrape does it. */
export class Collector {
  readonly connections = new ConnectionTable();
  readonly owners: SocketOwners;
  readonly processes: Processes;
  readonly protocols = new ProtocolCounters(50);
  readonly tables: NamespaceTables;
  readonly #procfs: Procfs;
  readonly #namespaces = new Namespaces();
  readonly #attribution: Attribution;

  constructor(root: string, monotonic: () => number = () => performance.now()) {
    const { connections } = this;
    const names = new OwnerLabeler();
    this.#procfs = new Procfs(root);
    this.processes = new Processes(this.#procfs, [], (name, cgroup) => names.labelsOf(name, cgroup));
    this.owners = new SocketOwners(this.#procfs, {
      arrived: connections.arrived,
      left: connections.left,
      isLive: (inode) => connections.indexOf(inode) >= 0,
      neighbours: (inode) => this.tables.namespace(connections.netns[connections.indexOf(inode)] ?? -1)?.pids ?? [],
      tenantOf: (pid) => this.processes.tenantOf(pid),
      monotonic,
    });
    this.tables = new NamespaceTables(this.#procfs, connections, {
      owners: this.owners,
      protocols: this.protocols,
      labelsOf: (pids) => names.namespaceLabelsOf(pids.map((pid) => this.processes.cgroupOf(pid))),
      tenantOf: (pid) => this.processes.tenantOf(pid),
      monotonic,
    });
    const { owners, processes, tables } = this;
    this.#attribution = new Attribution({
      connections,
      tables,
      owners,
      processes,
      labelsOfUser: (uid) => names.labelsOf('', { ...NO_CGROUP, user: uid }),
      seesAllProcesses: true,
      hidesProcesses: false,
    });
  }

  /** One scan at a time (milliseconds since 1970); of each namespace, and of the search for owners, is said whether the time is up. */
  scan(
    now = 1000,
    isLate: (share?: number) => boolean = () => false,
    isLateForOwners: () => boolean = () => false,
  ): void {
    const pids = this.#procfs.pids();
    this.processes.begin(pids);
    this.owners.begin(pids);
    for (const holder of this.#attribution.holding)
      if (this.processes.get(holder.pid, this.owners.openFdsOf(holder.pid)) !== holder) this.owners.reset(holder.pid);
    this.tables.read(this.#namespaces.find(this.#procfs, pids).namespaces, now, isLate);
    this.owners.resolve(isLateForOwners);
    this.#attribution.update();
  }

  /** For each inode in the tables: the pids that hold it, and the one it is counted for. */
  holders(): Record<number, { pid: number | null; pids: number[] }> {
    const { connections } = this;
    return Object.fromEntries(
      [...connections.indexes()]
        .filter((i) => connections.inode[i] !== 0)
        .map((i) => {
          const pids = (connections.holders[i] ?? []).map(({ pid }) => pid);
          return [connections.inode[i] ?? 0, { pid: connections.process[i]?.pid ?? null, pids }];
        }),
    );
  }
}
