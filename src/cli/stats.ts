import { parseCgroup } from '../collect/cgroup.ts';
import { Namespaces } from '../collect/namespaces.ts';
import { failed, Procfs } from '../collect/procfs.ts';
import { readStatistics, renderStatistics, type StatisticsSection } from '../collect/netstat-s.ts';
import { cleanLabel, linesWithoutControls } from '../common/sanitize.ts';
import { UsageError } from '../common/errors.ts';
import { jsonLine } from './terminal/format.ts';

/** Options of `stats`, as unparsed text. At most one of `netns`, `pid` and `pod` is allowed. */
export interface StatsOptions {
  readonly netns?: string;
  readonly pid?: string;
  /** The UID of the pod; cgroup paths do not contain its name. */
  readonly pod?: string;
  readonly zeros?: boolean;
  readonly nonzero?: boolean;
  readonly json?: boolean;
}

/**
 * Prints the protocol statistics of one network namespace in the format of `netstat -s` without zeros, or as JSON with the names of the kernel.
 * The default is the namespace of this process; in a recording, that of pid 1 or of the lowest pid.
 * Throws UsageError for invalid options, and a one-line Error if the namespace does not exist or cannot be read.
 */
export function stats(
  { procfs: root }: { readonly procfs: string },
  options: StatsOptions,
  stdout: { write(text: string): unknown },
): number {
  const choice = parseChoice(options);
  const procfs = new Procfs(root);
  const { netns, pid } = findNamespace(procfs, choice);
  const all = readSections(procfs, pid);
  const hidesZeros = options.nonzero || !(options.json || options.zeros);
  const sections = hidesZeros ? all.map(withoutZeros).filter(({ counters }) => counters.length > 0) : all;
  stdout.write(
    options.json
      ? `${jsonLine({ netns, pid, statistics: asObject(sections) })}\n`
      : linesWithoutControls(renderStatistics(sections)),
  );
  return 0;
}

/** How the network namespace is selected. */
type NamespaceChoice =
  | { readonly kind: 'own' }
  | { readonly kind: 'netns'; readonly number: number }
  | { readonly kind: 'pid'; readonly number: number }
  | { readonly kind: 'pod'; readonly uid: string };

function parseChoice({ netns, pid, pod }: StatsOptions): NamespaceChoice {
  const given = Object.entries({ netns, pid, pod }).filter(([, text]) => text !== undefined);
  const [first, second] = given.map(([name]) => `--${name}`);
  if (second !== undefined) throw new UsageError(`Cannot use ${first ?? ''} with ${second}: they exclude each other`);
  if (netns !== undefined) return { kind: 'netns', number: parseNumber('--netns', netns, NETNS) };
  if (pid !== undefined) return { kind: 'pid', number: parseNumber('--pid', pid, /^()([1-9]\d{0,9})$/) };
  if (pod === undefined) return { kind: 'own' };
  if (/^[\da-f]{8}(?:[-_]?[\da-f]{4}){3}[-_]?[\da-f]{12}$|^[\da-f]{32}$/i.test(pod)) return { kind: 'pod', uid: pod };
  throw new UsageError(`Cannot use --pod ${JSON.stringify(pod)}: must be the UID of a pod, not its name`);
}

const NETNS = /^(net:\[)?([1-9]\d{0,14})(?:\])?$/;

function parseNumber(flag: string, text: string, pattern: RegExp): number {
  const [, , digits] = pattern.exec(text) ?? [];
  if (digits !== undefined) return Number(digits);
  const allowed =
    flag === '--pid'
      ? 'a process ID'
      : 'the inode number of a network namespace such as 4026531840 or net:[4026531840]';
  throw new UsageError(`Cannot use ${flag} ${JSON.stringify(text)}: must be ${allowed}`);
}

function findNamespace(procfs: Procfs, choice: NamespaceChoice): { netns: number | null; pid: number } {
  const pids = procfs.pids();
  const of = (pid: number): { netns: number | null; pid: number } => {
    const inode = procfs.netnsInode(pid);
    return { netns: failed(inode) || inode === 0 ? null : inode, pid };
  };
  if (choice.kind === 'own') return of(procfs.self ?? (pids.includes(1) ? 1 : (pids[0] ?? 1)));
  if (choice.kind === 'pid') {
    if (pids.includes(choice.number)) return of(choice.number);
    throw new Error(`Cannot read statistics of process "${choice.number}": no such process`);
  }
  if (choice.kind === 'netns') {
    const found = new Namespaces().find(procfs, pids).namespaces.find(({ inode }) => inode === choice.number);
    const [pid] = found?.pids ?? [];
    if (pid !== undefined) return { netns: choice.number, pid };
    throw new Error(`Cannot read statistics of network namespace "${choice.number}": no readable process is in it`);
  }
  const uid = choice.uid.replaceAll(/[-_]/g, '').toLowerCase();
  const pid = pids.find((candidate) => {
    const cgroup = procfs.read(candidate, 'cgroup');
    return !failed(cgroup) && parseCgroup(cgroup.toString()).podUid?.replaceAll('-', '') === uid;
  });
  if (pid !== undefined) return of(pid);
  throw new Error(
    `Cannot read statistics of pod "${cleanLabel(choice.uid)}": no process has this UID in its cgroup path`,
  );
}

function readSections(procfs: Procfs, pid: number): StatisticsSection[] {
  const text = (name: string): string | null => {
    const bytes = procfs.read(pid, `net/${name}`);
    if (!failed(bytes)) return bytes.toString('latin1');
    if (bytes === 'vanished' && name !== 'snmp') return null;
    throw new Error(`Cannot read statistics of process "${pid}": net/${name} ${FAILURES[bytes]}`);
  };
  const [snmp, netstat] = [text('snmp') ?? '', text('netstat') ?? ''];
  return readStatistics({ snmp, netstat, snmp6: text('snmp6'), xfrm: text('xfrm_stat') });
}

const FAILURES = {
  vanished: 'does not exist',
  permission: 'cannot be read: permission denied',
  unreadable: 'cannot be read',
} as const;

function withoutZeros({ title, counters }: StatisticsSection): StatisticsSection {
  return { title, counters: counters.filter(({ value }) => value !== 0) };
}

function asObject(sections: readonly StatisticsSection[]): Record<string, Record<string, number>> {
  return Object.fromEntries(
    sections.map(({ title, counters }) => [
      title,
      Object.fromEntries(counters.map(({ name, value }) => [name, value])),
    ]),
  );
}
