import type { Direction, State, UnattributedReason } from '../model.ts';

/** What each state of a socket means, the usual ones first. */
export const STATE_MEANINGS: Readonly<Record<State, string>> = {
  established: 'Both ends can send and receive.',
  listen: 'A server waits here for connections; nobody is at the other end.',
  time_wait:
    'Closed, by this end first; the kernel keeps it for a minute, so that late packets meet no newer connection.',
  close_wait:
    'The other end has closed and the process here has not: a number that keeps growing is a leak in that process.',
  syn_sent:
    'This host asked for a connection and has no answer yet: many of them mean that somebody drops the question.',
  syn_received: 'Another host asked for a connection, this one agreed, and the last word of the handshake is awaited.',
  fin_wait_1: 'This end has closed, and waits for the other to confirm that.',
  fin_wait_2: 'The other end confirmed the close of this one, and has yet to close itself.',
  last_ack: 'The other end closed first, this one did too, and waits for the last confirmation.',
  closing: 'Both ends closed at the same moment, and this one waits for the last confirmation.',
  closed: 'Over: the socket is about to go.',
  unconnected: 'Not TCP: a UDP or raw socket that has no peer, and takes what anybody sends.',
  unknown: 'A state that no kernel header names.',
};

/** Which side of a conversation a socket is. */
export const DIRECTION_MEANINGS: Readonly<Record<Direction, string>> = {
  inbound: 'Others called a service of this host.',
  outbound: 'This host called a service elsewhere.',
  loopback: 'Both ends are here.',
  listen: 'A service that waits: listening TCP, and UDP without a peer.',
};

/** Why a socket has no process, and what would help. */
export const REASON_MEANINGS: Readonly<Record<UnattributedReason, string>> = {
  permission: 'perhaps of a process that may not be read: run as root, or with CAP_SYS_PTRACE',
  no_descriptor: 'held by no process: the kernel itself, or what a process left behind',
  vanished: 'the process ended while it was looked for',
  other_pid_namespace: 'held by a process that this PID namespace does not show',
};
