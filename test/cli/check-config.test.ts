import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkConfig } from '../../src/cli/check-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-check-config-'));
const path = join(folder, 'peerscope.yaml');
afterAll(() => rmSync(folder, { recursive: true }));

/** The exit code and output for a file with this text. */
function check(text: string): { code: number; stdout: string[]; stderr: string[] } {
  writeFileSync(path, text);
  const printed = { stdout: '', stderr: '' };
  const code = checkConfig(
    path,
    { write: (part) => (printed.stdout += part) },
    { write: (part) => (printed.stderr += part) },
    Date.parse('2026-11-30'),
  );
  return { code, stdout: printed.stdout.split('\n'), stderr: printed.stderr.split('\n') };
}

describe('check-config', () => {
  it('explains each rule', () => {
    const text = `
processes:
  - { name: "app-{{ .script }}", exe: "^python3", cmdline: '(?<script>[a-z]+)\\.py' }
  - { name: kernel, comm: "^k\\e" }
  - { name: "{{ .exe_base }}" }
endpoint_groups:
  - { name: postgres, cidrs: [10.0.0.0/8, 192.168.0.0/16, "fd00::/8"], ports: [5432, 6432], transport: tcp }
  - { name: dns, ports: [53] }
  - { name: rest }
networks:
  - { name: office, cidrs: [203.0.113.0/24] }
  - { name: lab, cidrs: [192.0.2.7], asn: 64500 }
asn: { never_send: [198.51.100.0/24, 198.18.0.0/15] }
`;
    expect(check(text)).toEqual({
      code: 0,
      stdout: [
        `Configuration ${JSON.stringify(path)} is valid.`,
        'processes[0]: a process with executable matching "^python3" and command line matching "(?<script>[a-z]+)\\.py" is named "app-{{ .script }}".',
        'processes[1]: a process with comm matching "^k\\u001b" is named "kernel", unless an earlier rule matches.',
        'processes[2]: every process is named "{{ .exe_base }}", unless an earlier rule matches.',
        'endpoint_groups[0]: an endpoint in 10.0.0.0/8, 192.168.0.0/16 or fd00::/8 on port 5432 or 6432 over tcp belongs to group "postgres".',
        'endpoint_groups[1]: an endpoint on port 53 belongs to group "dns", unless an earlier rule matches.',
        'endpoint_groups[2]: every endpoint belongs to group "rest", unless an earlier rule matches.',
        'networks[0]: addresses in 203.0.113.0/24 belong to network "office" and are never sent to an ASN provider.',
        'networks[1]: addresses in 192.0.2.7/32 belong to network "lab" with AS64500 and are never sent to an ASN provider.',
        'asn.never_send: addresses in 198.51.100.0/24 or 198.18.0.0/15 are never sent to an ASN provider.',
        '',
      ],
      stderr: [''],
    });
  });

  it.each(['^/usr/bin/python3', '^\\/usr\\/bin', '[/"]', '\\d+\\.\\w', '', 'a\\\\b', "it's"])(
    'shows the pattern %j as it was written',
    (pattern) => {
      const { stdout } = check(`processes: [{ name: a, exe: ${JSON.stringify(pattern)} }]`);
      expect(stdout[1]).toBe(`processes[0]: a process with executable matching "${pattern}" is named "a".`);
    },
  );

  it('explains rules of workloads', () => {
    const text = `workloads:
  - { name: "{{ .app }}", labels: { a.b/app: '^(?<app>\\w+)' }, annotations: { team: core } }
  - { name: batch, cgroup: ^/batch/, unit: service }
`;
    expect(check(text).stdout.slice(1, 3)).toEqual([
      'workloads[0]: a workload with label "a.b/app" matching "^(?<app>\\w+)" and annotation "team" matching "core" is named "{{ .app }}".',
      'workloads[1]: a workload with cgroup matching "^/batch/" and unit matching "service" is named "batch", unless an earlier rule matches.',
    ]);
  });

  it('explains what is expected, and which operators are suspect', () => {
    writeFileSync(join(folder, 'asndrop.json'), '{"asn":64500}\nAS64501\n');
    const text = `expected:
  - { workload: shop/web, what: "AS14618, tcp/5432", until: 2027-01-31, why: migration to S3 }
  - { workload: nginx.service, what: AS64500, until: 2020-01-01T12:00:00Z }
  - { workload: nginx.service, what: process/python3.12 }
suspects: [asndrop.json]
`;
    expect(check(text).stdout.slice(1, -1)).toEqual([
      'expected[0]: AS16509, tcp/5432 are normal for workload "shop/web" until 2027-02-01T00:00Z: migration to S3.',
      'expected[1]: AS64500 was normal for workload "nginx.service" until 2020-01-01T12:00Z.',
      'expected[2]: process/python is normal for workload "nginx.service".',
      'suspects[0]: connections with the 2 operators in "asndrop.json" are always reported.',
    ]);
  });

  it('escapes control characters', () => {
    const { stdout } = check('processes: [{ name: a, exe: "^\\x9b31m\\u202e" }]\n');
    expect(stdout[1]).toBe('processes[0]: a process with executable matching "^\\u009b31m\\u202e" is named "a".');
  });

  it('reports a file without rules', () => {
    expect(check('networks: []\n')).toEqual({
      code: 0,
      stdout: [
        `Configuration ${JSON.stringify(path)} is valid.`,
        'The file has no rules. All names are the defaults.',
        '',
      ],
      stderr: [''],
    });
  });

  it('reports all errors', () => {
    expect(check('networks: [{ name: office, cidrs: [10.0.0.0/33], color: red }]')).toEqual({
      code: 1,
      stdout: [''],
      stderr: [
        `Cannot read configuration ${JSON.stringify(path)}: networks[0].cidrs[0] "10.0.0.0/33": must be a CIDR such as 10.0.0.0/8, with no bits set after the prefix`,
        `Cannot read configuration ${JSON.stringify(path)}: networks[0].color: unknown key, must be one of name, cidrs, asn`,
        '',
      ],
    });
  });
});
