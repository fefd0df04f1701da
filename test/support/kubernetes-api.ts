import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An object of the API; the stand-in gives it its version. */
export interface KubernetesObject {
  readonly metadata: { readonly namespace: string; readonly name: string; readonly [key: string]: unknown };
  readonly [key: string]: unknown;
}

/** A request as the server got it. */
export interface Asked {
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly token: string | undefined;
  readonly isWatch: boolean;
}

type Answer = (request: Asked, response: ServerResponse) => boolean;

const file = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}.pem`, import.meta.url));

/** The pods of a list of test/fixtures/kubernetes. */
export function podsOf(platform: string): KubernetesObject[] {
  const text = readFileSync(new URL(`../fixtures/kubernetes/${platform}.json`, import.meta.url), 'utf8');
  return (JSON.parse(text) as { items: KubernetesObject[] }).items;
}

/** A Kubernetes API server that lists and watches over HTTPS, with the faults that a test sets. */
export class KubernetesApi {
  readonly asked: Asked[] = [];
  /** A folder as the kubelet mounts it, with the token that is accepted and the server's certificate. */
  readonly serviceAccount = mkdtempSync(join(tmpdir(), 'peerscope-account-'));
  readonly port: number;
  /** Answers instead of the server if it returns true. */
  answer: Answer = () => false;
  #token = '';
  #version = 100;
  /** Changes up to this version are forgotten. */
  #oldest = 0;
  readonly #objects = new Map<string, Map<string, KubernetesObject>>();
  readonly #events: { path: string; version: number; line: string }[] = [];
  readonly #watching = new Set<{ path: string; response: ServerResponse }>();
  readonly #server = createServer({ cert: file('certificate'), key: file('key') }, (...both) => this.#serve(...both));
  readonly #sockets = new Set<Socket>();

  static async start(): Promise<KubernetesApi> {
    const api = new KubernetesApi();
    api.#server.on('connection', (socket: Socket) => {
      api.#sockets.add(socket.on('close', () => api.#sockets.delete(socket)));
    });
    api.#server.listen(0, '127.0.0.1');
    await once(api.#server, 'listening');
    Object.assign(api, { port: (api.#server.address() as AddressInfo).port });
    return api;
  }

  private constructor() {
    this.port = 0;
    writeFileSync(join(this.serviceAccount, 'ca.crt'), file('certificate'));
    this.renewToken();
  }

  /** How many watches are open. */
  get watches(): number {
    return this.#watching.size;
  }

  /** The kubelet writes another token, and the one before is refused. */
  renewToken(): void {
    this.#token = `token-${this.#version++}`;
    writeFileSync(join(this.serviceAccount, 'token'), this.#token);
  }

  /** Creates or changes an object of the resource at a path. */
  set(path: string, object: KubernetesObject): void {
    this.#change(path, this.#objects.get(path)?.has(nameOf(object)) ? 'MODIFIED' : 'ADDED', object);
  }

  delete(path: string, object: KubernetesObject): void {
    this.#change(path, 'DELETED', object);
  }

  /** Sends a bookmark to the watches. */
  bookmark(): void {
    const metadata = { resourceVersion: String(this.#next()) };
    this.send(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata } })}\n`);
  }

  /** Sends text into every watch. */
  send(text: string): void {
    for (const { response } of this.#watching) response.write(text);
  }

  /** Ends every watch as the server does when its time is up. */
  end(): void {
    for (const { response } of this.#watching) response.end();
  }

  /** Ends every connection without a word (RST), or only its own half of each. */
  drop(how: 'reset' | 'half' = 'reset'): void {
    for (const socket of this.#sockets) {
      if (how === 'half') socket.end();
      else socket.resetAndDestroy();
    }
  }

  /** Forgets all changes so far: a watch from an older version gets status 410. */
  compact(): void {
    this.#oldest = this.#next();
  }

  /** The command that gives what comes after it mounts of its own, in which the service account stands where the kubelet mounts it. */
  mountAccount(): string[] {
    const mounts = `
      run=$(readlink -f /var/run)
      cp -r '${this.serviceAccount}' /tmp/peerscope-account-$$
      mount -t tmpfs none "$run"
      mkdir -p "$run/secrets/kubernetes.io"
      mv /tmp/peerscope-account-$$ "$run/secrets/kubernetes.io/serviceaccount"
      exec "$@"`;
    return ['unshare', '--mount', 'sh', '-ec', mounts, 'sh'];
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
    rmSync(this.serviceAccount, { recursive: true });
  }

  #next(): number {
    return ++this.#version;
  }

  #change(path: string, type: string, object: KubernetesObject): void {
    const version = this.#next();
    const versioned = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    const all = this.#objects.get(path) ?? new Map<string, KubernetesObject>();
    this.#objects.set(path, all);
    if (type === 'DELETED') all.delete(nameOf(object));
    else all.set(nameOf(object), versioned);
    const line = `${JSON.stringify({ type, object: versioned })}\n`;
    this.#events.push({ path, version, line });
    for (const watching of this.#watching) if (watching.path === path) watching.response.write(line);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '', 'https://api');
    const query = Object.fromEntries(url.searchParams);
    const token = request.headers.authorization?.replace(/^Bearer /, '');
    const asked: Asked = { path: url.pathname, query, token, isWatch: query['watch'] === 'true' };
    this.asked.push(asked);
    if (this.answer(asked, response)) return;
    if (token !== this.#token) refuse(response, 401, 'Unauthorized');
    else if (asked.isWatch) this.#watch(asked, response);
    else {
      const items = [...(this.#objects.get(asked.path)?.values() ?? [])];
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ kind: 'List', metadata: { resourceVersion: String(this.#version) }, items }));
    }
  }

  #watch({ path, query }: Asked, response: ServerResponse): void {
    const from = Number(query['resourceVersion']);
    if (from < this.#oldest) {
      refuse(response, 410, `too old resource version: ${from} (${this.#oldest})`);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const event of this.#events) if (event.path === path && event.version > from) response.write(event.line);
    const watching = { path, response };
    this.#watching.add(watching);
    response.on('close', () => this.#watching.delete(watching));
  }
}

function nameOf({ metadata: { namespace, name } }: KubernetesObject): string {
  return `${namespace}/${name}`;
}

function refuse(response: ServerResponse, code: number, message: string): void {
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ kind: 'Status', status: 'Failure', code, message }));
}
