import { createSocket } from 'node:dgram';

/** The response to a query: the texts of a name, no such name, an error, or silence. */
export type DnsAnswer = readonly string[] | 'no such name' | 'refused' | 'silence';

/** A DNS server on loopback, over UDP, that answers with TXT records, or PTR records where those are asked for (RFC 1035). */
export interface DnsServer {
  /** As a resolver takes it. */
  readonly address: string;
  /** The names of all questions, in order of their coming, in lower case (resolvers mix the cases to be harder to forge), without the last dot. */
  readonly asked: readonly string[];
  answer: (name: string) => DnsAnswer;
  close(): Promise<void>;
}

export async function startDnsServer(answer: (name: string) => DnsAnswer): Promise<DnsServer> {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (query, { port, address }) => {
    const labels = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length));
      at += 1 + length;
    }
    const name = labels.join('.').toLowerCase();
    asked.push(name);
    const answer = server.answer(name);
    if (answer === 'silence') return;
    const texts = typeof answer === 'string' ? [] : answer;
    const code = answer === 'no such name' ? 3 : answer === 'refused' ? 5 : 0;
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    header.writeUInt16BE(0x8180 | code, 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(texts.length, 6);
    const render = query.readUInt16BE(at + 1) === PTR ? renderPointer : renderRecord;
    socket.send(Buffer.concat([header, query.subarray(12, at + 5), ...texts.map(render)]), port, address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const server: DnsServer = {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    answer,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
  return server;
}

const PTR = 12;

function renderPointer(name: string): Buffer {
  const labels = name.split('.').flatMap((label) => [Buffer.of(Buffer.byteLength(label)), Buffer.from(label)]);
  const content = Buffer.concat([...labels, Buffer.of(0)]);
  return Buffer.concat([Buffer.from([0xc0, 12, 0, PTR, 0, 1, 0, 0, 1, 44, 0, content.length]), content]);
}

/** A record of the name asked for; its text comes in strings of 20 bytes, which may end inside a character. */
function renderRecord(text: string): Buffer {
  const bytes = Buffer.from(text);
  const count = Math.max(1, Math.ceil(bytes.length / 20));
  const strings = Array.from({ length: count }, (_, i) => bytes.subarray(i * 20, (i + 1) * 20));
  const content = Buffer.concat(strings.flatMap((part) => [Buffer.of(part.length), part]));
  const head = Buffer.from([0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 44, content.length >>> 8, content.length & 255]);
  return Buffer.concat([head, content]);
}
