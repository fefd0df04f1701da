import { rmSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { HistoryRow } from '../../src/cli/history.ts';
import { inspectView } from '../../src/cli/inspect.ts';
import { UsageError } from '../../src/common/errors.ts';
import { makeDatabases, scanTree } from '../support/scan-result.ts';

const databases = makeDatabases();
afterAll(() => rmSync(databases.folder, { recursive: true }));

const MET: HistoryRow = {
  ...{ namespace: null, workload: 'ssh.service', direction: 'inbound', asn: 15169, as_name: null },
  first_seen: '2026-09-01T08:00:00.000Z',
  last_seen: '2026-09-02T08:00:00.000Z',
};
const inspect = async (target: string): Promise<string[]> => {
  const result = await scanTree('plain-host', databases);
  const lines = inspectView(target, [MET]).draw(result, { width: 80, paint: (text) => text });
  return lines.map(({ text }) => text.trimEnd());
};

describe('inspect', () => {
  it.each(['25739', ':22', '22'])('shows the sshd that is %s', async (target) => {
    expect(await inspect(target)).toEqual([
      target === '25739' ? 'process 25739' : 'port 22',
      'sshd/25739',
      '  program   /usr/local/bin/sshd',
      '  command   /usr/local/bin/sshd … … …',
      '  user      0',
      '  workload  ssh.service',
      '  cgroup    /system.slice/ssh.service',
      '  memory    12.6 MiB',
      '2 listeners',
      '  tcp 0.0.0.0:22',
      '  tcp [::]:22',
      '1 peer',
      '  PEER            DIRECTION  CONNECTIONS  SENT  RECEIVED  FIRST SEEN',
      '  AS15169 Google  inbound              2     -         -  2026-09-01 08:00:00',
      '2 connections',
      '    PID  LOCAL             REMOTE                        STATE        AS',
      '  25739  192.0.2.5:22      8.8.8.8:35221                 established  Google',
      '  25739  [2001:db8::5]:22  [2001:4860:4860::8888]:56021  established  Google',
      '22 sockets, all attributed to a process',
    ]);
  });

  it('shows all processes of an address', async () => {
    const lines = await inspect('9.9.9.9');
    expect(lines.filter((line) => /^\w[\w-]*\/\d+$/.test(line))).toEqual([
      'nginx/25744',
      'curl/25765',
      'systemd-resolved/25750',
    ]);
    expect(lines).toContain('4 connections');
  });

  it('says that a target has no sockets', async () => {
    expect((await inspect('192.0.2.99'))[0]).toBe('address 192.0.2.99: no sockets');
    expect((await inspect('4000000'))[0]).toBe('process 4000000: no sockets');
  });

  it.each(['nginx', ':0', ':70000', '0', '1.2.3', ''])('rejects %j', (target) => {
    expect(() => inspectView(target, [])).toThrow(UsageError);
    expect(() => inspectView(target, [])).toThrow(/^Cannot inspect ".*": must be a process id, an IPv4/);
  });
});
