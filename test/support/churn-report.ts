/** Prints the events that descriptors from with-netlink.py give while this program is busy: `churn-report.ts CONNECTIONS`. */
import { spawnSync } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { openSocketSource } from '../../src/collect/netlink.ts';

const CHURN = `
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(int(sys.argv[1])):
    client = socket.create_connection(listener.getsockname())
    client.close()
    listener.accept()[0].close()
listener.close()
`;

const source = openSocketSource({ path: null, environment: process.env, program: null });
const connections = Number(process.argv[2]);
spawnSync('/usr/bin/python3', ['-c', CHURN, String(connections)], { stdio: 'inherit' });
const ends = connections * 2 + 1;
let count = 0;
// The last events come from a work queue of the kernel.
for (let turn = 0; turn < 500 && count + (source?.overruns ?? 0) < ends; turn++) {
  count += source?.takeEnded().count ?? 0;
  await setTimeout(20);
}
process.stdout.write(JSON.stringify({ events: source?.events, count, overruns: source?.overruns }));
