import type { Direction, State, UnattributedReason } from '../../model.ts';
import { TCP_STATES } from '../../common/tcp-states.ts';

const { established, listen, time_wait, ...others } = TCP_STATES;

/** What each state of a socket means, the usual ones first. */
export const STATE_MEANINGS: Readonly<Record<State, string>> = {
  established,
  listen,
  time_wait,
  ...others,
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
  no_descriptor: 'held by no process but by the kernel itself',
  short_lived: 'an ended connection that no scan saw open: no fault',
  vanished: 'the process ended while it was looked for',
  other_pid_namespace: 'held by a process that this PID namespace does not show',
};
