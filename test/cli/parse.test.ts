import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { renderOrigin } from '../../src/enrich/asn/cache.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import type { Row } from '../../src/model.ts';
import { parseText } from '../../src/parse/text-reader.ts';
import { ENVIRONMENT } from '../support/exporter.ts';
import { runHere, type Outcome } from '../support/main.ts';

vi.setConfig({ testTimeout: 60_000 });

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const SS = fileURLToPath(new URL('../fixtures/text/ss-tunap.out', import.meta.url));
const NETSTAT = fileURLToPath(new URL('../fixtures/text/netstat-tunap.out', import.meta.url));
const TEXT = readFileSync(SS, 'utf8');

const folder = mkdtempSync(join(tmpdir(), 'peerscope-parse-'));
afterAll(() => rmSync(folder, { recursive: true }));

const parse = (args: readonly string[], input = ''): Promise<Outcome> => runHere(['parse', ...args], input);

const BROKEN = `${TEXT.split('\n').slice(0, 4).join('\n')}\ntcp LISTEN \u001b[31m\n`;
const ERROR = {
  line: 5,
  error: 'too-few-columns',
  reason: 'local or peer address is missing',
  text: 'tcp LISTEN \u001b[31m',
};
const MESSAGE = 'Cannot parse line 5 "tcp LISTEN \ufffd[31m": local or peer address is missing\n';

