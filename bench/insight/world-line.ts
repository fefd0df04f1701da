/** A line of a world file: a connection, a listener, a rollout or an outage. Times are seconds from the start. */
export interface WorldLine {
  readonly at: number;
  /** When the connection or listener ends; null if it never does. */
  readonly until: number | null;
  readonly node: string;
  readonly namespace: string;
  readonly workload: string;
  readonly pod: string;
  readonly process: string | null;
  readonly process_started_at: number | null;
  readonly container_started_at: number | null;
  readonly what: 'outbound' | 'inbound' | 'listen' | 'process' | 'release' | 'down' | 'up';
  readonly transport: string | null;
  readonly network: string | null;
  readonly asn: number | null;
  readonly port: number | null;
  readonly peer: string | null;
  /** False for a call whose only trace is a TIME_WAIT row, which no process holds. */
  readonly held: boolean;
  readonly bytes_sent: number | null;
  /** The name of the injected incident; null for ordinary life. */
  readonly attack: string | null;
}

/** The kind of an incident: its name without the number. */
export function attackKind(attack: string): string {
  return attack.replace(/[-_#: ]*\d+$/, '');
}
