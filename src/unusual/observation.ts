import { isShell, type Owner } from './evidence.ts';
import {
  isEphemeral,
  listenerWhat,
  METADATA,
  operatorWhat,
  portWhat,
  programWhat,
  withoutRelease,
} from './grammar/what.ts';
import type { ThingKind } from './workload-memory.ts';

/** Local ports of services through which administrators come in, if the process is not known by name. */
const ADMINISTRATIVE_LOCAL_PORTS: ReadonlySet<number> = new Set([
  22, 23, 2375, 2376, 3389, 5900, 5985, 5986, 6443, 10250,
]);
const ADMINISTRATIVE_PROCESSES: ReadonlySet<string> = new Set(
  'sshd sshd-session dropbear in.telnetd telnetd xrdp Xvnc x11vnc cockpit-ws dockerd kubelet kube-apiserver etcd'.split(
    ' ',
  ),
);

/** What is known of the process that holds a socket. */
export interface Holder {
  /** "" if no process holds it. */
  readonly process: string;
  /** Milliseconds since 1970; null if unknown. */
  readonly startedAt: number | null;
  /** When its container or unit started. */
  readonly containerStartedAt: number | null;
  /** The path of its executable; absent if it cannot be read. */
  readonly executable?: string;
}

interface Observed {
  readonly owner: Owner;
  /** Who answers for the socket, such as a user: workloads outside of namespaces share the memory by that. */
  readonly tenant?: string;
  readonly holder: Holder;
  /** When it opened, or was seen first. */
  readonly at: number;
  /** When another process held it first; absent if the same one has held it from the start. */
  readonly heldAt?: number;
}

/** A socket, with all that is known about it. It is observed when it opens, when more becomes known, and once an hour while it is open. */
export type Observation =
  | (Observed & {
      readonly event: 'outbound';
      readonly transport: string;
      readonly network: 'public' | 'inside' | 'cloud_metadata';
      /** 0 or null if it is not announced or not known yet. */
      readonly asn: number | null;
      readonly port: number;
      /** Inside: the Service or workload, such as shop/ledger, else the address; null if unknown. */
      readonly peer: string | null;
    })
  | (Observed & {
      readonly event: 'inbound';
      readonly network: 'public' | 'inside';
      readonly asn: number | null;
      readonly localPort: number;
    })
  /** A listener that other hosts can reach. */
  | (Observed & { readonly event: 'listen'; readonly transport: string; readonly port: number });

/** A thing that an observation shows; `isOfHolder` if it is about the process and not about the socket. */
export interface Thing {
  readonly kind: ThingKind;
  readonly what: string;
  readonly isOfHolder: boolean;
}

/** What a workload meets with a socket. */
export function thingsIn(observation: Observation): Thing[] {
  const { holder, event } = observation;
  const name = withoutRelease(holder.process);
  const things: Thing[] = [];
  const add = (kind: ThingKind, what: string): void => void things.push({ kind, what, isOfHolder: false });
  const addProcess = (kind: ThingKind, what = `process/${name}`): void => {
    if (name !== '') things.push({ kind, what, isOfHolder: true });
  };
  if (event === 'inbound') {
    const { asn, localPort, network } = observation;
    if (isShell(name)) {
      addProcess('process');
      addProcess('server');
    }
    if (network !== 'public' || !asn) return things;
    add('client', operatorWhat(asn));
    if (ADMINISTRATIVE_PROCESSES.has(holder.process) || ADMINISTRATIVE_LOCAL_PORTS.has(localPort))
      add('administrator', operatorWhat(asn));
    return things;
  }
  addProcess('process');
  if (holder.executable !== undefined) addProcess('program', programWhat(holder.executable));
  if (event === 'listen') {
    add('listener', listenerWhat(observation.transport, observation.port));
    addProcess('server');
    return things;
  }
  const { transport, network, asn, port, peer } = observation;
  if (network === 'cloud_metadata') {
    add('metadata', METADATA);
    addProcess('metadata_caller');
    addProcess('caller');
  } else if (network === 'public') {
    // The port follows the operator, which weighs more.
    if (asn) add('operator', operatorWhat(asn));
    add('port', portWhat(transport, port));
    addProcess('caller');
  } else {
    if (peer !== null) add('peer', peer);
    // Answers to a client that is taken for a server come from an ephemeral port.
    if (!isEphemeral(port) || peer !== null) add('inner_port', portWhat(transport, port));
  }
  return things;
}
