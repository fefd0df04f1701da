import type { State, Transport } from '../model.ts';
import type { Dialect } from './dialects.ts';
import { isUnspecified, type TextEndpoint } from './endpoint.ts';
import type { LineRow } from './line.ts';
import type { Wildcard } from './row.ts';
import { readSsHeader } from './ss.ts';
import { isTcpState } from './states.ts';

/** Rows below one header. Without a Netid column, ss prints one transport only. */
export interface Section {
  readonly hasOneTransport: boolean;
  transport: 'tcp' | null;
  isOpen: boolean;
}

/** What rows and headers show about other rows of the text: the family of "*", the width of columns, and the transport. */
export class Inference {
  /** The family of "*" in ss: IPv4 before 4.14, dual-stack since. */
  wildcard: Wildcard = null;
  /** Addresses are not truncated. */
  isWide = false;
  section: Section = { hasOneTransport: false, transport: null, isOpen: true };
  /** The transport of rows that do not show theirs. */
  readonly #transport: Transport | null;
  readonly #stars = new Set<string>();
  readonly #anyIPv6 = new Set<string>();

  constructor(transport: Transport | null) {
    this.#transport = transport;
  }

  /** Begins the rows below a header. */
  begin(dialect: Dialect, header: string): void {
    this.section.isOpen = false;
    const { isNew, hasNetid } = dialect === 'ss' ? readSsHeader(header) : { isNew: false, hasNetid: true };
    if (isNew) this.wildcard = 6;
    this.section = { hasOneTransport: !hasNetid, transport: null, isOpen: true };
  }

  /** Only TCP has details such as a congestion window. */
  takeDetail(text: string): void {
    if (/\b(?:cwnd|rto|mss|bytes_acked):\d/.test(text)) this.section.transport = 'tcp';
    this.#takeCgroup(text);
  }

  take(dialect: Dialect | null, row: LineRow, text: string): void {
    const { local, remote, state } = row;
    const ends = [local, remote];
    if (dialect === 'ss') {
      if (isTcpState(state)) this.section.transport = 'tcp';
      this.wildcard ??= this.#wildcardOf(row);
      this.#takeCgroup(text);
    }
    if (dialect === 'net-tools') this.isWide ||= ends.some((end) => end.form === 'ipv6' && isBeyondWidth(end));
    if (dialect === 'bsd') this.isWide ||= ends.some(({ address }) => (address?.length ?? 0) > 12);
  }

  /** Whether a later line may still show more about a row. */
  isUndecided({ family, transport, local, remote }: LineRow, dialect: Dialect | null, section: Section): boolean {
    const isAmbiguous = family === null && local.form === '*' && this.wildcard === null && dialect === 'ss';
    const isUnknown = transport === null && this.#transport === null;
    const mayBeTcp = isUnknown && section.hasOneTransport && section.transport === null && section.isOpen;
    return isAmbiguous || mayBeTcp || (!this.isWide && (local.mayBeTruncated || remote.mayBeTruncated));
  }

  /** The row with what its section shows. */
  complete(row: LineRow, section: Section): LineRow {
    const transport = this.#transport ?? (section.hasOneTransport ? section.transport : null);
    if (row.transport !== null || transport === null) return row;
    const closed: State = transport === 'tcp' ? 'closed' : 'unconnected';
    return { ...row, transport, state: row.state === null && row.hasState ? closed : row.state };
  }

  #wildcardOf({ transport, local, remote }: LineRow): Wildcard {
    const ends = [local, remote];
    // Since 4.14, an unspecified IPv4 address is 0.0.0.0, and the peer of an IPv6 listener may be "*".
    if (ends.some(({ address, isBracketed }) => address === '0.0.0.0' && !isBracketed)) return 6;
    const isAnyPeer = remote.form === '*' && isUnspecified(remote);
    if (isAnyPeer && local.form === 'ipv6' && local.isBracketed) return 6;
    // Before, the peer of an IPv4 listener is "*", and IPv6 addresses have no brackets (until 4.13).
    if (isAnyPeer && local.form === 'ipv4') return 4;
    if (ends.some(({ form, isBracketed }) => form === 'ipv6' && !isBracketed)) return 4;
    // A dual-stack listener and an IPv6 listener cannot have the same port.
    const port = `${transport ?? ''} ${local.port ?? local.service ?? ''}`;
    const isAny = isUnspecified(remote) && (local.port !== null || local.service !== null);
    if (isAny && local.form === '*' && this.#stars.size < MAX_PORTS) this.#stars.add(port);
    if (isAny && local.form === 'ipv6' && local.address === '::' && this.#anyIPv6.size < MAX_PORTS)
      this.#anyIPv6.add(port);
    return this.#stars.has(port) && this.#anyIPv6.has(port) ? 4 : null;
  }

  /** Releases with cgroups are newer than 4.14. */
  #takeCgroup(text: string): void {
    if (text.includes(' cgroup:')) this.wildcard ??= 6;
  }
}

/** Maximum number of ports to remember. */
const MAX_PORTS = 10_000;

function isBeyondWidth({ address, port, service }: TextEndpoint): boolean {
  return (address?.length ?? 0) + 1 + (service ?? String(port ?? '*')).length > 23;
}
