import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { Row } from '../../src/model.ts';
import { runMain } from '../support/exporter.ts';

const SENDER = 61_234;
const COURIER = 61_235;
/** Connects as one user, and keeps the socket in flight or gives it to a process of another user. */
const SCRIPT = `
import array, os, socket, sys
port, courier = int(sys.argv[1]), int(sys.argv[2])
to, at = socket.socketpair()
if courier and os.fork() == 0:
    os.setuid(courier)
    held = at.recvmsg(1, 100)
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os.setuid(int(sys.argv[3]))
s = socket.socket()
s.connect(("127.0.0.1", port))
to.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
s.close()
if not courier: print("ready", flush=True)
sys.stdin.read()
`;

/** Why the test cannot run here; null if it can. */
function obstacle(): string | null {
  if (process.getuid?.() !== 0) return 'it needs root';
  return spawnSync('python3', ['-c', '']).status === 0 ? null : 'there is no python3';
}

it.for([
  { name: 'in flight', courier: 0 },
  { name: 'that only a process of another user holds', courier: COURIER },
])('a socket $name is of the user who opened it', async ({ courier }, { skip }) => {
  const reason = obstacle();
  if (reason !== null) process.stderr.write(`SKIPPED: identity: ${reason}\n`);
  skip(reason !== null, reason ?? '');
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-identity-'));
  const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const child = spawn('python3', ['-c', SCRIPT, port, courier, SENDER].map(String), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(async () => {
    const exit = once(child, 'exit');
    child.stdin.end();
    await exit;
    server.close();
    rmSync(folder, { recursive: true });
  });
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => expect.fail('the sender ended'))]);
  const flags = ['--asn.provider=none', `--storage.path=${folder}`, '-o', 'json', `remote-port=${port}`];
  const { stdout } = await runMain(['list', ...flags]);
  const [row, ...others] = JSON.parse(stdout) as Row[];
  expect(others).toEqual([]);
  expect(row).toMatchObject({
    uid: SENDER,
    user: null,
    process: null,
    pids: [],
    workload: `uid:${SENDER}`,
    owner_evidence: 'uid',
  });
});
