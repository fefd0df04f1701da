/** Text that a log, a terminal, an editor or a mail puts around the lines of a tool. */

/** Where a row or a header may start after a prefix. */
const START =
  /(?<![\w./@\][-])(?:(?:tcp|udp|udplite|udpl|icm|icmp|raw|TCP|UDP)(?:46|4|6)?\s+\S|(?:LISTEN|ESTAB|UNCONN|SYN-SENT|SYN-RECV|FIN-WAIT-[12]|TIME-WAIT|CLOSE-WAIT|LAST-ACK|CLOSING)\s+\d|Proto\s|Netid\s|State\s+Recv-Q|Recv-Q\s|Active\s|Socket\s|Tcpcb\s|COMMAND\s|USER\s|LocalAddress\s|(?:TCP|UDP): IPv[46]|unix\s|u_(?:str|dgr|seq)\s|[\da-f:.]{2,45}(?:%\w+)?\s+\d{1,5}\s+[\da-f:.]{2,45}(?:%\w+)?\s+\d{1,5}\s+[A-Z][a-z])/g;
/** A state after a Netid does not start the row. */
const NETID = /(?:^|\s)(?:tcp|udp|raw|sctp|dccp|mptcp|icmp6?|xdp|nl|[upv]_\w{2,4})\s+$/;
const MAX_PREFIX_LENGTH = 200;
const MAX_STARTS = 4;
/** Colors and erasures of a terminal (ECMA-48 SGR and EL), as `grep --color` and `ls --color` print them. */
const COLOR = /\u001b\[[\d;:]*[mK]/g;
const CLOSING = new Map([
  ['"', /",?\s*$/],
  ["'", /',?\s*$/],
  ['`', /`\s*$/],
  ['|', /\s*\|\s*$/],
  ['│', /\s*│\s*$/],
]);

/** Removes colors and carriage returns, and replaces blanks that do not break. */
export function cleanLine(text: string): string {
  let line = text;
  if (line.startsWith('\r') || line.endsWith('\r')) line = line.replace(/^\r+/, '').replace(/\r{1,1000}$/, '');
  if (line.includes('\u001b[')) line = line.replaceAll(COLOR, '');
  if (line.startsWith('\ufeff')) line = line.slice(1);
  return /[\u00a0\u2007\u202f\u3000]/.test(line) ? line.replaceAll(/[\u00a0\u2007\u202f\u3000]/g, ' ') : line;
}

/** Lengths of the prefixes that a line may have, shortest first. */
export function prefixLengths(text: string): number[] {
  const lengths: number[] = [];
  for (const { index } of text.slice(0, MAX_PREFIX_LENGTH).matchAll(START)) {
    if (index > 0 && !NETID.test(text.slice(0, index))) lengths.push(index);
    if (lengths.length === MAX_STARTS) break;
  }
  return lengths;
}

/** A prefix found in one line. It matches the same text in other lines, where its numbers may differ. */
export class Prefix {
  readonly #text: string;
  readonly #pattern: RegExp;
  readonly #closing: RegExp | undefined;

  constructor(text: string) {
    this.#text = text;
    const [, body = '', end = ''] = /^(.*?)(\s*)$/s.exec(text) ?? [];
    const parts = body.split(/(\d+|\s+)/).map((part) => {
      if (/^\d/.test(part)) return String.raw`\d{1,20}`;
      return /^\s/.test(part) ? String.raw`\s{1,40}` : part.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`);
    });
    this.#pattern = new RegExp(`^${parts.join('')}\\s{${end.length}}`);
    this.#closing = CLOSING.get(text.trimEnd().at(-1) ?? '');
  }

  /** The line without the prefix; null if it does not have it. */
  remove(line: string): string | null {
    const length = line.startsWith(this.#text) ? this.#text.length : (this.#pattern.exec(line)?.[0].length ?? -1);
    if (length < 0) {
      const isEmpty = line.trim() !== '' && this.#text.startsWith(line.trimEnd());
      return isEmpty ? '' : null;
    }
    const rest = line.slice(length);
    return this.#closing ? rest.replace(this.#closing, '') : rest;
  }
}
