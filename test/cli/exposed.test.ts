import { rmSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import { exposedView } from '../../src/cli/exposed.ts';
import type { HistoryRow } from '../../src/cli/history.ts';
import { makeDatabases, scanTree } from '../support/scan-result.ts';

const databases = makeDatabases();
afterAll(() => rmSync(databases.folder, { recursive: true }));

const MET: HistoryRow = {
  ...{
    namespace: null,
    workload: 'ssh.service',
    direction: 'inbound',
    asn: 64500,
    as_name: 'EXAMPLE',
  },
  first_seen: '2026-09-01T08:00:00.000Z',
  last_seen: '2026-09-02T08:00:00.000Z',
};
const OTHERS: HistoryRow[] = [
  { ...MET, direction: 'outbound' },
  { ...MET, namespace: 'shop' },
  { ...MET, workload: 'other.service' },
];

it('shows what other hosts can reach and who has connected, worst first', async () => {
  const result = await scanTree('plain-host', databases);
  const lines = exposedView([], [MET, ...OTHERS]).draw(result, { width: Infinity, paint: (text) => text });
  expect(lines.map(({ text }) => text.trimEnd())).toEqual([
    'REACH  NETID  LISTENS ON    PROCESS          WORKLOAD        USER  CONNECTED  PEERS                              MET BEFORE',
    'all    tcp    0.0.0.0:443   nginx/25742      nginx.service   0             3  AS19281 Quad9, AS13335 Cloudflare  -',
    'all    tcp    0.0.0.0:22    sshd/25739       ssh.service     0             1  AS15169 Google                     AS64500 EXAMPLE 2026-09-01',
    'all    tcp    [::]:22       sshd/25739       ssh.service     0             1  AS15169 Google                     AS64500 EXAMPLE 2026-09-01',
    'all    tcp    0.0.0.0:8080  orders.py/25757  orders.service  1000          0  -                                  -',
    '22 sockets, all attributed to a process',
  ]);
});

it.each([
  [['process=sshd'], ['0.0.0.0:22', ':::22']],
  [['port=8080'], ['0.0.0.0:8080']],
  [['port=5432'], []],
])('with %j shows %j', async (filters, ends) => {
  const result = await scanTree('plain-host', databases);
  const objects = exposedView(filters, []).objects(result) as { local_address: string; local_port: number }[];
  expect(objects.map(({ local_address, local_port }) => `${local_address}:${local_port}`)).toEqual(ends);
});
