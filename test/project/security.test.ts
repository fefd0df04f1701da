/** The threat model of docs/security.md, line by line, as far as other tests do not hold it; those are named there. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { record } from '../../src/cli/record.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES, parseConfig } from '../../src/config/config.ts';
import { parseOrigin } from '../../src/enrich/asn/cache.ts';
import { readEndpointSlice, readService } from '../../src/enrich/kubernetes/services.ts';
import { readPod } from '../../src/enrich/kubernetes/pods.ts';
import { chooseCollectors } from '../../src/web/negotiation.ts';
import { renderFamilies } from '../../src/expose/prometheus-text.ts';
import { parseWebConfig } from '../../src/web/web-config.ts';
import { parseFilters } from '../../src/rows/filter.ts';
import { parseRules } from '../../src/config/rules.ts';
import { Scrape } from '../../src/scrape.ts';
import { Tree } from '../support/proc-tree.ts';

const COLLECTORS = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true };
const CLOCK = { now: () => Date.UTC(2026, 0, 1), monotonic: () => performance.now() };
const HASH = '$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';

const scrapeOf = (root: string, rules = EMPTY_RULES): Scrape =>
  new Scrape(new Procfs(root), { seriesLimit: 1000, rules, collectors: COLLECTORS }, CLOCK, null);

/** The attacks of the threat model. */
const TRIED = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8')
  .replace(/^### Out of scope.*/ms, '')
  .matchAll(/^- \*\*(.*?)\.\*\*/gms)
  .map(([, tries = '']) => tries.replaceAll(/\s+/g, ' '))
  .toArray();

/** The tests of one line of the threat model, called as that line says. */
function threat(tries: string, tests: () => void): void {
  describe(tries, () => {
    it('is in the threat model', () => {
      expect(TRIED).toContain(tries);
    });
    tests();
  });
}

threat('Keys such as `__proto__`, values of other types, hostile names', () => {
  const before = Object.getOwnPropertyNames(Object.prototype).sort();
  afterEach(() => {
    expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(before);
    expect(({} as Record<string, unknown>)['polluted']).toBe(undefined);
  });

  it.each<[what: string, read: () => unknown, reason: string]>([
    [
      'in the configuration',
      () => parseRules('networks: [{ name: a, cidrs: [10.0.0.0/8], __proto__: { polluted: 1 } }]', 'x'),
      'networks[0].__proto__: unknown key',
    ],
    ['in its sections', () => parseRules('asn: { constructor: { prototype: { polluted: 1 } } }', 'x'), 'unknown key'],
    ['as a merge', () => parseRules('<<: { polluted: 1 }', 'x'), 'unknown key'],
    [
      'as the name of a user, which would leave the server without a password',
      () => parseWebConfig(`basic_auth_users: { __proto__: "${HASH}" }`, 'x'),
      'basic_auth_users.__proto__: must not be a user name',
    ],
    [
      'in the web configuration',
      () => parseWebConfig('http_server_config: { headers: { __proto__: { polluted: 1 } } }', 'x'),
      'http_server_config.headers.__proto__: unknown key',
    ],
    ['in a query of the API', () => parseFilters(['__proto__=polluted']), 'Cannot use filter "__proto__=polluted"'],
    ['in another', () => parseFilters(['constructor=1']), 'Cannot use filter "constructor=1"'],
  ])('%s: they are refused', (_what, read, reason) => {
    expect(read).toThrow(reason);
  });

  it.each<[what: string, read: () => unknown, expected: unknown]>([
    [
      'as a group of a pattern',
      () => parseRules('processes: [{ name: "{{ .__proto__ }}", comm: "(?<__proto__>x)" }]', 'x').processes.length,
      1,
    ],
    [
      'as any other user',
      () => [...parseWebConfig(`basic_auth_users: { constructor: "${HASH}" }`, 'x').users.keys()],
      ['constructor'],
    ],
    ['in an answer of a store', () => parseOrigin('{"__proto__":{"v":1,"a":[1],"t":1,"x":1,"polluted":1}}'), undefined],
    ['in a pod', () => readPod(JSON.parse('{"__proto__":{"metadata":{"uid":"a","namespace":"b","name":"c"}}}')), null],
    [
      'in the labels of a pod',
      () =>
        readPod(
          JSON.parse(
            '{"metadata":{"uid":"a","namespace":"b","name":"__proto__","labels":{"__proto__":{"polluted":1}},' +
              '"ownerReferences":[{"controller":true,"kind":"__proto__","name":"constructor"}]}}',
          ),
        )?.workload,
      'constructor',
    ],
    ['in a Service', () => readService(JSON.parse('{"__proto__":{"metadata":{"namespace":"a","name":"b"}}}')), null],
    [
      'in an EndpointSlice',
      () => readEndpointSlice(JSON.parse('{"metadata":{"__proto__":{"namespace":"a","name":"b"}}}')),
      null,
    ],
    ['in a choice of collectors', () => 'refusal' in chooseCollectors('/metrics?collect[]=__proto__', ['asn']), true],
  ])('%s: such keys are ordinary names, or are rejected', (_what, read, expected) => {
    expect(read()).toEqual(expected);
  });
});

threat('Arguments that make a pattern of `--config.file` run forever', () => {
  it('cost the names that it would give, and no row; each of these would take longer than the world lasts', () => {
    using tree = new Tree('plain-host');
    for (const pid of new Procfs(tree.root).pids()) tree.write(pid, 'cmdline', `${'a'.repeat(30_000)}!`);
    const rules = parseRules('processes: [{ name: "app-{{ .name }}", cmdline: "^(?<name>(?:a+)+)$" }]', 'x');
    const usual = scrapeOf(tree.root).scan(Infinity);
    const scrape = scrapeOf(tree.root, rules);
    for (let scans = 0; scans < 3; scans++) {
      const { families, failures, collectors } = scrape.scan(Infinity);
      expect(failures).toEqual(['Cannot match pattern "^(?<name>(?:a+)+)$" with all processes: it takes too long']);
      expect(collectors.filter(({ success }) => !success).map(({ collector }) => collector)).toEqual(['processes']);
      const rows = (found: typeof families): unknown =>
        found.find(({ name }) => name === 'peerscope_connections')?.samples;
      if (scans === 0) expect(rows(families)).toEqual(rows(usual.families));
    }
  });

  it('have no effect if the pattern is fast', () => {
    using tree = new Tree('plain-host');
    for (const pid of new Procfs(tree.root).pids()) tree.write(pid, 'cmdline', 'aaa');
    const rules = parseRules('processes: [{ name: "app-{{ .name }}", cmdline: "^(?<name>(?:a+)+)$" }]', 'x');
    const { families, failures } = scrapeOf(tree.root, rules).scan(Infinity);
    expect(failures).toEqual([]);
    const processes = families.find(({ name }) => name === 'peerscope_processes');
    const at = processes?.labels.indexOf('process') ?? -1;
    expect(new Set(processes?.samples.map(({ labels }) => labels[at]))).toEqual(new Set(['app-aaa']));
  });
});

threat('Names and arguments that forge, merge or hide a series', () => {
  it.each(['a"} 1\nforged{x="', 'a\\', 'a",pod="b', '\r\n# EOF', 'a\0b', '\u2028forged 1', '{}', '"'])(
    '%j',
    async (comm) => {
      using tree = new Tree('plain-host');
      const rules = parseRules('processes: [{ name: "{{ .comm }}" }]', 'x');
      for (const pid of new Procfs(tree.root).pids())
        tree.edit(pid, 'stat', /\(.*\)/s, () => `(${Buffer.from(comm).toString('latin1')})`);
      const { families } = scrapeOf(tree.root, rules).scan(Infinity);
      for (const format of ['text', 'openmetrics'] as const) {
        const page = await renderFamilies(families, format);
        const LINE =
          /^(?:# (?:HELP|TYPE|UNIT) peerscope_\w+ .*|# EOF|peerscope_\w+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? [\d.e+-]+)$/u;
        expect(
          page
            .trimEnd()
            .split('\n')
            .filter((line) => !LINE.test(line)),
        ).toEqual([]);
        expect(page).not.toMatch(/(?!\n)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u);
      }
    },
  );
});

threat('Links out of the tree, pipes and devices, endless texts, damaged files', () => {
  const SECRET = 'secret-of-the-reader';
  const outside = new Tree('plain-host');
  afterAll(() => outside[Symbol.dispose]());
  writeFileSync(join(outside.root, 'secret'), SECRET);

  /** What is seen of the tree, and what a recording of it holds. */
  function everything(root: string): string {
    const scrape = scrapeOf(root);
    const { families } = scrape.scan(Infinity);
    const copy = `${root}-copy`;
    try {
      record({ procfs: root, directory: copy });
      const texts = readdirSync(copy, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
      return JSON.stringify([families, texts]);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  }

  it.each(['cmdline', 'comm', 'cgroup', 'status', 'net/tcp', 'net/fib_trie'])(
    'show nothing from outside by a link instead of %s',
    (name) => {
      using tree = new Tree('plain-host');
      for (const pid of new Procfs(tree.root).pids()) {
        tree.write(pid, name, null);
        if (!name.startsWith('net/')) symlinkSync(join(outside.root, 'secret'), join(tree.root, String(pid), name));
      }
      const [first = 0] = new Procfs(tree.root).pids();
      if (name.startsWith('net/')) symlinkSync(join(outside.root, 'secret'), join(tree.root, String(first), name));
      expect(everything(tree.root)).not.toContain(SECRET);
    },
  );

  it('show nothing from outside by a link instead of a process directory', () => {
    using tree = new Tree('plain-host');
    const [pid = 0] = new Procfs(outside.root).pids();
    symlinkSync(join(outside.root, String(pid)), join(tree.root, '4000000'));
    expect(new Procfs(tree.root).read(4_000_000, 'stat')).toBe('unreadable');
    expect(new Procfs(tree.root).read(pid, 'stat')).toBeInstanceOf(Buffer);
  });

  it('may be reached by a link to the tree', () => {
    using tree = new Tree('plain-host');
    const link = `${tree.root}-link`;
    symlinkSync(tree.root, link);
    try {
      const [pid = 0] = new Procfs(link).pids();
      expect(new Procfs(link).read(pid, 'stat')).toBeInstanceOf(Buffer);
    } finally {
      rmSync(link);
    }
  });

  it.each(['stat', 'PID/stat', 'PID/cmdline', 'PID/cgroup', 'PID/status', 'PID/net/tcp'])(
    'block no reader by a pipe instead of %s',
    (name) => {
      using tree = new Tree('plain-host');
      const [pid = 0] = new Procfs(tree.root).pids();
      const path = join(tree.root, name.replace('PID', String(pid)));
      rmSync(path, { force: true });
      execFileSync('mkfifo', [path]);
      expect(new Procfs(tree.root).bootedAt()).toSatisfy((at) => name !== 'stat' || at === null);
      expect(everything(tree.root)).not.toContain(SECRET);
    },
  );

  it.each(['/proc/self/environ', '../../../../etc', '\x1b]0;x\x07'])('have no descriptor followed to %j', (target) => {
    using tree = new Tree('plain-host');
    for (const pid of new Procfs(tree.root).pids()) {
      rmSync(join(tree.root, String(pid), 'fd'), { recursive: true, force: true });
      mkdirSync(join(tree.root, String(pid), 'fd'));
      symlinkSync(target, join(tree.root, String(pid), 'fd', '3'));
    }
    expect(everything(tree.root)).not.toContain('PATH=');
  });
});

describe('the targets that flags accept', () => {
  it.each([
    ['asn.server', 'file:///etc/passwd', false],
    ['asn.server', 'whois.example:43/path', false],
    ['asn.server', 'user@whois.example:43', false],
    ['asn.server', '169.254.169.254:80', true],
    ['otlp.endpoint', 'file:///etc/passwd', false],
    ['otlp.endpoint', 'gopher://127.0.0.1:6379/_FLUSHALL', false],
    ['otlp.endpoint', 'http://169.254.169.254/', true],
    ['storage.url', 'unix:///run/docker.sock', false],
    ['storage.url', 'http://127.0.0.1/', false],
    ['storage.url', 'redis://127.0.0.1:22', true],
  ])('--%s=%s: %s', (flag, value, accepted) => {
    const parse = (): unknown => parseConfig({ [flag]: value }, {});
    if (accepted) expect(parse).not.toThrow();
    else expect(parse).toThrow(`--${flag}`);
  });
});
