import type { State, Transport } from '../model.ts';

/**
 * State names of ss (iproute2, misc/ss.c) and of netstat on Linux, busybox, BSD, macOS and Windows (English and German), in upper
 * case with "_" instead of "-".
 */
const TCP_STATES: ReadonlyMap<string, State> = new Map<string, State>([
  ['ESTAB', 'established'],
  ['ESTABLISHED', 'established'],
  ['HERGESTELLT', 'established'],
  ['SYN_SENT', 'syn_sent'],
  ['SYN_SEND', 'syn_sent'],
  ['SYN_GESENDET', 'syn_sent'],
  ['SYN_RECV', 'syn_received'],
  ['SYN_RCVD', 'syn_received'],
  ['SYN_RECEIVED', 'syn_received'],
  ['FIN_WAIT1', 'fin_wait_1'],
  ['FIN_WAIT_1', 'fin_wait_1'],
  ['FIN_WAIT2', 'fin_wait_2'],
  ['FIN_WAIT_2', 'fin_wait_2'],
  ['TIME_WAIT', 'time_wait'],
  ['TIMED_WAIT', 'time_wait'],
  ['WARTEND', 'time_wait'],
  ['UNCONN', 'closed'],
  ['CLOSE', 'closed'],
  ['CLOSED', 'closed'],
  ['BOUND', 'closed'],
  ['CLOSE_WAIT', 'close_wait'],
  ['SCHLIESSEN_WARTEN', 'close_wait'],
  ['LAST_ACK', 'last_ack'],
  ['LISTEN', 'listen'],
  ['LISTENING', 'listen'],
  ['CLOSING', 'closing'],
  ['UNKNOWN', 'unknown'],
]);

const OTHER_STATES: ReadonlyMap<string, State> = new Map<string, State>([
  ['UNCONN', 'unconnected'],
  ['IDLE', 'unconnected'],
  ['UNBOUND', 'unconnected'],
  ['CLOSE', 'unconnected'],
  ['ESTAB', 'established'],
  ['ESTABLISHED', 'established'],
  ['CONNECTED', 'established'],
  ['UNKNOWN', 'unknown'],
]);

/** The state for a name; undefined if it is unknown, null if it is ambiguous without a transport. */
export function stateOfWord(word: string, transport: Transport | null): State | null | undefined {
  const name = word.toUpperCase().replaceAll('-', '_');
  // ABHÖREN (LISTENING in German), also in the wrong code page.
  const tcp = TCP_STATES.get(name) ?? (/^ABH.{1,3}REN$/su.test(name) ? 'listen' : undefined);
  if (transport === 'tcp') return tcp;
  const other = OTHER_STATES.get(name);
  if (transport !== null) return other;
  return other === undefined || other === tcp ? tcp : null;
}
