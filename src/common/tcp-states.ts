import type { State } from '../model.ts';

/** A one-sentence explanation of each TCP state, in the order of a connection's life (RFC 9293 section 3.3.2). */
export const TCP_STATES = {
  listen: 'A server waits on this port for connections.',
  syn_sent:
    'This end has asked for a connection and waits for the answer; many of them mean a remote that does not answer.',
  syn_received:
    'A connection was asked for and answered, and waits for the last step of the handshake; many of them may be a SYN flood.',
  established: 'The connection is open, and both ends may send.',
  fin_wait_1: 'This end has closed and waits for the remote to confirm that.',
  fin_wait_2: 'This end has closed, the remote knows it and has yet to close its own side.',
  close_wait:
    'The remote has closed, and the program on this side has yet to; many of them mean a program that forgets to close.',
  closing: 'Both ends closed at the same time, and the remote has yet to confirm that.',
  last_ack: 'Both ends have closed, and this one, the second, waits for the last confirmation.',
  time_wait: 'All is over, and the ports stay taken for a minute so that late packets cannot reach another connection.',
  closed: 'The socket is bound to a port and neither listens nor is connected.',
} as const satisfies Partial<Record<State, string>>;
