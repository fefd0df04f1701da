import { parseAddress } from '../common/address.ts';
import { classify } from '../common/network-class.ts';
import { parseFilters } from '../rows/filter.ts';
import type { Row } from '../model.ts';
import { isOfOwner, type HistoryRow } from './history.ts';
import type { ScanResult } from './live-scan.ts';
import { endpoint, operatorOf, ownerOf } from './terminal/row-columns.ts';
import { layTable, type Column } from './terminal/table.ts';
import { footerLines, type View } from './view.ts';

/** From how far a listener can be reached by its address, the farthest first. Firewalls are not known. */
const REACHES = ['all', 'public', 'private', 'link_local'] as const;
type Reach = (typeof REACHES)[number];

/** A listening socket that other hosts can reach, and its clients. */
interface ExposedListener {
  readonly reach: Reach;
  readonly row: Row;
  /** Open inbound connections from other hosts. */
  readonly connections: number;
  /** Their operators, most connections first. */
  readonly operators: readonly string[];
  /** Operators of inbound connections of its workload that the store remembers, newest first. */
  readonly history: readonly HistoryRow[];
}

/** The sockets that listen on an address that other hosts can reach, worst first. */
export function exposedView(filters: readonly string[], history: readonly HistoryRow[]): View {
  const matches = parseFilters(filters);
  const select = (result: ScanResult): readonly ExposedListener[] => exposed(result, matches, history);
  return {
    name: 'exposed',
    draw: (result, display) => {
      const listeners = select(result);
      const { title, lines, omitted } = layTable(COLUMNS, listeners, display);
      return [
        { text: title, key: null },
        ...lines.map((text, i) => ({ text, key: () => keyOf(listeners[i]) })),
        ...footerLines(result, omitted, display),
      ];
    },
    objects: (result) => select(result).map(objectOf),
  };
}

const COLUMNS: readonly Column<ExposedListener>[] = [
  { title: 'REACH', cell: ({ reach }) => reach },
  { title: 'NETID', cell: ({ row }) => row.transport ?? '-', dropOrder: 4 },
  { title: 'LISTENS ON', cell: ({ row }) => endpoint(row.local_address, row.local_port) },
  { title: 'PROCESS', cell: ({ row }) => ownerOf(row), minWidth: 14, tightWidth: 11 },
  { title: 'WORKLOAD', cell: ({ row }) => row.pod ?? row.workload ?? '-', minWidth: 8, dropOrder: 3 },
  { title: 'USER', cell: ({ row }) => row.user ?? String(row.uid ?? '-'), dropOrder: 5 },
  { title: 'CONNECTED', cell: ({ connections }) => String(connections), right: true, dropOrder: 2 },
  { title: 'PEERS', cell: ({ operators }) => operators.join(', ') || '-', minWidth: 18, tightWidth: 10 },
  { title: 'MET BEFORE', cell: ({ history }) => history.map(metText).join(', ') || '-', minWidth: 18, dropOrder: 6 },
];

function metText(entry: HistoryRow): string {
  return `${operatorOf({ ...entry, network: 'public' })} ${entry.first_seen.slice(0, 10)}`;
}

function exposed(
  { rows }: ScanResult,
  matches: (row: Row) => boolean,
  history: readonly HistoryRow[],
): readonly ExposedListener[] {
  const inbound = Map.groupBy(
    rows.filter(({ direction }) => direction === 'inbound'),
    portOf,
  );
  return rows
    .flatMap((row): ExposedListener[] => {
      const reach = row.direction === 'listen' && matches(row) ? reachOf(row.local_address) : null;
      if (reach === null) return [];
      const peers = (inbound.get(portOf(row)) ?? []).filter((peer) => covers(row, peer));
      const counts = [...Map.groupBy(peers, operatorOf)].map(([name, { length }]) => ({ name, length }));
      counts.sort((a, b) => b.length - a.length || (a.name < b.name ? -1 : 1));
      const met = history.filter((entry) => entry.direction === 'inbound' && isOfOwner(entry, row));
      met.sort((a, b) => (a.first_seen < b.first_seen ? 1 : -1));
      return [{ reach, row, connections: peers.length, operators: counts.map(({ name }) => name), history: met }];
    })
    .sort(worstFirst);
}

/** Widest reach first, then most operators, then a process of root, then most connections. */
function worstFirst(a: ExposedListener, b: ExposedListener): number {
  const isRoot = ({ row }: ExposedListener): number => Number(row.uid === 0);
  return (
    REACHES.indexOf(a.reach) - REACHES.indexOf(b.reach) ||
    b.operators.length - a.operators.length ||
    isRoot(b) - isRoot(a) ||
    b.connections - a.connections
  );
}

/** Null for an address that only this host can reach. */
function reachOf(text: string | null): Reach | null {
  const address = parseAddress(text ?? '');
  if (!address) return null;
  const { network } = classify(address);
  if (network === 'unspecified') return 'all';
  if (network === 'loopback') return null;
  return network === 'public' ? 'public' : network === 'link_local' ? 'link_local' : 'private';
}

function portOf({ netns, transport, local_port: port }: Row): string {
  return `${netns} ${transport} ${port}`;
}

/** Whether a connection to the port of a listener came to its address. */
function covers(listener: Row, { local_address: address, family }: Row): boolean {
  // A listener on [::] that accepts IPv4 has connections of family 6.
  return (
    listener.local_address === address || (reachOf(listener.local_address) === 'all' && listener.family === family)
  );
}

function keyOf(listener: ExposedListener | undefined): string {
  const { netns, transport, local_address, local_port, inode, pid } = listener?.row ?? {};
  return JSON.stringify([netns, transport, local_address, local_port, inode, pid]);
}

function objectOf({ reach, row, connections, operators, history }: ExposedListener): object {
  const { transport, local_address, local_port, process, pid, user, uid, namespace, pod, workload, netns } = row;
  const listener = { transport, local_address, local_port, process, pid, user, uid, namespace, pod, workload, netns };
  return { reach, ...listener, connections, operators, history };
}
