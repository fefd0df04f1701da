import { METADATA, type Kind } from './grammar/what.ts';
import type { ThingKind } from './workload-memory.ts';

/** To how many other calm workloads a thing is known. */
export const REACHES = ['none', 'few', 'many'] as const;

export type Reach = (typeof REACHES)[number];

/** The workload or unit that a socket belongs to. */
export interface Owner {
  readonly namespace: string;
  readonly workload: string;
}

/** One piece of evidence: its points, and the reason in words. */
export interface Evidence {
  readonly kind: Kind;
  readonly what: string;
  readonly reach: Reach;
  readonly points: number;
  readonly reason: string;
}

/** Evidence that was reported: a series of `peerscope_novelty_timestamp_seconds`. Times are milliseconds since 1970. */
export interface Report extends Evidence {
  readonly owner: Owner;
  readonly process: string;
  /** When the thing was first met. */
  readonly at: number;
  /** When it became known. */
  readonly recordedAt: number;
}

/** What the points of a new thing depend on. */
export interface Circumstances {
  readonly kind: ThingKind;
  readonly what: string;
  /** The remote port, such as tcp/5432; "" if only the local one is known. */
  readonly port: string;
  /** "" if no process holds the socket. */
  readonly process: string;
  /** The process started more than ten minutes after its container; null if that is unknown. */
  readonly isLate: boolean | null;
  /** A rollout explains it: it began within the past hour, and the process began with its container. */
  readonly isReleased: boolean;
  readonly reach: Reach;
  /** The process itself was new within the past hour. */
  readonly isProcessNew: boolean;
  /** The operator is a large cloud. */
  readonly isLarge: boolean;
  /** The operator rents out single servers. */
  readonly isHosting: boolean;
  /** The workload meets new operators once a week or more often. */
  readonly isRestless: boolean;
  /** The peer is known to have been there before, so that only the call is new. */
  readonly isPeerOld: boolean;
  /** How many things of this kind the workload met for the first time within the past hour, with this one. */
  readonly newInHour: number;
  /** The reports of the workload in the past hour. */
  readonly recent: readonly Evidence[];
}

/** Ports inside a network through which a machine or cluster is administered. Source: the registry of IANA and the ports of Kubernetes. */
const ADMINISTRATIVE_PORTS: ReadonlyMap<string, string> = new Map([
  ['tcp/22', 'SSH'],
  ['tcp/23', 'Telnet'],
  ['tcp/135', 'Windows RPC'],
  ['tcp/139', 'NetBIOS'],
  ['tcp/445', 'SMB'],
  ['tcp/512', 'rexec'],
  ['tcp/513', 'rlogin'],
  ['tcp/514', 'rsh'],
  ['tcp/873', 'rsync'],
  ['tcp/2375', 'Docker'],
  ['tcp/2376', 'Docker'],
  ['tcp/2379', 'etcd'],
  ['tcp/2380', 'etcd'],
  ['tcp/3389', 'RDP'],
  ['tcp/5900', 'VNC'],
  ['tcp/5985', 'WinRM'],
  ['tcp/5986', 'WinRM'],
  ['tcp/6443', 'the Kubernetes API'],
  ['tcp/10250', 'the kubelet'],
  ['tcp/10255', 'the kubelet'],
]);

/** Ports of databases and queues, where the data is. Source: the registry of IANA and the defaults of the projects. */
const DATA_PORTS: ReadonlySet<string> = new Set(
  [1433, 1521, 2181, 3306, 5432, 5984, 6379, 8086, 8123, 9042, 9092, 9200, 9300, 11_211, 26_257, 27_017].map(
    (port) => `tcp/${port}`,
  ),
);

/** Services that give control of a cluster (MITRE ATT&CK T1613, T1609). */
const ADMINISTRATIVE_PEERS: ReadonlySet<string> = new Set(['default/kubernetes']);

/**
 * Programs that hold a connection only when a person or an intruder types: shells, and tools that join a connection to a shell (MITRE
 * ATT&CK T1059, T1095; the same names are in Falco's rules "Netcat Remote Code Execution" and "Redirect STDOUT/STDIN").
 */
const SHELLS: ReadonlySet<string> = new Set(
  'sh bash dash ash zsh ksh csh tcsh fish pwsh nc ncat netcat nc.openbsd nc.traditional socat telnet'.split(' '),
);

const SHELL = 'It is a shell, or a tool that connects one to a network.';

/** Whether a process is a shell, or a tool that connects one to a network. */
export function isShell(process: string): boolean {
  return SHELLS.has(process.toLowerCase());
}

/** Folders that every user can write to, and programs without a file (MITRE ATT&CK T1036.005, T1620). */
const TEMPORARY = /^\/(?:(?:tmp|var\/tmp|dev\/shm|run\/user)\/|memfd:)/;

/** This number of new peers in an hour is a search, whatever they are. */
const WATCHED_PEERS = 3;

/**
 * The points of a new thing of a calm workload: 3 points in an hour are critical, 2 a warning, 1 is information. Null if it is not
 * evidence.
 */
export function judge(circumstances: Circumstances): Evidence | null {
  const { kind, what, reach, isLate, isReleased } = circumstances;
  const judged = POINTS[kind](circumstances);
  // A rollout explains one point, of a process that started with its container. It does not explain an operator that no other workload
  // calls: such is a release with a foreign part in it.
  const isForeign = kind === 'operator' && reach === 'none' && judged.isFurther !== true;
  const explained = isReleased && isLate !== true && !isForeign ? 1 : 0;
  const points = judged.points - explained;
  if (points <= 0) return null;
  const published = kind === 'metadata_caller' ? METADATA : what;
  return { kind: PUBLISHED[kind], what: published, reach, points, reason: judged.reason };
}

