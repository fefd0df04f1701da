import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listen } from '../../src/web/listen.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-listen-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const pathOf = (name: string): string => join(folder, name);
const answering = (): ReturnType<typeof createServer> => createServer((_request, response) => response.end('answer'));

async function ask(socketPath: string): Promise<string> {
  const asked = request({ socketPath, path: '/' }).end();
  const [response] = (await once(asked, 'response')) as [NodeJS.ReadableStream];
  return text(response);
}

describe('a Unix socket', () => {
  it('is answered on, and removed at the end', async () => {
    const server = answering();
    expect(await listen(server, { path: pathOf('http.sock') })).toBe(`unix:${pathOf('http.sock')}`);
    expect(await ask(pathOf('http.sock'))).toBe('answer');
    server.closeAllConnections();
    await once(server.close(), 'close');
    expect(existsSync(pathOf('http.sock'))).toBe(false);
  });

  it('replaces one that a killed process left behind', async () => {
    const path = pathOf('http.sock');
    const program = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await once(spawn(process.execPath, ['--eval', program]), 'exit');
    expect(existsSync(path)).toBe(true);
    const server = answering();
    await listen(server, { path });
    expect(await ask(path)).toBe('answer');
    server.closeAllConnections();
    await once(server.close(), 'close');
  });

  it('is not taken from a process that listens on it', async () => {
    const path = pathOf('http.sock');
    const first = answering();
    await listen(first, { path });
    await expect(listen(answering(), { path })).rejects.toThrow(
      `Cannot listen on --web.listen-address "unix:${path}": the address is in use`,
    );
    expect(await ask(path)).toBe('answer');
    first.closeAllConnections();
    await once(first.close(), 'close');
  });

  it('does not replace a file that is no socket', async () => {
    writeFileSync(pathOf('file'), 'kept');
    await expect(listen(answering(), { path: pathOf('file') })).rejects.toThrow('the address is in use');
    expect(existsSync(pathOf('file'))).toBe(true);
  });

  it('needs its folder', async () => {
    await expect(listen(answering(), { path: pathOf('none/http.sock') })).rejects.toThrow(
      `Cannot listen on --web.listen-address "unix:${pathOf('none/http.sock')}": there is no folder "${pathOf('none')}"`,
    );
  });
});

describe('an address', () => {
  it.each([
    { host: '127.0.0.1', shown: /^127\.0\.0\.1:\d+$/ },
    { host: '::1', shown: /^\[::1\]:\d+$/ },
    { host: null, shown: /^(\[::\]|0\.0\.0\.0):\d+$/ },
  ])('$host is shown with the port that the system chose', async ({ host, shown }) => {
    const server = createTcpServer();
    expect(await listen(server, { host, port: 0 })).toMatch(shown);
    await once(server.close(), 'close');
  });

  it.each([
    { host: '192.0.2.1', port: 0, reason: '"192.0.2.1:0": no interface of this machine has the address' },
    { host: 'no.such.name.invalid', port: 1, reason: '"no.such.name.invalid:1": ' },
  ])('$host names the flag when it cannot be used', async ({ host, port, reason }) => {
    await expect(listen(createTcpServer(), { host, port })).rejects.toThrow(
      `Cannot listen on --web.listen-address ${reason}`,
    );
  });
});
