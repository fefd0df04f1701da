import type { ServiceNames } from '../common/etc-services.ts';
import type { OwnerLabels } from '../model.ts';
import type { Dialect } from '../parse/dialects.ts';
import type { ParsedRow } from '../parse/text-reader.ts';
import { CommandHost, lacksPeer, socketKey } from './command-host.ts';
import { ConnectionTable } from './connection-table.ts';
import { DEFAULT_EPHEMERAL_PORTS, type PortRange } from './direction.ts';
import { EPHEMERAL_PORTS, type CommandOutput, type Commands } from './ss-netstat.ts';

/** The system of a format, where its ephemeral ports are not those of Linux. */
const SYSTEMS: Readonly<Partial<Record<Dialect, NodeJS.Platform>>> = {
  bsd: 'darwin',
  windows: 'win32',
  powershell: 'win32',
  sockstat: 'freebsd',
};
const NO_LABELS: OwnerLabels = { process: '', namespace: '', workload: '', pod: '', container: '' };

/**
 * Output of commands that was saved, on one or more hosts: each text is that of a host. A row that its text already has is of a later
 * output, so it counts as one of another host.
 */
export class SavedOutput implements Commands {
  readonly isThisHost = false;
  readonly last: string;
  readonly malformed: number;
  readonly #output: CommandOutput;
  readonly #dialects = new Map<number, Dialect>();

  /** `name` says where it was saved. */
  constructor(name: string, rows: readonly ParsedRow[], malformed: CommandOutput['malformed']) {
    this.last = name;
    this.malformed = malformed.length;
    const occurrences = new Map<string, number>();
    const numbers = new Map<string, number>();
    const hosts = rows.map(({ row, text, dialect }) => {
      const key = `${text} ${socketKey(row)}`;
      const occurrence = occurrences.get(key) ?? 0;
      occurrences.set(key, occurrence + 1);
      const host = numbers.get(`${text} ${occurrence}`) ?? numbers.size;
      numbers.set(`${text} ${occurrence}`, host);
      this.#dialects.set(host, dialect);
      return host;
    });
    this.#output = { command: name, rows: rows.map(({ row }) => row), malformed, names: new Map(), hosts };
  }

  ephemeralPortsOf(host: number): PortRange {
    const dialect = this.#dialects.get(host);
    const system = dialect && SYSTEMS[dialect];
    return (system && EPHEMERAL_PORTS[system]) ?? DEFAULT_EPHEMERAL_PORTS;
  }

  read(): CommandOutput {
    return this.#output;
  }
}

/** Sets the directions of rows, by the rules for the sockets of a host: listeners and mirrors in the same text show them. */
export function setDirections(rows: readonly ParsedRow[], services: ServiceNames): void {
  const connections = new ConnectionTable(0, services);
  const host = new CommandHost(new SavedOutput('text', rows, []), connections, { labelsOf: () => NO_LABELS });
  host.collect(0);
  for (const i of connections.indexes()) {
    const row = host.commandRow(i);
    if (!row) continue;
    row.direction = lacksPeer(row) ? null : (connections.direction[i] ?? null);
    row.direction_evidence = lacksPeer(row) ? null : (connections.evidence[i] ?? null);
  }
}
