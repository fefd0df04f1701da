import { EndedSockets, parseEnded } from '../../src/collect/sock-diag.ts';

export interface Payload {
  readonly sent: number;
  readonly received: number;
}

/** One end of a connection, as endings.py prints it. */
export interface Ending extends Payload {
  readonly name: string;
  readonly side: 'client' | 'server';
  readonly lastState: number;
  readonly wasHeld: boolean;
  readonly leftTimeWait: boolean;
  readonly peerSent: number;
  /** The datagram in hexadecimal, of a little-endian machine. */
  readonly event: string;
}

/** The ends of connections whose event does not say enough: what is counted for them, minus what they received. */
const OFF_BY: Readonly<Record<string, number>> = {
  // The RST removed the TIME_WAIT row before a scan saw it.
  'server: reset by a peer that had closed': -1,
  'client: data for a client that had closed': -1,
};

/** Those that are exact only if the other end is on the same host. */
const OFF_BY_ALONE: Readonly<Record<string, number>> = {
  ...OFF_BY,
  // It is active, and has read the end of the stream.
  'client: shutdown(SHUT_WR), then read to the end': 1,
  // It read the FIN, and was reset before it sent its own.
  'server: shutdown(SHUT_WR), then close with 50 unread bytes': 1,
  // It is the same as an unread FIN.
  'client: close with one unread byte': -1,
  // Of unread bytes the last may be a FIN.
  'client: close with 500 unread bytes and the FIN': 1,
  'server: close with 500 unread bytes and the FIN': -1,
};

/** What must be counted for an end of a connection. */
export function expectedOf({ side, name, sent, received }: Ending, { knowsPeer = false } = {}): Payload {
  return { sent, received: received + ((knowsPeer ? OFF_BY : OFF_BY_ALONE)[`${side}: ${name}`] ?? 0) };
}

/** The payload that its event gives, with or without what is known of the other end. */
export function receivedOf(ending: Ending, { knowsPeer = false } = {}): Payload {
  const rows = new EndedSockets(1);
  parseEnded(Buffer.from(ending.event, 'hex'), true, -1, 0, rows);
  const facts = { ...ending, peerSentBytes: knowsPeer ? ending.peerSent : null };
  return { sent: rows.sentBytes[0] ?? -1, received: rows.receivedBytesOf(0, facts) };
}
