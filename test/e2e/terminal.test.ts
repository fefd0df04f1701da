import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { cellsOf } from '../../src/cli/terminal/width.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { encodeEntry, encodeReport } from '../../src/unusual/records.ts';

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname;
const TREE = new URL('../fixtures/proc/plain-host', import.meta.url).pathname;
const EMPTY = new URL('../fixtures/proc/empty', import.meta.url).pathname;
const SS = new URL('../fixtures/text/ss-tunap.out', import.meta.url).pathname;
const PRIVATE = '--asn.provider=none';

/** What stty -g prints. */
const SETTINGS = /(?:[\da-f]+:){10,}[\da-f]+/;

const hasTmux = spawnSync('tmux', ['-V']).status === 0;
if (!hasTmux) process.stderr.write('SKIPPED: terminal: tmux is not installed\n');

/** A real terminal: a shell in tmux. The test reads its screen and sends keys. */
class Tmux {
  static #count = 0;
  readonly #name = `peerscope-${process.pid}-${Tmux.#count++}`;

  /** Without a command a shell runs in it. */
  constructor(width: number, height: number, env: Record<string, string> = {}, command?: string) {
    const run = command === undefined ? ['sh'] : ['sh', '-c', `exec ${command}`];
    const shell = ['env', '-i', `PATH=${process.env['PATH'] ?? ''}`, 'PS1=ready> ', ...assignments(env), ...run];
    this.#tmux(
      'new-session',
      '-d',
      '-x',
      String(width),
      '-y',
      String(height),
      shell.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' '),
    );
  }

  #tmux(...args: string[]): string {
    return execFileSync('tmux', ['-L', this.#name, '-f', '/dev/null', ...args], { encoding: 'utf8' });
  }

  /** Types a line of peerscope; `nodeArgs` stand before it. */
  run(args: string, nodeArgs = ''): void {
    this.type(`'${process.execPath}' ${nodeArgs} '${MAIN}' ${args}; echo "[code $?]"`);
    this.key('Enter');
  }

  type(text: string): void {
    this.#tmux('send-keys', '-l', text);
  }

  key(name: string): void {
    this.#tmux('send-keys', name);
  }

  resize(width: number, height: number): void {
    this.#tmux('resize-window', '-x', String(width), '-y', String(height));
  }

  /** The lines on the screen, with colors on request. */
  screen(withColors = false): string[] {
    return this.#tmux('capture-pane', '-p', ...(withColors ? ['-e'] : []), '-t', '0')
      .trimEnd()
      .split('\n');
  }

  /** All that was printed, what scrolled away included, lines that were wrapped joined. */
  history(): string {
    return this.#tmux('capture-pane', '-p', '-J', '-S', '-', '-t', '0');
  }

  get isAlternate(): boolean {
    return this.#tmux('display-message', '-p', '-t', '0', '#{alternate_on}').trim() === '1';
  }

  get showsCursor(): boolean {
    return this.#tmux('display-message', '-p', '-t', '0', '#{cursor_flag}').trim() === '1';
  }

  get readsMouse(): boolean {
    return this.#tmux('display-message', '-p', '-t', '0', '#{mouse_any_flag}').trim() === '1';
  }

  /** The process in front of the shell. */
  pidOf(word: string): number {
    const shell = this.#tmux('display-message', '-p', '-t', '0', '#{pane_pid}').trim();
    const children = execFileSync('ps', ['--ppid', shell, '-o', 'pid=,args='], { encoding: 'utf8' });
    return Number(/\d+/.exec(children.split('\n').find((line) => line.includes(word)) ?? '')?.[0]);
  }

  close(): void {
    this.#tmux('kill-server');
  }
}

function assignments(env: Record<string, string>): string[] {
  return Object.entries({ TERM: 'screen-256color', ...env }).map(([key, value]) => `${key}=${value}`);
}