/** The published kind of each kind of thing. */
export const PUBLISHED: Readonly<Record<ThingKind, Kind>> = {
  operator: 'operator',
  port: 'port',
  process: 'process',
  caller: 'process',
  server: 'process',
  peer: 'peer',
  inner_port: 'inner_port',
  listener: 'listener',
  metadata: 'metadata',
  metadata_caller: 'metadata',
  administrator: 'operator',
  client: 'operator',
  program: 'process',
};

interface Judged {
  readonly points: number;
  /** More of the same within the hour. */
  readonly isFurther?: boolean;
  readonly reason: string;
}

const KNOWN_TO: Readonly<Record<Reach, string>> = {
  none: 'No other calm workload knows it.',
  few: 'A few other calm workloads know it.',
  many: 'Many other calm workloads know it.',
};

const POINTS: Readonly<Record<ThingKind, (circumstances: Circumstances) => Judged>> = {
  operator: ({ what, reach, isLarge, isRestless, recent }) => {
    const weight = isLarge || reach !== 'none' || isRestless ? 1 : 2;
    const others = recent.filter(({ kind }) => kind === 'operator');
    const counted = Math.max(0, ...others.map(({ points }) => Math.min(points, 2)));
    const further = others.length > 0 && others.length <= 2 && !isLarge && reach !== 'many' ? 1 : 0;
    const points = Math.max(weight - counted, further);
    return {
      points,
      isFurther: further > 0 && points === further,
      reason: `First call to the operator ${what}. ${isLarge ? 'It is a large cloud.' : KNOWN_TO[reach]}`,
    };
  },

  // A port that many know says nothing more than the operator.
  port: ({ what, reach }) => ({
    points: reach === 'many' ? 0 : 1,
    reason: `First call to the remote port ${what}. ${KNOWN_TO[reach]}`,
  }),

  process: ({ process, isLate }) => ({
    points: isLate === true ? 1 : 0,
    reason: `${process} held a socket for the first time, and started more than ten minutes after its container.`,
  }),

  caller: ({ process, isLate, isReleased, isProcessNew, reach }) => {
    const reason = `${process} called out for the first time.`;
    const points = isLate === true || (isProcessNew && !isReleased) ? 1 : 0;
    if (isShell(process)) return { points: points + 1, reason: `${reason} ${SHELL}` };
    if (isLate === true && isProcessNew && reach === 'none')
      return { points: points + 1, reason: `${reason} ${KNOWN_TO.none}` };
    return { points, reason };
  },

  server: ({ process, isLate, port }) => {
    const points = isLate === true ? 1 : 0;
    // Without a port it held a connection that had come in, as a shell on a socket of the service does.
    return port === '' && isShell(process)
      ? { points: points + 2, reason: `${process} held an inbound connection for the first time. ${SHELL}` }
      : { points, reason: `${process} listened for the first time.` };
  },

  peer: ({ what, port, reach, isLate, isPeerOld, newInHour, recent }) => {
    if (ADMINISTRATIVE_PEERS.has(what))
      return { points: 3, reason: `First call to ${what}, which controls the cluster.` };
    const isRare = isLate === true || reach === 'few' || (reach === 'none' && isPeerOld);
    const own = isRare ? (DATA_PORTS.has(port) ? 2 : 1) : 0;
    const counted = recent.reduce((sum, { kind, points }) => (kind === 'peer' ? sum + points : sum), 0);
    const points = Math.min(2 - counted, newInHour >= WATCHED_PEERS ? 2 : own);
    return { points, reason: `First call to ${what}. ${KNOWN_TO[reach]}` };
  },

  // A new peer mostly has a port of its own: the two together are one fact.
  inner_port: ({ what, recent }) => {
    const service = ADMINISTRATIVE_PORTS.get(what);
    if (service !== undefined)
      return { points: 2, reason: `First call to ${what} inside the network, the port of ${service}.` };
    const points = recent.some(({ kind }) => kind === 'peer') ? 0 : 1;
    return { points, reason: `First call to the port ${what} inside the network.` };
  },

  listener: ({ what, process, isLate }) => {
    const points = what === 'listen/udp/ephemeral' ? (isLate === true ? 2 : 1) : isLate === true ? 3 : 2;
    return {
      points,
      reason: `${process || 'A process'} listens on ${what.slice('listen/'.length)} for the first time${isLate === true ? ', and started more than ten minutes after its container' : ''}.`,
    };
  },

  metadata: ({ process }) => ({
    points: 3,
    reason: `First call to the cloud metadata service, which hands out credentials${process === '' ? '' : `, by ${process}`}.`,
  }),

  // A program of its own in a workload that calls the metadata service anyway.
  metadata_caller: ({ process, isLate, recent }) => ({
    points: isLate === true && !recent.some(({ kind }) => kind === 'metadata') ? 3 : 0,
    reason: `First call of ${process} to the cloud metadata service, which hands out credentials.`,
  }),

  // A process with a new name is evidence by its name.
  program: ({ what, process, isProcessNew, isLate }) => {
    const path = what.slice('process/'.length);
    const isHidden = TEMPORARY.test(path);
    return {
      points: isProcessNew ? 0 : isHidden || isLate === true ? 2 : 1,
      reason: `${process} ran from ${path} for the first time.${isHidden ? ' Programs are not installed there.' : ''}`,
    };
  },

  // Strangers connect to public services: that is what these are for.
  client: ({ what }) => ({ points: 0, reason: `First connection from the operator ${what}.` }),

  administrator: ({ what, reach, isHosting }) => ({
    points: (reach === 'many' ? 1 : 2) + (isHosting ? 1 : 0),
    reason: `First connection from the operator ${what} to a service for administrators.${isHosting ? ' It is a hosting company.' : ''} ${KNOWN_TO[reach]}`,
  }),
};
