import { FIN_ABSENT, FIN_COUNTED, FIN_UNLESS_TIME_WAIT, EndedSockets } from '../collect/sock-diag.ts';
import { copyRow } from './ended-rows.ts';

/** How long the event of the other end is waited for, in milliseconds. */
const PAIR_MS = 100;

/**
 * Ended sockets whose other end is on this host too: what one end received is what the other one sent, so that it is certain whether
 * the total of the kernel counts a FIN. Without the other end, the last byte may be one too many or too few.
 */
export class EndedPairs {
  /** Uncertain rows of the end of the last batch. */
  #young = new EndedSockets();

  /**
   * Corrects the received payload of a batch, and passes its rows on. With `mayWait`, uncertain rows whose other end may come with the
   * next batch are passed on with that.
   */
  pass(ended: EndedSockets, mayWait: boolean, take: (rows: EndedSockets, row: number) => void): void {
    const young = this.#young;
    correct(young, ended);
    for (let row = 0; row < young.count; row++) take(young, row);
    young.clear();
    const last = ended.count > 0 ? (ended.receivedAt[ended.count - 1] ?? 0) : 0;
    for (let row = 0; row < ended.count; row++) {
      const waits = mayWait && ended.fin[row] === FIN_UNLESS_TIME_WAIT && (ended.receivedAt[row] ?? 0) > last - PAIR_MS;
      if (waits) copyRow(ended, row, young);
      else take(ended, row);
    }
  }
}

/** Sets the received payload of rows by what their other ends sent. */
function correct(first: EndedSockets, second: EndedSockets): void {
  const byEnds = new Map<number, number>();
  const count = first.count + second.count;
  const rowsOf = (n: number): EndedSockets => (n < first.count ? first : second);
  const rowOf = (n: number): number => (n < first.count ? n : n - first.count);
  for (let n = 0; n < count; n++) {
    const [rows, row] = [rowsOf(n), rowOf(n)];
    if (rows.hasTotals[row] === 1) byEnds.set(hashOf(rows.local, rows.localPort, rows.remote, rows.remotePort, row), n);
  }
  for (let n = 0; n < count; n++) {
    const [rows, row] = [rowsOf(n), rowOf(n)];
    if (rows.hasTotals[row] !== 1 || rows.fin[row] === FIN_COUNTED) continue;
    const other = byEnds.get(hashOf(rows.remote, rows.remotePort, rows.local, rows.localPort, row));
    if (other === undefined) continue;
    const [others, otherRow] = [rowsOf(other), rowOf(other)];
    if (isOtherEnd(rows, row, others, otherRow)) correctRow(rows, row, others.sentBytes[otherRow] ?? 0);
  }
}

/** The total of the kernel is the payload, or one more if it counts the FIN. */
function correctRow(rows: EndedSockets, row: number, sent: number): void {
  const received = rows.receivedBytes[row] ?? 0;
  const most = rows.fin[row] === FIN_ABSENT ? received : received + 1;
  if (sent !== most && sent !== most - 1) return;
  rows.receivedBytes[row] = sent;
  rows.fin[row] = FIN_COUNTED;
}

function isOtherEnd(a: EndedSockets, i: number, b: EndedSockets, j: number): boolean {
  if (a.localPort[i] !== b.remotePort[j] || a.remotePort[i] !== b.localPort[j]) return false;
  for (let word = 0; word < 4; word++)
    if (a.local[i * 4 + word] !== b.remote[j * 4 + word] || a.remote[i * 4 + word] !== b.local[j * 4 + word])
      return false;
  return true;
}

/** A collision leaves the rows as they are. */
function hashOf(from: Uint32Array, fromPort: Uint16Array, to: Uint32Array, toPort: Uint16Array, row: number): number {
  let hash = 0;
  for (let word = row * 4; word < row * 4 + 4; word++) {
    hash = Math.imul(hash ^ (from[word] ?? 0), 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ (to[word] ?? 0), 0x85ebca6b);
  }
  return ((hash >>> 11) * 65536 + (fromPort[row] ?? 0)) * 65536 + (toPort[row] ?? 0);
}
