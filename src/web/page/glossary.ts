import type { Direction, State, UnattributedReason } from '../../model.ts';
import { TCP_STATES } from '../../common/tcp-states.ts';

const { established, listen, time_wait, ...others } = TCP_STATES;

/** The meaning of each socket state, the most common states first. */
export const STATE_MEANINGS: Readonly<Record<State, string>> = {
  established,
  listen,
  time_wait,
  ...others,
  unconnected: 'A UDP or raw socket without a peer; it receives from any address.',
  unknown: 'A state code that is not in the kernel headers.',
};

/** The meaning of each direction. */
export const DIRECTION_MEANINGS: Readonly<Record<Direction, string>> = {
  inbound: 'A remote connected to a service on this host.',
  outbound: 'This host connected to a remote service.',
  loopback: 'Both ends are on this host.',
  listen: 'A listening TCP socket, or a UDP socket without a peer.',
};

/** Why a socket has no known process, and how to fix it. */
export const REASON_MEANINGS: Readonly<Record<UnattributedReason, string>> = {
  permission: 'a process that peerscope may not read: run as root or with CAP_SYS_PTRACE',
  no_descriptor: 'held by the kernel, not by a process',
  short_lived: 'a connection that ended before a scan saw it open; this is normal',
  vanished: 'the process ended during the scan',
  other_pid_namespace: 'held by a process outside this PID namespace',
};
