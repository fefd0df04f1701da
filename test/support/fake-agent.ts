/** An agent that speaks the wire of native/sockets.c over any stream, without netlink, and that can misbehave. */
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { doneMessage, joined, netlinkMessage, socketMessage, type DiagSocket } from './diag-messages.ts';

const VERSION = 1;

/** A frame of the agent. */
export function frame(kind: number, payload: Uint8Array, value = 0, nsid = -1): Uint8Array {
  const header = new Uint8Array(12);
  const view = new DataView(header.buffer);
  view.setUint32(0, payload.length, true);
  view.setUint16(4, kind, true);
  view.setUint16(6, value, true);
  view.setInt32(8, nsid, true);
  return joined(header, payload);
}

/** Words of 32 bits. */
export function words(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(values).buffer);
}

export function helloFrame({ version = VERSION, flags = 0, netns = 4026531840 } = {}): Uint8Array {
  return frame(1, words(version, flags, netns, 0, 212_992, 0));
}

export function dumpFrame(family: number, ...messages: readonly Uint8Array[]): Uint8Array {
  return frame(2, joined(...messages), family);
}

export function eventFrame(socket: DiagSocket, nsid = -1): Uint8Array {
  return frame(3, socketMessage({ state: 7, ...socket }), 0, nsid);
}

export function nsidFrame(pid: number, nsid: number): Uint8Array {
  const body = joined(new Uint8Array(4), words(0x0001_0008), words(nsid));
  return frame(5, joined(words(pid), netlinkMessage(88, body)));
}

export function failedFrame(kind: number, errno: number, subject: number): Uint8Array {
  return frame(6, words(errno, subject), kind);
}

/** A request of a client. */
export interface AgentRequest {
  readonly version: number;
  readonly kind: number;
  readonly family: number;
  readonly pid: number;
}

/** How an agent behaves: what it sends to a new client, and for a request. Null closes the connection. */
export interface Behavior {
  readonly greeting?: Uint8Array | null;
  readonly answer?: (request: AgentRequest) => Uint8Array | null;
}

/** Two sockets in each family, and namespaces whose number is a tenth of the pid. */
export function answerTruly({ kind, family, pid }: AgentRequest): Uint8Array {
  if (kind === 2) return nsidFrame(pid, pid / 10);
  const sockets = [family, family + 1].map((localPort) => socketMessage({ family, localPort, bytesSent: 10n }));
  return joined(dumpFrame(family, ...sockets), dumpFrame(family, doneMessage()));
}

/** Talks to one client until it leaves. */
export function talk(stream: Socket, { greeting = helloFrame(), answer = answerTruly }: Behavior): void {
  let rest: Uint8Array = new Uint8Array(0);
  stream.on('error', () => undefined);
  if (greeting === null) {
    stream.destroy();
    return;
  }
  stream.write(greeting);
  stream.on('data', (chunk: Uint8Array) => {
    rest = joined(rest, chunk);
    for (; rest.length >= 8; rest = rest.subarray(8)) {
      const view = new DataView(rest.buffer, rest.byteOffset, 8);
      const request = {
        version: view.getUint8(0),
        kind: view.getUint8(1),
        family: view.getUint16(2, true),
        pid: view.getUint32(4, true),
      };
      const reply = answer(request);
      if (reply === null) stream.destroy();
      else if (reply.length > 0) stream.write(reply);
    }
  });
}

/** An agent on a Unix socket. The behavior may change for the next client. */
export class FakeAgent {
  behavior: Behavior;
  readonly clients = new Set<Socket>();
  readonly #server: Server;

  private constructor(server: Server, behavior: Behavior) {
    this.#server = server;
    this.behavior = behavior;
    server.on('connection', (client) => {
      this.clients.add(client);
      client.on('close', () => this.clients.delete(client));
      talk(client, this.behavior);
    });
  }

  static async listen(path: string, behavior: Behavior = {}): Promise<FakeAgent> {
    const server = createServer();
    const agent = new FakeAgent(server, behavior);
    server.listen(path);
    await once(server, 'listening');
    return agent;
  }

  send(bytes: Uint8Array): void {
    for (const client of this.clients) client.write(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.destroy();
    this.#server.close();
    if (this.#server.listening) await once(this.#server, 'close');
  }
}
