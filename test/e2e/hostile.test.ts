import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { Exporter, runMain } from '../support/exporter.ts';
import {
  netnsOf,
  TestNetwork,
  whyNoNamespaces,
  type OpenedSockets,
  type OpenedRow,
} from '../support/sockets/network.ts';
import { parsePage, sumBy } from '../support/page.ts';
import { asSs, betweenLooks, miscounted, without, type Seen } from '../support/ss.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none'];

describe('processes with hostile names', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  const scratch = mkdtempSync(join(tmpdir(), 'peerscope-hostile-'));
  const rules = join(scratch, 'rules.yaml');
  let host = 0;

  /** The comm with Python's escapes, the name that it makes, and the label where that is not the name. Each has one socket. */
  const NAMES: readonly { comm: string; name: string; label?: string }[] = [
    { comm: '"},b:\\n\\xff', name: '"},b:\ufffd\ufffd' },
    { comm: '"} 1\\n# HELP', name: '"} 1\ufffd# HELP' },
    { comm: 'a",pod="b', name: 'a",pod="b' },
    { comm: 'a",pod="b\\\\', name: 'a",pod="b\\' },
    { comm: 'a,pod:b', name: 'a,pod:b' },
    { comm: 'back\\\\nslash', name: 'back\\nslash' },
    { comm: 'back\\nslash', name: 'back\ufffdslash' },
    { comm: ') R 1 (x) S 2', name: ') R 1 (x) S 2' },
    { comm: '\\x1b[31mred', name: '\ufffd[31mred' },
    { comm: '\\xe2\\x80\\xaeltr', name: '\ufffdltr' },
    { comm: '\\xf0\\x9f\\xa6\\x80', name: '🦀' },
    { comm: '\\xf0\\x9f\\xa6', name: '\ufffd' },
    { comm: 'other', name: 'other', label: '_other' },
    { comm: '_other', name: '_other', label: '__other' },
    { comm: ' ', name: ' ' },
    { comm: '__proto__', name: '__proto__' },
  ];

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: hostile processes: ${obstacle}\n`);
      return;
    }
    writeFileSync(rules, 'processes: [{ name: "{{ .comm }}" }]\n');
    host = await network.make();
    await Promise.all(
      NAMES.map(({ comm }) =>
        network.openSockets(host, { flags: [`--comm=${comm}`], kinds: ['tcp-listen=127.0.0.1:0'] }),
      ),
    );
  });

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    rmSync(scratch, { recursive: true });
  });

  it('break no line of the page and merge no series', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const exporter = await Exporter.start(['--config.file', rules, ...QUIET]);
    try {
      const page = parsePage(await (await exporter.get('/metrics')).arrayBuffer());
      const labels = NAMES.map(({ name, label = name }) => label);
      for (const family of ['peerscope_connections', 'peerscope_processes']) {
        const counts = Object.entries(sumBy(page, family, 'process')).filter(([label]) => labels.includes(label));
        expect(counts.sort(), family).toEqual(labels.map((label) => [label, 1]).sort());
      }
    } finally {
      await exporter.stop();
    }
  });

  it('break no row of a listing and send nothing to the terminal', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const json = await runMain(['list', '-o', 'json', '--config.file', rules, ...QUIET]);
    const rows = (JSON.parse(json.stdout) as Row[]).filter(({ netns }) => netns === netnsOf(host));
    expect(rows.map((row) => row.process).sort()).toEqual(NAMES.map(({ name }) => name).sort());
    const table = await runMain(['list', '--config.file', rules, ...QUIET]);
    expect(table.stdout).not.toMatch(/(?!\n)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u);
    expect(table.stdout.split('\n').filter((line) => /red|ltr|slash/.test(line))).toHaveLength(4);
  });

  describe('with connections', () => {
    /** What each leaves in a listing whatever the rest of its comm becomes. */
    const WORDS = ['title', 'bell', 'csi', 'rtl', 'line'];
    const COMMS = ['\\x1b]0;title\\x07', 'bell\\x07\\x08', '\\xc2\\x9b2Jcsi', '\\xe2\\x80\\xaertl', 'a\\nline\\r'];
    const OBEYED = /(?!\n)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;
    let netns = 0;

    beforeAll(async () => {
      if (obstacle !== null) return;
      const holder = await network.make();
      netns = netnsOf(holder);
      await Promise.all(
        COMMS.map((comm) =>
          network.openSockets(holder, { flags: [`--comm=${comm}`], kinds: ['tcp-pair=127.0.0.1:0'] }),
        ),
      );
    });

    it.for([
      'list',
      'list -o wide',
      'list -o csv',
      'list -o jsonl',
      'top',
      'top -o jsonl',
      'endpoints -n',
      'endpoints -n -o jsonl',
      'watch -c 2 -i 0.05 list',
      'watch -c 2 -i 0.05 -o jsonl top',
      'events --snapshot -c 1 -i 0.05',
    ])('send nothing through %s to who reads it', async (command, { skip }) => {
      skip(obstacle !== null, obstacle ?? '');
      const args = [...command.split(' '), `netns=${netns}`, '--config.file', rules, ...QUIET];
      const { code, stdout, stderr } = await runMain(args);
      expect(code).toBe(0);
      expect(stdout + stderr).not.toMatch(OBEYED);
      for (const word of WORDS) expect(stdout).toContain(word);
    });

    it.for(['list', 'top', 'endpoints -n', 'watch -c 2 -i 0.05 list', 'watch -c 2 -i 0.05 top'])(
      'have a terminal obey %s alone',
      (command, { skip }) => {
        skip(
          obstacle !== null || spawnSync('script', ['--version']).error !== undefined,
          obstacle ?? 'there is no script',
        );
        const line = [
          process.execPath,
          join(CHECKOUT, 'src/main.ts'),
          command,
          `netns=${netns}`,
          '--config.file',
          rules,
        ];
        const shown = execFileSync(
          'script',
          ['-qec', `stty cols 200 rows 100; ${[...line, ...QUIET].join(' ')}`, '/dev/null'],
          {
            encoding: 'utf8',
            env: { ...process.env, TERM: 'xterm-256color' },
            stdio: ['ignore', 'pipe', 'inherit'],
          },
        );
        for (const word of WORDS) expect(shown).toContain(word);
        expect(shown).toContain('\x1b[38;5;');
        // eslint-disable-next-line no-control-regex -- colors, the modes of a screen, and its two ways to clear
        expect(shown.replaceAll(/\x1b\[(?:[\d;]*m|\?(?:1049|1000|1006|25|7|2026)[hl]|H|2?J|K)|\r+\n/g, '')).not.toMatch(
          OBEYED,
        );
      },
    );

    it('are read from the text of ss as well', async ({ skip }) => {
      skip(obstacle !== null || spawnSync('ss', ['-V']).error !== undefined, obstacle ?? 'there is no ss');
      const holder = await network.make();
      await network.openSockets(holder, { flags: [`--comm=${COMMS[0] ?? ''}`], kinds: ['tcp-pair=127.0.0.1:0'] });
      const text = network.run(holder, 'ss -tunap');
      for (const output of ['table', 'json', 'csv']) {
        const { stdout, stderr } = await runMain(['parse', '-o', output, ...QUIET], text);
        expect(stdout).toContain('title');
        expect(stdout + stderr).not.toMatch(OBEYED);
      }
    });
  });
});

describe('peerscope run by an ordinary user', () => {
  const obstacle = whyNoNamespaces() ?? (spawnSync('setpriv', ['--version']).error ? 'setpriv is not installed' : null);
  const NOBODY = 65_534;
  const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
  const network = new TestNetwork();
  const copy = mkdtempSync(join(tmpdir(), 'peerscope-ordinary-'));
  const MAIN = [join(copy, 'node_modules/node/bin/node'), join(copy, 'src/main.ts')];
  let foreign: OpenedSockets | undefined;
  let own: OpenedSockets | undefined;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: live host as an ordinary user: ${obstacle}\n`);
      return;
    }
    // Whatever the checkout lies in may be closed to others.
    for (const part of ['package.json', 'src', 'test', 'node_modules'])
      execFileSync('cp', ['-r', '-H', '--preserve=links', join(CHECKOUT, part), copy]);
    execFileSync('chmod', ['-R', 'a+rX', copy]);
    chmodSync(copy, 0o755);
    const host = await network.make();
    foreign = await network.openSockets(host, {
      kinds: [
        'tcp-listen=0.0.0.0:80',
        'tcp-pair=[::1]:0',
        'tcp-backlog=127.0.0.1:0',
        'tcp-time-wait=127.0.0.1:0',
        'udp=[::]:53',
      ],
    });
    own = await network.openSockets(host, {
      command: [...AS_NOBODY, '/usr/bin/python3', join(copy, 'test/support/sockets/sockets.py')],
      kinds: ['tcp-listen=127.0.0.1:8080', 'tcp-connect=127.0.0.1:80', 'udp=127.0.0.1:0'],
    });
  }, 240_000);

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    rmSync(copy, { recursive: true });
  });

  function list(): Row[] {
    const [command = '', ...args] = [...AS_NOBODY, ...MAIN, 'list', '-o', 'json', ...QUIET];
    return JSON.parse(execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe', maxBuffer: 1 << 28 })) as Row[];
  }

  /** What a process of another user holds. */
  const forbidden = (): OpenedRow[] => (foreign?.opened ?? []).filter(({ inode }) => inode !== null);

  it('shows every row, with the owners that it may see', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    // Without ns/net a namespace goes by another number.
    const anywhere = (rows: readonly Seen[]): Seen[] => rows.map((row) => ({ ...row, netns: null }));
    const looks = await betweenLooks(list);
    const shown = anywhere(asSs(looks.between));
    expect({
      missing: without(anywhere(looks.still), shown),
      invented: without(shown, anywhere(looks.seen)),
    }).toEqual({ missing: [], invented: [] });

    for (const opened of own?.opened ?? [])
      expect(looks.between).toContainEqual(expect.objectContaining({ ...opened, unattributed_reason: null }));
    for (const opened of forbidden())
      expect(looks.between).toContainEqual(
        expect.objectContaining({ ...opened, pids: [], process: null, unattributed_reason: 'permission' }),
      );
  });

  it('counts every row, and those without an owner by reason', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const [command = '', ...args] = [...AS_NOBODY, ...MAIN, 'serve', '--web.listen-address=127.0.0.1:0', ...QUIET];
    const exporter = spawn(command, args, { stdio: ['ignore', 'inherit', 'pipe'] });
    const ended = once(exporter, 'exit');
    try {
      let url = '';
      for await (const line of createInterface({ input: exporter.stderr })) {
        url = /"listen":"([^ "]+)/.exec(line)?.[1] ?? '';
        if (url !== '') break;
      }
      const looks = await betweenLooks(async () =>
        parsePage(await (await fetch(`http://${url}/metrics`)).arrayBuffer()),
      );
      const page = looks.between;
      const { tcp = 0, udp = 0 } = sumBy(page, 'peerscope_connections', 'transport');
      expect(miscounted({ tcp, udp }, looks, ({ transport }) => String(transport))).toEqual([]);

      const reasons = sumBy(page, 'peerscope_sockets_unattributed', 'reason');
      const sum = Object.values(reasons).reduce((total, value) => total + value, 0);
      expect(sum).toBe(sumBy(page, 'peerscope_connections', 'process')['']);
      expect(reasons['permission']).toBeGreaterThanOrEqual(forbidden().length);
      expect(sumBy(page, 'peerscope_network_namespaces', 'status')['unreadable']).toBe(0);
    } finally {
      exporter.kill();
      await ended;
    }
  });
});
