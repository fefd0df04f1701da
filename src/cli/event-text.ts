import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import { bytesOf, secondsOf } from '../common/units.ts';
import type { ConnectionEvent, Row } from '../model.ts';
import { cellsOf, fit } from './terminal/width.ts';
import { endpoint, operatorOf, ownerOf } from './terminal/row-columns.ts';

/** What `events` prints: an event, a row of the snapshot, or the number of dropped lines. */
type Printed = Partial<ConnectionEvent> & { readonly at: string; readonly count?: number };

/** Where the rest of an event that is longer than the screen begins. */
const INDENT = ' '.repeat(10);

/**
 * One line of text for an event: time, event, transport, ends, process, state, peer, and at the end duration and bytes. With a width,
 * the time is without date and milliseconds, and what does not fit is on further lines.
 */
export function eventText(given: object, width = Infinity): string {
  const event = given as Printed;
  const at = width === Infinity ? event.at.replace('T', ' ').replace('Z', '') : event.at.slice(11, 19);
  const name = event.event ?? 'open';
  if (event.count !== undefined) return `${at}  ${name.padEnd(7)}  ${event.count} lines, because the reader is slow`;
  const row = given as Row;
  const arrow = row.direction === 'inbound' ? '<-' : '->';
  const remote =
    row.remote_address === null && row.remote_port === null ? '*' : endpoint(row.remote_address, row.remote_port);
  const parts = [
    at,
    name.padEnd(7),
    row.transport ?? '-',
    `${endpoint(row.local_address, row.local_port)} ${row.direction === 'listen' ? 'listens' : `${arrow} ${remote}`}`,
    ownerOf(row),
    changeOf(event),
    row.pod ?? row.workload ?? '',
    operatorOf(row),
    ...endOf(event),
  ];
  const shown = parts.map((part) => withoutControls(part)).filter((part) => part !== '');
  return width === Infinity ? shown.join('  ') : wrapParts(shown, width);
}

/** A part that is longer than a line is cut. */
function wrapParts(parts: readonly string[], width: number): string {
  const [first = '', ...rest] = parts;
  const lines = [first];
  for (const part of rest) {
    const longer = `${lines.at(-1) ?? ''}  ${part}`;
    if (cellsOf(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(INDENT + part);
  }
  return lines.map((line) => fit(line, width)).join('\n');
}

function changeOf({ event, state, previous }: Printed): string {
  if (event === 'state') return `${previous ?? 'unknown'} > ${state ?? 'unknown'}`;
  if (event === 'owner') return `was ${cleanLabel(previous ?? 'unknown')}`;
  return state ?? '';
}

/** How long a closed connection was open, and its bytes. */
function endOf(event: Printed): string[] {
  if (event.event !== 'closed') return [];
  const { duration_seconds: seconds, sent_bytes: sent, received_bytes: received } = event;
  return [
    typeof seconds === 'number' ? `after ${secondsOf(seconds)}` : '',
    typeof sent === 'number' ? `${bytesOf(sent)} sent` : '',
    typeof received === 'number' ? `${bytesOf(received)} received` : '',
  ];
}
