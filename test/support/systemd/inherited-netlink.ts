/**
 * What peerscope does with inherited netlink sockets, without peerscope: the program of a unit in systemd.test.ts. It prints JSON lines:
 * the descriptors, the rows of a dump, and the ports of an ended connection. Then it waits for SIGTERM.
 */
import { readFileSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';

const FIRST = 3;
const NLMSG_DONE = 3;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST_DUMP = 0x301;
const [AF_INET, IPPROTO_TCP, ALL_STATES] = [2, 6, 0x1ffe];
const HEADER = 16;

const { LISTEN_PID, LISTEN_FDS = '0', LISTEN_FDNAMES = '' } = process.env;
const names = LISTEN_FDNAMES === '' ? [] : LISTEN_FDNAMES.split(':');
const descriptorOf = (name: string): number => FIRST + names.indexOf(name);
const room = Buffer.alloc(65_536);

const statusOf = (name: string): string =>
  new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '';

/** The columns of a netlink socket in /proc/self/net/netlink. */
function describe(name: string): object {
  const fd = descriptorOf(name);
  const inode = /\d+/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[0];
  const rows = readFileSync('/proc/self/net/netlink', 'latin1').split('\n');
  const [, protocol, , groups] = rows.map((row) => row.trim().split(/\s+/)).find((row) => row.at(-1) === inode) ?? [];
  const [, flags = ''] = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  const isBlocking = (Number.parseInt(flags, 8) & 0o4000) === 0;
  return { name, protocol: Number(protocol), groups, isBlocking };
}

/** Reads one datagram. The descriptor does not block, so it tries again until there is one. */
async function read(fd: number): Promise<Buffer> {
  for (;;) {
    try {
      return room.subarray(0, readSync(fd, room));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      await setTimeout(1);
    }
  }
}

function* messages(datagram: Buffer): Generator<Buffer> {
  for (let at = 0; at + HEADER <= datagram.length; at += (datagram.readUInt32LE(at) + 3) & ~3)
    yield datagram.subarray(at, at + datagram.readUInt32LE(at));
}

const portsOf = (message: Buffer): [local: number, remote: number] => [
  message.readUInt16BE(HEADER + 4),
  message.readUInt16BE(HEADER + 6),
];

/** The local ports of all TCP sockets. */
async function dump(): Promise<number[]> {
  const request = Buffer.alloc(72);
  request.writeUInt32LE(request.length, 0);
  request.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  request.writeUInt16LE(NLM_F_REQUEST_DUMP, 6);
  request.set([AF_INET, IPPROTO_TCP], HEADER);
  request.writeUInt32LE(ALL_STATES, HEADER + 4);
  writeSync(descriptorOf('dump'), request);
  const ports: number[] = [];
  for (;;)
    for (const message of messages(await read(descriptorOf('dump')))) {
      if (message.readUInt16LE(4) === NLMSG_DONE) return ports;
      ports.push(portsOf(message)[0]);
    }
}

const print = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

process.on('SIGTERM', () => process.exit(0));
print({
  isForThisProcess: Number(LISTEN_PID) === process.pid,
  descriptors: Number(LISTEN_FDS) === names.length ? names.toSorted().map(describe) : [],
  capabilities: statusOf('CapEff'),
  isRoot: process.getuid?.() === 0,
});
if (names.includes('dump')) {
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1', () => {
    const { port } = server.address() as AddressInfo;
    const client = connect(port, '127.0.0.1', () => {
      const { localPort = 0 } = client;
      client.resume().on('close', () => {
        void (async () => {
          print({ dumpHasListener: (await dump()).includes(port) });
          const ends = [...messages(await read(descriptorOf('ended')))].map(portsOf);
          print({ endedHasConnection: ends.some((end) => end.includes(port) && end.includes(localPort)) });
        })();
      });
    });
  });
}
setInterval(() => undefined, 1 << 30);
