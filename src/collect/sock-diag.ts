import { SocketRows } from './net-tcp-udp-raw.ts';
export class DiagRows extends SocketRows {
  cookie = new Float64Array(0);
  hasTotals = new Uint8Array(0);
  sentBytes = new Float64Array(0);
  receivedBytes = new Float64Array(0);
  retransmittedBytes = new Float64Array(0);
  roundTripUs = new Uint32Array(0);
  minRoundTripUs = new Uint32Array(0);
}
export class EndedSockets extends DiagRows {
  table = new Uint8Array(0);
  nsid = new Int32Array(0);
  receivedAt = new Float64Array(0);
}