describe.skipIf(!hasTmux)('in a real terminal', () => {
  let terminal: Tmux | undefined;
  afterEach(() => {
    terminal?.close();
    terminal = undefined;
  });
  const until = (condition: () => void): Promise<void> => vi.waitFor(condition, { timeout: 30_000, interval: 50 });
  const shows = (text: string | RegExp): Promise<void> =>
    until(() => expect(terminal?.screen().join('\n')).toMatch(text));
  /** Opens one whose shell waits: what is typed before is echoed in front of its prompt. */
  const open = async (width = 80, height = 24, env = {}): Promise<Tmux> => {
    const one = (terminal = new Tmux(width, height, env));
    await shows(/^ready>/);
    return one;
  };
  const ended = (code: number): Promise<void> => until(() => expect(terminal?.history()).toContain(`[code ${code}]\n`));

  describe('watch restores the terminal', () => {
    it.each<[how: string, end: (one: Tmux) => void, code: number]>([
      ['by q', (one) => one.key('q'), 0],
      ['by Ctrl-C', (one) => one.key('C-c'), 0],
      ['by SIGTERM', (one) => process.kill(one.pidOf('watch'), 'SIGTERM'), 0],
      ['by SIGHUP', (one) => process.kill(one.pidOf('watch'), 'SIGHUP'), 0],
      ['by SIGQUIT', (one) => process.kill(one.pidOf('watch'), 'SIGQUIT'), 0],
      ['by q while it is paused', (one) => one.type(' q'), 0],
      ['by an uncaught error', (one) => process.kill(one.pidOf('watch'), 'SIGUSR2'), 1],
    ])('%s', async (_how, end, code) => {
      const one = await open();
      one.type('stty -g; echo BEFORE');
      one.key('Enter');
      await shows(/^BEFORE$/m);
      const settings = SETTINGS.exec(one.screen().join('\n'))?.[0];
      expect(settings).toBeDefined();
      const crash = `data:text/javascript,process.on("SIGUSR2",()=>{throw(new(Error)("crashed"))})`;
      one.run(`watch list --path.procfs='${TREE}' ${PRIVATE}`, `--import '${crash}'`);
      await shows(/every 1 s/);
      expect(one.isAlternate).toBe(true);
      expect(one.showsCursor).toBe(false);
      expect(one.readsMouse).toBe(true);
      end(one);
      await ended(code);
      expect(one.readsMouse).toBe(false);
      expect(one.isAlternate).toBe(false);
      expect(one.showsCursor).toBe(true);
      expect(one.screen().join('\n')).toContain('BEFORE');
      if (code === 1) expect(one.history()).toContain('Error: crashed');
      one.type('clear; stty -g');
      one.key('Enter');
      await until(() => expect(SETTINGS.exec(one.screen().join('\n'))?.[0]).toBe(settings));
    });

    const pause = async (one: Tmux): Promise<void> => {
      one.key('Space');
      await shows(/PAUSED/);
      // It waits for nothing but keys once its interval is over.
      for (let looks = 0; looks < 10; looks++) one.screen();
    };
    it.each<[how: string, input: string, stop: (one: Tmux) => void | Promise<void>, quit: string]>([
      ['by Ctrl-Z', '', (one) => one.key('C-z'), 'q'],
      ['by Ctrl-Z while it is paused', '', (one) => pause(one).then(() => one.key('C-z')), 'q'],
      ['by Ctrl-Z where it gets no keys', '</dev/null', (one) => one.key('C-z'), 'C-c'],
      ['by SIGTSTP', '', (one) => process.kill(one.pidOf('watch'), 'SIGTSTP'), 'q'],
    ])('while it is stopped %s, and comes back', async (_how, input, stop, quit) => {
      const one = await open();
      one.run(`watch top -i 0.05 --path.procfs='${TREE}' ${PRIVATE} ${input}`);
      await shows(/22 sockets|lines 1-/);
      await stop(one);
      await until(() => expect(one.isAlternate).toBe(false));
      await shows(/\[code \d+\]/);
      expect(one.showsCursor).toBe(true);
      one.type('fg; echo "[back $?]"');
      one.key('Enter');
      await until(() => expect(one.isAlternate).toBe(true));
      await shows(/connections with a remote/);
      one.key(quit);
      await until(() => expect(one.history()).toContain('[back 0]\n'));
      expect(one.isAlternate).toBe(false);
    });

    it('after a stop signal in a session without job control, in which it continues', async () => {
      const command = `'${process.execPath}' '${MAIN}' watch top --path.procfs='${TREE}' ${PRIVATE}`;
      const one = (terminal = new Tmux(80, 24, {}, command));
      await shows(/connections with a remote/);
      one.key('C-z');
      one.key('Space');
      await shows(/PAUSED/);
      one.key('q');
    });

    it('after the terminal grew', async () => {
      const one = await open();
      one.type('echo BEFORE');
      one.key('Enter');
      await shows(/^BEFORE$/m);
      one.run(`watch list --path.procfs='${TREE}' ${PRIVATE}`);
      await shows(/every 1 s/);
      one.resize(120, 24);
      await until(() => expect(Math.max(...one.screen().map(cellsOf))).toBeGreaterThan(80));
      one.key('q');
      await ended(0);
      expect(one.screen().join('\n')).toMatch(/^BEFORE$/m);
      expect(one.screen().join('\n')).not.toMatch(/listen/);
    });
  });

  it('watch marks new rows, pauses, and continues', async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const one = await open();
      one.run(`watch list -i 0.2 remote-port=${port} ${PRIVATE}`);
      await shows(/every 0\.2 s {2}0 new/);
      expect(one.screen().join('\n')).not.toContain('established');
      one.key('Space');
      await shows(/PAUSED/);
      sockets.push(connect(port, '127.0.0.1'));
      await until(() => expect(sockets).toHaveLength(2));
      const paused = one.screen();
      one.key('Space');
      await shows(/^\+ .*established/m);
      expect(paused.join('\n')).not.toContain('established');
      await shows(/^ {2}.*established/m);
      one.key('q');
      await ended(0);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  it('watch filters, sorts, helps and strikes closed lines', async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const one = await open(140, 30);
      one.run(`watch list -i 0.2 port=${port} ${PRIVATE}`);
      await shows(/listen .*\n/);
      sockets.push(connect(port, '127.0.0.1'));
      await shows(/^\+ .*established/m);
      one.key('?');
      await shows(/Page Up and Page Down/);
      one.key('?');
      one.key('/');
      one.type('state=nonsense');
      one.key('Enter');
      await shows(/\/state=nonsense_ {2}Cannot use filter "state=nonsense"/);
      for (let i = 0; i < 'nonsense'.length; i++) one.key('BSpace');
      one.type('ESTAB');
      one.key('Enter');
      await shows(/filter state=ESTAB/);
      await until(() => expect(one.screen().join('\n')).not.toMatch(/^. .* listen /m));
      one.key('s');
      await shows(/filter state=ESTAB, by process/);
      one.key('r');
      await shows(/by process, reversed/);
      for (const socket of sockets) socket.destroy();
      await shows(/^- .*established/m);
      await until(() => expect(one.screen().join('\n')).not.toMatch(/^- /m));
      one.key('q');
      await ended(0);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  it('list shows who the peer is at 80 columns', async () => {
    const one = await open(80, 40);
    one.run(`list --path.procfs='${TREE}' ${PRIVATE}`);
    await ended(0);
    const lines = one.history().split('\n');
    expect(lines.find((line) => line.includes('REMOTE'))).toMatch(
      /^STATE .*LOCAL .*REMOTE .*DIRECTION .*PROCESS .*PEER/,
    );
    for (const line of lines.filter((line) => /^(listen|estab)/.test(line)))
      expect(cellsOf(line)).toBeLessThanOrEqual(80);
  });

  it('watch follows the size of the terminal and scrolls', async () => {
    const one = await open(120, 40);
    one.run(`watch endpoints -n --path.procfs='${TREE}' ${PRIVATE}`);
    await shows(/systemd-resolved/);
    const lines = (): number => one.screen().length;
    one.resize(60, 12);
    await until(() => expect(lines()).toBeLessThanOrEqual(12));
    await shows(/lines 1-10 of/);
    for (const line of one.screen()) expect(cellsOf(line)).toBeLessThanOrEqual(60);
    one.key('j');
    await shows(/lines 2-11 of/);
    one.key('PageDown');
    await shows(/lines 11-20 of/);
    one.key('PageUp');
    one.key('k');
    await shows(/lines 1-10 of/);
    one.resize(20, 5);
    await shows(/lines/);
    for (const line of one.screen()) expect(cellsOf(line)).toBeLessThanOrEqual(20);
    one.resize(120, 40);
    await shows(/systemd-resolved/);
    one.key('q');
    await ended(0);
  });

  it.each<[view: string, selected: RegExp, details: RegExp]>([
    ['list', /^ > ?\S+ .*sshd/m, /^ {2}local port +22$/m],
    ['top', /^ >sshd/m, /^ {2}states established +\d+$/m],
    ['endpoints -n', /^ > .*(?:->|<-)/m, /^ {2}connections +\d+$/m],
  ])('watch %s shows the details of the selected line', async (view, selected, details) => {
    const one = await open(100, 24);
    one.run(`watch ${view} -i 0.2 --path.procfs='${TREE}' ${PRIVATE}`);
    await shows(/every 0\.2 s/);
    const marked = (): string | undefined => one.screen().find((line) => /^.>/.test(line));
    while (!selected.test(one.screen().join('\n'))) {
      const before = marked();
      one.key('Down');
      await until(() => expect(marked()).not.toBe(before));
    }
    const before = one.screen().slice(1);
    expect(before.join('\n')).toMatch(selected);
    one.key('Enter');
    await shows(/Enter goes back/);
    while (!details.test(one.screen().join('\n'))) {
      const at = one.screen().at(-1);
      one.key('Down');
      await until(() => expect(one.screen().at(-1)).not.toBe(at));
    }
    one.key('Escape');
    await until(() => expect(one.screen().slice(1)).toEqual(before));
    one.key('q');
    await ended(0);
  });

  it('watch scrolls by the mouse wheel, and ignores clicks', async () => {
    const one = await open(80, 12);
    one.run(`watch list --path.procfs='${TREE}' ${PRIVATE}`);
    await shows(/lines 1-9 of/);
    one.type('\x1b[<65;5;5M');
    await shows(/lines 4-12 of/);
    one.type('\x1b[<0;5;5M\x1b[<0;5;5m\x1b[<65;5;5M');
    await shows(/lines 7-15 of/);
    one.type('\x1b[<64;5;5M\x1b[<64;5;5M');
    await shows(/lines 1-9 of/);
    one.key('q');
    await ended(0);
  });

  describe.each([80, 200])('at %d columns', (width) => {
    const contents: Readonly<Record<string, RegExp>> = {
      list: /^ *(?:NETID )? *STATE .*LOCAL .*REMOTE .*DIRECTION .*PROCESS .*PEER/m,
      top: /connections? with a remote/,
      'watch list': /^ *(?:NETID )? *STATE .*LOCAL .*REMOTE .*DIRECTION .*PROCESS .*PEER/m,
      'watch top': /connections? with a remote/,
    };
    it.each(
      Object.keys(contents).flatMap((command) =>
        [{ LANG: 'C.UTF-8' }, { LANG: 'C' }].map((env) => ({ command, env, lang: env.LANG })),
      ),
    )('$command with LANG=$lang', async ({ command, env }) => {
      const one = await open(width, 60, { LC_ALL: env.LANG, ...env });
      const isWatch = command.startsWith('watch');
      one.run(`${command} --path.procfs='${TREE}' ${PRIVATE}`);
      await (isWatch ? shows(/every 1 s/) : ended(0));
      await shows(contents[command] ?? '');
      const lines = one.screen().filter((line) => !line.includes('main.ts'));
      expect(lines.filter((line) => cellsOf(line.trimEnd()) > width)).toEqual([]);
      const text = lines.join('\n');
      if (env.LANG === 'C') expect(text).toMatch(/^[\n\x20-\x7e]*$/);
      else if (command.includes('top')) expect(text).toMatch(/[█-▏]/);
      if (isWatch) one.key('q');
      await ended(0);
    });
  });

  it('watch of another exporter survives its restart, and quits while it hangs', async () => {
    let answer: 'rows' | 'failure' | 'silence' = 'rows';
    const row = { transport: 'tcp', local_address: '192.0.2.1', local_port: 22, state: 'established', process: 'sshd' };
    const server = createHttpServer((_request, response) => {
      if (answer === 'rows') response.end(`${JSON.stringify(row)}\n`);
      else if (answer === 'failure') response.destroy();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const one = await open(120, 12);
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      one.run(`watch list -i 0.1 --connect=${url} ${PRIVATE}`);
      await shows(/sshd[^]*From the exporter at/);
      answer = 'failure';
      await shows(/sshd[^]*Last rows of the exporter[^]*Cannot read connections from "http/);
      answer = 'rows';
      await until(() => expect(one.screen().join('\n')).not.toContain('Cannot'));
      const asked = once(server, 'request');
      answer = 'silence';
      await asked;
      one.key('q');
      await ended(0);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it.each([40, 50])('watch fills all of %d columns, from the first line to the last', async (width) => {
    const one = await open(width, 12);
    one.run(`watch list -o wide --path.procfs='${TREE}' ${PRIVATE}`);
    await until(() => {
      const lines = one.screen();
      expect(lines[0]).toMatch(/^peerscope conn/);
      expect(lines).toHaveLength(12);
      // Each line is longer than the screen, and "…" stands in the last cell.
      expect(lines.filter((line) => cellsOf(line) !== width || !line.endsWith('…'))).toEqual([]);
    });
    one.key('q');
    await ended(0);
  });

  it.each(['list', 'top', 'endpoints -n', `parse '${SS}'`])('%s fits 80 columns', async (command) => {
    const one = await open(80, 100);
    one.run(`${command} --path.procfs='${TREE}' ${PRIVATE}`);
    await ended(0);
    const wrapped = one
      .history()
      .split('\n')
      .slice(1)
      .filter((line) => cellsOf(line.trimEnd()) > 80);
    expect(wrapped.filter((line) => !line.includes('main.ts'))).toEqual([]);
  });

  describe.each([
    { width: 80, env: { LANG: 'C.UTF-8' } },
    { width: 80, env: { LANG: 'C' } },
    { width: 200, env: { LANG: 'C.UTF-8' } },
    { width: 200, env: { LANG: 'C' } },
  ])('at $width columns with $env', ({ width, env }) => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-terminal-'));
    beforeAll(async () => {
      const now = Date.now();
      const store = SqliteStore.open({ directory: folder, now: () => now, report: (line) => expect.fail(line) });
      const names = ['nginx.service', 'a-workload-with-a-name-that-is-longer-than-its-column-can-ever-be', 'café-☕'];
      await store.writeRecords(
        names.map((workload, i) => {
          const times = { firstAt: now - i * 86_400_000, recordedAt: now, lastAt: now };
          return encodeEntry({ namespace: '', workload }, 'client', `AS${13_335 + i}`, times);
        }),
      );
      const found = { kind: 'operator', process: 'curl', reach: 'none', points: 2, at: now, recordedAt: now } as const;
      const reason =
        'This workload has not called this operator before, and no other calm workload of the host calls it.';
      await store.writeRecords(
        names.map((workload, i) =>
          encodeReport(
            { ...found, owner: { namespace: '', workload }, what: `AS${64_500 + i} Café Networks`, reason },
            'node-1',
          ),
        ),
      );
      await store.close();
    });
    afterAll(() => rmSync(folder, { recursive: true }));
    const flags = `--path.procfs='${TREE}' ${PRIVATE} --storage.path='${folder}'`;
    const isAscii = env.LANG === 'C';
    const check = (lines: readonly string[]): void => {
      expect(lines.filter((line) => cellsOf(line.trimEnd()) > width)).toEqual([]);
      // eslint-disable-next-line no-control-regex -- all that is not ASCII
      if (isAscii) expect(lines.filter((line) => /[^\x00-\x7f]/.test(line))).toEqual([]);
    };

    it.each([
      ['list', /STATE .* PEER/m],
      ['list -o table --sort peer', /STATE .* PEER/m],
      ['top', /\bnginx\b/],
      ['top --by asn', /^public /m],
      ['endpoints -n', /^Distant inbound: /m],
      ['exposed', /^REACH .* PEERS/m],
      ['inspect :443', /^port 443$/m],
      ['history', /AS13335 Cloudflare/],
    ])('%s fits', async (command, expected) => {
      const one = await open(width, 100, env);
      one.run(`${command} ${flags}`);
      await ended(0);
      const lines = one.history().split('\n');
      const start = lines.findLastIndex((line) => line.includes('main.ts')) + 1;
      const end = lines.findLastIndex((line) => line.startsWith('[code'));
      expect(lines.slice(start, end).join('\n')).toMatch(expected);
      check(lines.slice(start, end));
    });

    it('unusual fits, with every reason', async () => {
      const one = await open(width, 100, env);
      one.run(`unusual ${flags}`);
      await ended(3);
      const lines = one.history().split('\n');
      const shown = lines.slice(lines.findLastIndex((line) => line.includes('main.ts')) + 1);
      check(shown.filter((line) => !line.startsWith('[code')));
      const text = shown.join(' ').replaceAll(/\s+/g, ' ');
      expect(text).toMatch(/^SEVERITY WORKLOAD .*nginx\.service.* AS64500 Caf/);
      expect(text.split('no other calm workload of the host calls it.')).toHaveLength(4);
    });

    it('events fit, with every peer', async () => {
      const one = await open(width, 100, env);
      one.run(`events -o text -c 1 -i 0.1 --snapshot ${flags}`);
      await ended(0);
      const lines = one.history().split('\n');
      const shown = lines.slice(lines.findLastIndex((line) => line.includes('main.ts')) + 1);
      check(shown.filter((line) => !line.startsWith('[code') && !line.includes('sockets without')));
      expect(shown.join('\n')).toMatch(/^\d\d:\d\d:\d\d {2}open {5}tcp {2}\S+:\d+ -> 1\.1\.1\.1:443/m);
      expect(shown.filter((line) => /1\.1\.1\.1:443/.test(line)).length).toBeGreaterThan(0);
    });

    it.each(['list', 'top', 'top --by asn', 'endpoints -n'])('watch %s fits', async (view) => {
      const one = await open(width, 24, env);
      one.run(`watch ${view} ${flags}`);
      await shows(/^peerscope [^]* helps, q quits/);
      check(one.screen());
      one.key('?');
      await shows(/wheel/);
      check(one.screen());
      one.key('?');
      one.key('q');
      await ended(0);
    });
  });

  it.each(['list', 'top', 'endpoints -n', 'watch -c 1 top'])('%s shows what fits in 20 columns', async (command) => {
    const one = await open(20, 60);
    one.run(`${command} --path.procfs='${TREE}' ${PRIVATE}`);
    await ended(0);
    expect(one.history()).not.toMatch(/Error|Cannot/);
  });

  it.each<[what: string, env: Record<string, string>, args: string, color: string | null]>([
    ['256 colors', {}, '', '\x1b[38;5;71mlisten'],
    ['16 colors', { TERM: 'screen' }, '', '\x1b[32mlisten'],
    ['all colors', { COLORTERM: 'truecolor' }, '', '\x1b[38;2;84;174;102mlisten'],
    ['no colors with NO_COLOR', { NO_COLOR: '1' }, '', null],
    ['no colors on a dumb terminal', { TERM: 'dumb' }, '', null],
    ['no colors with --color=never', {}, '--color=never', null],
    ['colors with --color=always', { NO_COLOR: '1' }, '--color=always', '\x1b[38;5;71mlisten'],
  ])('list has %s', async (_what, env, args, color) => {
    const one = await open(100, 60, env);
    one.run(`list state=listen --path.procfs='${TREE}' ${PRIVATE} ${args}`);
    await ended(0);
    const screen = one.screen(true).join('\n');
    if (color === null) expect(screen).not.toContain('mlisten');
    else expect(screen).toContain(color);
  });

  it.each<[shell: string, start: string, load: string]>([
    ['bash', 'bash --norc', 'source <(PEERSCOPE completion bash)'],
    ['zsh', 'zsh -f', 'autoload -U compinit; compinit -D; source <(PEERSCOPE completion zsh)'],
    ['fish', 'fish --no-config', 'PEERSCOPE completion fish | source'],
  ])('%s completes commands, options and values', async (shell, start, load) => {
    if (spawnSync(shell, ['--version']).status !== 0) {
      process.stderr.write(`SKIPPED: completion in ${shell}: it is not installed\n`);
      return;
    }
    const one = await open(100, 40, { HOME: '/dev/null/none', INPUTRC: '/dev/null' });
    const enter = (text: string): void => {
      one.type(text);
      one.key('Enter');
    };
    enter(start);
    enter('echo LOADING');
    await shows(/^LOADING$/m);
    enter(`${load.replace('PEERSCOPE', `'${process.execPath}' '${MAIN}'`)}; echo LOADED`);
    await shows(/^LOADED$/m);
    for (const [typed, completed] of [
      ['peerscope endp', /peerscope endpoints/],
      ['peerscope watch to', /peerscope watch top/],
      ['peerscope list --nume', /peerscope list --numeric/],
      ['peerscope watch top --by work', /--by workload/],
      ['peerscope list -o wi', /-o wide/],
      ['peerscope list --source netst', /--source netstat/],
      ['peerscope --web.tele', /--web\.telemetry-path/],
      ['peerscope completion zs', /completion zsh/],
    ] as const) {
      one.type(typed);
      one.key('Tab');
      await shows(completed);
      one.key('C-u');
    }
    expect(one.history()).not.toMatch(/unknown|not found|error/i);
  });

  it('watch appends on a dumb terminal', async () => {
    const one = await open(80, 40, { TERM: 'dumb' });
    one.run(`watch list -c 2 -i 0.1 --path.procfs='${EMPTY}' ${PRIVATE}`);
    await ended(0);
    expect(one.isAlternate).toBe(false);
    expect(one.history().match(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/gm)).toHaveLength(2);
  });
});
