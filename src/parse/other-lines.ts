/** Lines of a text that are no rows: notices of the tools, titles, and whether an unknown line may be a socket. */

const NOTICE =
  /No info could be read for|Not all processes could be identified|^\s*will not be shown, you would have to be root|showing only processes with your user ID|geteuid\(\)=\d/;
/** The same notices in other languages are sentences in parentheses; some have several lines. */
const TRANSLATED_NOTICE = /^\((?=[^:\d]{20})/;
const OTHER_TITLE = /^(?:Active |Registered |Netgraph |Proto +(?:RefC|RefZ|CntRef|Mitu|Čítač))/;
const INTERNET_TITLE = /^(?:Active Internet6? connections|Active Connections)/;
const PROTOCOL =
  /^\s*(?:[\da-f]{1,16}\s+){0,2}(?:(?:tcp|udp|udplite|udpl|icm|raw|TCP|UDP)(?:46|4|6)?\s|(?:LISTEN|ESTAB|UNCONN|SYN-\w+|FIN-WAIT-[12]|TIME-WAIT|CLOSE-WAIT|LAST-ACK|CLOSING)\s+\d)/;
/** An address and a port of any tool. */
const ENDPOINT =
  /(?:(?:\d{1,3}\.){3}\d{1,3}|\[[\da-f:.]{2,45}(?:%\w+)?\](?:%\w+)?|(?:^|\s)\*|(?:^|\s)[\da-f]{0,4}:[\da-f:]{1,40})[:.](?:\d{1,5}|\*)(?=\s|$)/gi;

/** Whether a line is a notice of the tool that it cannot see all processes. */
export function isNotice(line: string): boolean {
  return NOTICE.test(line) || TRANSLATED_NOTICE.test(line);
}

/** The kind of sockets that a title announces; null for any other line. */
export function sectionOf(line: string): 'internet' | 'other' | null {
  if (INTERNET_TITLE.test(line)) return 'internet';
  return OTHER_TITLE.test(line) ? 'other' : null;
}

/** Whether a line may describe a socket: it starts with a protocol, or has two addresses with ports. */
export function looksLikeSocket(line: string): boolean {
  return PROTOCOL.test(line) || (line.slice(0, 1000).match(ENDPOINT)?.length ?? 0) > 1;
}
