import { readdirSync, readFileSync } from 'node:fs';
import { BlockList, createServer, isIP, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';

/** What a server does with a connection after the whole request; `reply` is the reply of the real server. */
export type Behaviour = (socket: Socket, reply: string) => void;

/** A whois server on loopback with Team Cymru's bulk protocol. */
export interface CymruServer {
  readonly host: string;
  readonly port: number;
  /** What each connection sent, whole, in order of their coming. */
  readonly requests: readonly string[];
  /** The lines between head and tail of all requests. */
  readonly asked: readonly string[];
  behaviour: Behaviour;
  close(): Promise<void>;
}

/** Sends the reply and closes. */
export const answers: Behaviour = (socket, reply) => socket.end(reply);

const BANNER = 'Bulk mode; whois.cymru.com [2026-09-15 08:22:47 +0000]';

interface RecordedRow {
  readonly asn: string;
  readonly bits: number;
  readonly block: BlockList;
  readonly text: (address: string) => string;
}

/**
 * Starts a server that answers with the recorded rows of test/fixtures/cymru, and with `rows` of the same form before them:
 * the longest prefix that holds an address, once for each origin. Other addresses are not announced. It hangs up on a client
 * that half-closes, as servers are known to do.
 */
export async function startCymruServer(rows: readonly string[] = []): Promise<CymruServer> {
  const recorded = [...rows, ...recordedLines()].flatMap(readRow);
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const listener = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    const index = requests.push('') - 1;
    socket.setNoDelay(true);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.destroy());
    socket.on('data', (chunk) => {
      const request = (requests[index] ?? '') + chunk.toString('latin1');
      requests[index] = request;
      if (request.endsWith('\nend\n')) server.behaviour(socket, replyTo(request, recorded));
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const server: CymruServer = {
    host: '127.0.0.1',
    port: (listener.address() as AddressInfo).port,
    requests,
    get asked() {
      return requests.flatMap((request) => request.split('\n').slice(2, -2));
    },
    behaviour: answers,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => listener.close(() => resolve()));
    },
  };
  return server;
}

function replyTo(request: string, recorded: readonly RecordedRow[]): string {
  const lines = request.split('\n').slice(0, -2);
  const answered = lines.slice(2).flatMap((address, i) => {
    const family = isIP(address);
    if (family === 0) return [`Error: no ASN or IP match on line ${i + 3}.`];
    const covering = recorded.filter(({ block }) => block.check(address, `ipv${family === 4 ? 4 : 6}`));
    const longest = Math.max(...covering.map(({ bits }) => bits));
    const best = covering.filter(({ bits }) => bits === longest);
    return best.length > 0
      ? best.filter(({ asn }, i) => best.findIndex((row) => row.asn === asn) === i).map(({ text }) => text(address))
      : [`NA      | ${address.padEnd(16)} | NA                  | US | arin     | 2019-07-01 | NA`];
  });
  return [BANNER, ...answered].map((line) => `${line}\n`).join('');
}

function recordedLines(): string[] {
  const folder = join(import.meta.dirname, '..', 'fixtures', 'cymru');
  return readdirSync(folder)
    .filter((name) => name.startsWith('bulk-verbose-'))
    .sort()
    .reverse()
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'));
}

function readRow(line: string): RecordedRow[] {
  const [asn = '', , prefix = '', ...rest] = line.split('|');
  const [base = '', bits = ''] = prefix.trim().split('/');
  const family = isIP(base);
  if (family === 0 || rest.length < 4) return [];
  const block = new BlockList();
  block.addSubnet(base, Number(bits), family === 4 ? 'ipv4' : 'ipv6');
  return [
    {
      asn,
      bits: Number(bits),
      block,
      text: (address) => `${asn}| ${address.padEnd(16)} |${[prefix, ...rest].join('|')}`,
    },
  ];
}

/** Sends the reply in single bytes, so that every character and line is torn. */
export const tears: Behaviour = (socket, reply) => {
  for (const byte of Buffer.from(reply)) socket.write(Buffer.of(byte));
  socket.end();
};

const changesRows =
  (change: (rows: readonly string[]) => readonly string[], end = '\n'): Behaviour =>
  (socket, reply) => {
    const [banner = '', ...rows] = reply.split('\n').slice(0, -1);
    socket.end([banner, ...change(rows)].map((line) => line + end).join(''));
  };

export const reverses = changesRows((rows) => rows.toReversed());
export const repeats = changesRows((rows) => rows.flatMap((row) => [row, row]));
export const endsLinesAsDos = changesRows((rows) => rows, '\r\n');

/** Adds a row for an address that was not asked for, and one for an asked address under a prefix that does not hold it. */
export const forges = changesRows((rows) => [
  '64666 | 9.9.9.0 | 9.9.9.0/24 | US | arin | 2000-01-01 | FORGED, US',
  ...rows
    .slice(0, 1)
    .map((row) => `64666 |${row.split('|')[1] ?? ''}| 9.9.9.0/24 | US | arin | 2000-01-01 | FORGED, US`),
  ...rows,
]);

/** The faults of a server, or of an attacker on the path to it. */
export const misbehaviours = {
  saysNothing: () => undefined,
  closesAtOnce: (socket) => socket.end(),
  resets: (socket, reply) => socket.write(reply.slice(0, -10), () => socket.resetAndDestroy()),
  neverCloses: (socket, reply) => socket.write(reply),
  sendsNoBanner: (socket, reply) => socket.end(reply.slice(reply.indexOf('\n') + 1)),
  sendsTheBannerAlone: (socket, reply) => socket.end(reply.slice(0, reply.indexOf('\n') + 1)),
  sendsHtml: (socket) => socket.end('<!doctype html>\n<title>\u001b[31m502 Bad Gateway</title>\n'),
  sendsBinary: (socket) => socket.end(Buffer.from(Array.from({ length: 65_536 }, (_, i) => (i * 167 + 13) % 256))),
  sendsWithoutEnd: (socket, reply) => {
    const pump = (): void => {
      while (!socket.destroyed && socket.write(reply));
      socket.once('drain', pump);
    };
    pump();
  },
  sends5Megabytes: (socket, reply) => socket.end(reply + `${'9'.repeat(79)}\n`.repeat(65_536)),
  sendsOneLongLine: (socket, reply) => socket.end(reply + 'x'.repeat(3 * 1024 * 1024)),
  dripsBytes: (socket, reply) => {
    const bytes = Buffer.from(reply);
    let sent = 0;
    const timer = setInterval(() => socket.write(bytes.subarray(sent, ++sent)), 5);
    socket.on('close', () => clearInterval(timer));
  },
} satisfies Record<string, Behaviour>;
