import type { DiagRows, EndedSockets } from './sock-diag.ts';

/** The TCP sockets of one network namespace. */
export interface SocketDump {
  /** The inode number of its ns/net. */
  readonly netns: number;
  readonly tcp: DiagRows;
  readonly tcp6: DiagRows;
}

/** Where dumps of sockets and events of ended sockets come from. */
export interface SocketSource {
  /** `own`: events of one namespace; `all`: of every namespace that has a number in it. Dumps are of one namespace. */
  readonly scope: 'own' | 'all';
  readonly isUp: boolean;
  /** Why it is not up. */
  readonly failure: string | null;
  /** The inode number of the ns/net of its namespace; null until known. */
  readonly netns: number | null;
  /** Ended sockets received. */
  readonly events: number;
  /** Events that were lost: the receive buffer of the kernel was full, or too many waited to be taken. */
  readonly overruns: number;
  /** Dumps all TCP sockets. Resolves with null if there is no complete dump within this time. The rows are valid until the next call. */
  dump(withinMs: number): Promise<SocketDump | null>;
  /** The sockets that ended since the last call. They are valid until the next call. */
  takeEnded(): EndedSockets;
  /** The numbers of the namespaces of these processes; processes whose namespace has none are left out. */
  nsidsOf(pids: readonly number[]): Promise<ReadonlyMap<number, number>>;
  close(): void;
}