describe('parse', () => {
  it('prints the rows of a file, with the network of each remote', async () => {
    const { code, stdout, stderr } = await parse([SS, '-o', 'json']);
    const rows = JSON.parse(stdout) as Row[];
    const isText = { direction: null, direction_evidence: null, network: null };
    expect(rows.map((row) => ({ ...row, ...isText }))).toEqual(
      parseText(TEXT).rows.map((row) => ({ ...row, ...isText })),
    );
    expect(new Set(rows.map((row) => row.network))).toEqual(new Set([null, 'loopback', 'documentation']));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '28 rows from ss\n' });
  });

  it('prints the same rows as JSON lines, also from standard input', async () => {
    const rows = JSON.parse((await parse([SS, '-o', 'json'])).stdout) as Row[];
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    expect((await parse(['-', '-o', 'jsonl'], TEXT)).stdout).toBe(lines);
    expect((await parse(['-o', 'jsonl'], TEXT)).stdout).toBe(lines);
  });

  it('accepts filters, with and without a file', async () => {
    const expected = { code: 0, stderr: '9 of 28 rows from ss\n' };
    expect(await parse([SS, 'state=listen', 'transport=tcp', '-o', 'jsonl'])).toMatchObject(expected);
    expect(await parse(['state=listen', 'transport=tcp', '-o', 'jsonl'], TEXT)).toMatchObject(expected);
  });

  it('prints a table with a summary line', async () => {
    const { stdout, stderr } = await parse(['-'], readFileSync(NETSTAT, 'utf8'));
    const lines = stdout.split('\n');
    expect(lines[0]).toMatch(
      /^NETID +STATE +RECV-Q +SEND-Q +LOCAL +REMOTE +SERVICE +DIRECTION +PROCESS +WORKLOAD +PEER$/,
    );
    expect(lines).toContainEqual(expect.stringMatching(/^tcp +listen +0 +0 +\?:6001 +\* +listen +python3\/1 +-$/));
    expect(lines.at(-2)).toBe(
      '28 rows from netstat of Linux, 1 row with a possibly truncated address (use netstat -W)',
    );
    expect(stderr).toBe('');
  });

  it('prints a large table in pages, with one title if the columns keep their widths', async () => {
    const line = 'tcp ESTAB 0 0 192.0.2.1:10000 198.51.100.7:443 users:(("nginx",pid=7,fd=3))\n';
    const lines = (await parse(['-'], line.repeat(45_000))).stdout.trimEnd().split('\n');
    expect(lines.filter((one) => one.startsWith('NETID'))).toHaveLength(1);
    expect(lines).toHaveLength(45_002);
    expect(lines.at(-1)).toBe('45000 rows from ss');
    const wide = (await parse(['-'], line.repeat(30_000) + line.replace('192.0.2.1', '2001:db8::1').repeat(20_000)))
      .stdout;
    expect(wide.split('\n').filter((one) => one.startsWith('NETID'))).toHaveLength(2);
  });

  it('prints CSV with the JSON names and without control characters', async () => {
    const text = 'tcp LISTEN 0 5 [::]:1 [::]:* users:(("a\u001b\n"b",pid=7,fd=1),("c",pid=9,fd=1))\n';
    const [header, line] = (await parse(['-o', 'csv'], text)).stdout.split('\n');
    const keys = Object.keys(parseText(text).rows[0] ?? {});
    expect(header).toBe(keys.join(','));
    expect(line).toBe(`tcp,6,::,1,,,listen,listen,,0,5,,,,7,7 9,"a\ufffd\ufffd""b",text${','.repeat(41)}`);
  });

  it.each(['table', 'json', 'jsonl', 'csv'])(
    'prints no control characters of names and errors as %s',
    async (output) => {
      const name = '\u009b31m\u202e\u007f\u001b]0;title\u0007\u2028';
      const row = `tcp LISTEN 0 5 [::]:1 [::]:* users:(("${name}",pid=7,fd=1))`;
      const { code, stdout, stderr } = await parse(['-o', output], `${row}\ntcp LISTEN 0 ${name} [::]:1 [::]:*\n`);
      expect(code).toBe(0);
      expect(stdout + stderr).not.toMatch(/(?!\n)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u);
      expect(stdout).toContain('31m');
      if (output === 'json')
        expect(JSON.parse(stdout)).toMatchObject([
          { process: name },
          { line: 2, text: expect.stringContaining(name) as string },
        ]);
    },
  );

  it.each<[output: string, stdout: string | RegExp, message: string]>([
    ['jsonl', `${JSON.stringify(ERROR)}\n`, ''],
    ['json', `${JSON.stringify(ERROR)}\n]\n`, ''],
    ['csv', '', MESSAGE],
  ])('reports lines that cannot be parsed with -o %s', async (output, end, message) => {
    const { code, stdout, stderr } = await parse(['-o', output], BROKEN);
    expect(stdout.endsWith(String(end))).toBe(true);
    expect({ code, stderr }).toEqual({ code: 0, stderr: `${message}3 rows from ss, 1 line could not be parsed\n` });
  });

  it('counts a row with an invalid part as a line that could not be parsed', async () => {
    const text =
      'Proto Recv-Q Send-Q Local Address Foreign Address State PID/Program name\ntcp 0 0 192.0.2.1:1 192.0.2.2:2 LISTEN x\n';
    expect((await parse(['-o', 'jsonl'], text)).stderr).toBe(
      '1 row from netstat of Linux, 1 line could not be parsed\n',
    );
  });

  it('shows errors regardless of filters', async () => {
    expect((await parse(['-o', 'jsonl', 'pid=99999'], BROKEN)).stdout).toBe(`${JSON.stringify(ERROR)}\n`);
  });

  it.each<[situation: string, args: string[], input: string, code: number, stdout: string, stderr: string]>([
    ['empty input', ['-o', 'json'], '', 0, '[\n]\n', '0 rows from empty input\n'],
    ['empty input, as CSV', ['-o', 'csv', 'pid=1'], '', 0, 'HEADER', '0 rows from empty input\n'],
    ['only a header', ['-o', 'jsonl'], TEXT.split('\n')[0] ?? '', 0, '', '0 rows from ss\n'],
    [
      'other text',
      ['-o', 'csv'],
      'hello 1',
      1,
      'HEADER',
      'Cannot parse line 1 "hello 1": not a row of ss or a supported netstat\n0 rows from neither ss nor netstat, 1 line could not be parsed\n',
    ],
    ['a missing file', ['/nowhere'], '', 1, '', 'Cannot read "/nowhere": no such file or directory\n'],
    ['a folder', ['/tmp'], '', 1, '', 'Cannot read "/tmp": is a directory\n'],
    ['two files', ['a', 'b'], '', 2, '', 'Cannot parse "b": only one file is allowed, after "a"\n'],
    [
      'an unknown filter value',
      ['state=open'],
      '',
      2,
      '',
      'Cannot use filter "state=open": state must be established, syn_sent, syn_received, fin_wait_1, fin_wait_2, time_wait, closed, close_wait, last_ack, listen, closing, unconnected or unknown\n',
    ],
    [
      'an unknown output',
      ['-o', 'yaml'],
      '',
      2,
      '',
      "Cannot read the command line: option '-o, --output <format>' argument 'yaml' is invalid. Allowed choices are table, json, jsonl, csv.\n",
    ],
  ])('handles %s', async (_situation, args, input, code, stdout, stderr) => {
    const header = `${Object.keys(parseText(TEXT).rows[0] ?? {}).join(',')}\n`;
    expect(await parse(args, input)).toEqual({ code, stdout: stdout.replace('HEADER', header), stderr });
  });

  it('reports a line of several megabytes and continues', async () => {
    const text = `${TEXT.split('\n').slice(0, 2).join('\n')}\n${'x'.repeat(4 << 20)}\n${TEXT.split('\n')[2] ?? ''}\n`;
    const { stdout, stderr } = await parse(['-o', 'jsonl'], text);
    expect(stdout.split('\n').map((line) => line.slice(0, 40))).toEqual([
      expect.stringContaining('"udp"'),
      '{"line":3,"error":"too-long","reason":"t',
      expect.stringContaining('"udp"'),
      '',
    ]);
    expect(stderr).toBe('2 rows from ss, 1 line could not be parsed\n');
  });

  it('needs little memory for a row before many lines that are no rows', () => {
    const input = `${TEXT.split('\n').slice(0, 2).join('\n')}\n${`tcp ESTAB ${'x'.repeat(190)}\n`.repeat(80_000)}`;
    const { status, stdout } = spawnSync(process.execPath, [MAIN, 'parse', '-o', 'csv'], {
      env: { ...ENVIRONMENT, NODE_OPTIONS: '--max-old-space-size=48' },
      input,
      encoding: 'utf8',
      timeout: 30_000,
      maxBuffer: 1 << 28,
    });
    expect([status, stdout.split('\n').length]).toEqual([0, 3]);
  });

  it.each(['parse', 'whois'])('%s rejects a directory as standard input', (command) => {
    const directory = openSync(folder, 'r');
    const { status, stderr } = spawnSync(process.execPath, [MAIN, command], {
      env: ENVIRONMENT,
      stdio: [directory, 'pipe', 'pipe'],
      encoding: 'utf8',
    });
    closeSync(directory);
    expect({ status, stderr }).toEqual({ status: 1, stderr: 'Cannot read standard input: it is a directory\n' });
  });

  it('prints each text when the next begins, and exits quietly when its output is closed', async () => {
    const child = spawn(process.execPath, [MAIN, 'parse', '-o', 'jsonl'], { env: ENVIRONMENT, timeout: 30_000 });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin.on('error', () => undefined);
    child.stdin.write(TEXT + TEXT);
    const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
    expect(chunk.toString()).toMatch(/^\{"transport":"udp"/);
    child.stdout.destroy();
    const endless = setInterval(() => child.stdin.write(TEXT), 1);
    const [code] = (await once(child, 'close')) as [number | null];
    clearInterval(endless);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('shows stored ASNs and configured networks, without querying a provider', async () => {
    const store = SqliteStore.open({ directory: folder, now: () => Date.now(), report: () => undefined });
    const origin = {
      asns: [13_335],
      name: 'CLOUDFLARENET',
      asCountry: 'US',
      prefix: '1.1.1.0/24',
      registry: 'arin',
      registryCountry: 'AU',
      allocated: null,
      askedAt: Date.now(),
      freshUntil: Date.now() + 3_600_000,
      source: 'cymru',
    };
    await store.write([{ key: 'asn:1:1.1.1.0/24', text: renderOrigin(origin), keepUntil: Date.now() + 3_600_000 }]);
    await store.close();
    const rules = join(folder, 'rules.yaml');
    writeFileSync(rules, 'networks: [{ name: office, cidrs: [9.9.9.0/24], asn: 64500 }]');
    const text = ['1.1.1.1', '8.8.8.8', '9.9.9.9'].map((ip) => `tcp ESTAB 0 0 10.0.0.1:1 ${ip}:443\n`).join('');
    const { stdout } = await parse(
      ['-o', 'json', `--storage.path=${folder}`, `--config.file=${rules}`, 'remote-port=443'],
      text,
    );
    expect((JSON.parse(stdout) as Row[]).map((row) => [row.network, row.asn, row.as_name, row.bgp_prefix])).toEqual([
      ['public', 13_335, 'CLOUDFLARENET', '1.1.1.0/24'],
      ['public', null, null, null],
      ['office', 64_500, 'office', null],
    ]);
  });
});
