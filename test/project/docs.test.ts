import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execFile } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ASN_INFO, FAMILIES } from '../../src/metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../src/metrics/status-families.ts';
import { stateOf } from '../../src/collect/net-tcp-udp-raw.ts';
import { environmentVariable, FLAGS } from '../../src/config/flags.ts';
import { parseRules } from '../../src/config/rules.ts';
import { seriesNames } from '../support/alert-rules.ts';
import { startCymruServer } from '../support/cymru-server.ts';
import { samplesOf } from '../support/exporter.ts';
import { runHere } from '../support/main.ts';

const ROOT = join(import.meta.dirname, '../..');
const DOCUMENTS = readdirSync(ROOT)
  .concat(
    ['docs', 'docs/runbooks'].flatMap((folder) => readdirSync(join(ROOT, folder)).map((name) => `${folder}/${name}`)),
  )
  .filter((name) => name.endsWith('.md'));
const CATALOGUE = [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES];

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const README = read('README.md');
const captures = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, found = '']) => found);

/** The lines of the README's fenced blocks in a language. */
const blocks = (language: string): string[][] =>
  captures(README, new RegExp(`^\`\`\`${language}\n(.*?)\n\`\`\``, 'gms')).map((block) => block.split('\n'));

/** Command lines of other programs, whose flags are their own. */
const OTHERS =
  /(?<=^|`)(?:apt-get|cosign|docker|dnf|helm|install|kubectl|npm ci|npm run|sed|systemctl|systemd-tmpfiles|tar) (?:\\\n|[^`\n])*/gm;

/** What the program's help lists: the flags of every command, without dashes. */
const help = new Map<string, Set<string>>();

const folder = mkdtempSync(join(tmpdir(), 'peerscope-docs-'));
afterAll(() => rmSync(folder, { recursive: true }));

beforeAll(async () => {
  const { stdout } = await runHere(['--help']);
  const commands = captures(stdout.slice(stdout.indexOf('\nCommands:')), /^ {2}([a-z-]+) \[options\]/gm);
  await Promise.all(
    commands.map(async (command) => {
      const { stdout } = await runHere([...(command === 'watch' ? ['watch', 'list'] : [command]), '--help']);
      const flags = stdout
        .matchAll(/^ {2}(?:-\w, )?--(\[no-\])?([\w.-]+)/gm)
        .flatMap(([, no, name = '']) => (no ? [name, `no-${name}`] : [name]));
      help.set(command, new Set(flags));
    }),
  );
}, 60_000);

describe.each(DOCUMENTS)('%s names only', (document) => {
  const text = read(document);

  test('metrics of the catalogue', () => {
    const known = new Set(CATALOGUE.flatMap(seriesNames));
    for (const { name } of CATALOGUE) known.add(name);
    const isKnown = (name: string): boolean =>
      known.has(name) || (name.endsWith('*') && [...known].some((one) => one.startsWith(name.slice(0, -1))));
    expect(captures(text, /\b(peerscope_\w+\*?)/g).filter((name) => !isKnown(name))).toEqual([]);
  });

  test('existing flags and environment variables', () => {
    const flags = new Set([...help.values()].flatMap((flags) => [...flags]));
    const twins = new Set(FLAGS.map(({ name }) => environmentVariable(name)));
    const own = text.replaceAll(OTHERS, '');
    expect(captures(own, /(?<![\w-])--([a-z][\w.-]*)/g).filter((name) => !flags.has(name))).toEqual([]);
    expect(captures(text, /\b(PEERSCOPE_\w+)/g).filter((name) => !twins.has(name))).toEqual([]);
  });

  test('existing commands, with their flags', () => {
    const lines = captures(text, /(?:`|^\$ )(?:peerscope|npm -s start --|node dist\/main\.js) ([a-z].*?)(?:`|$)/gm);
    const wrong = lines.filter((line) => {
      const flags = help.get(line.replace(/ .*/, ''));
      return !flags || captures(line, / --([\w.-]+)/g).some((name) => !flags.has(name));
    });
    expect(wrong).toEqual([]);
  });

  test('links to existing files and headings', () => {
    const slugs = captures(text, /^#+ (.+)$/gm).map((heading) => heading.toLowerCase().replaceAll(/[^\w -]/g, ''));
    const anchors = new Set(slugs.map((slug) => `#${slug.replaceAll(' ', '-')}`));
    const broken = captures(text, /\]\(([^)]+)\)/g).filter((target) =>
      target.startsWith('#') ? !anchors.has(target) : !existsSync(join(ROOT, dirname(document), target)),
    );
    expect(broken).toEqual([]);
  });
});

describe('the README', () => {
  test('lists every command', () => {
    expect(captures(README, /^\| `peerscope ([a-z-]+)/gm).sort()).toEqual([...help.keys()].sort());
  });

  test('compares only existing states with those of node_exporter', () => {
    const states = Array.from({ length: 12 }, (_, code) => stateOf(0, code));
    const compared = captures(README, /^\| `(\w+)` +\| `\w+` +\|$/gm);
    expect(compared.filter((state) => !states.some((known) => known === state))).toEqual([]);
    expect(compared).not.toEqual([]);
  });

  test('shows a valid configuration', () => {
    const configuration = blocks('yaml').find(([first]) => first?.startsWith('processes:')) ?? [];
    const rules: Readonly<Record<string, readonly unknown[]>> = {
      ...parseRules(configuration.join('\n'), 'README.md'),
    };
    expect(Object.entries(rules).filter(([, list]) => list.length !== 1)).toEqual([]);
  });

  test('shows metrics that the program serves for the recorded host', () => {
    const page = blocks('console').find(([first]) => first?.startsWith('$ curl')) ?? [];
    const golden = read('test/golden/plain-host.prom');
    const wrong = page.slice(1).filter((line) => {
      const family = /^\w+/.exec(line)?.[0] ?? '';
      const [sample] = samplesOf(line, family);
      return !sample || samplesOf(golden, family).get(sample[0]) !== sample[1];
    });
    expect(wrong).toEqual([]);
    expect(page.length).toBeGreaterThan(1);
  });

  test.each([
    ['top --by asn --limit 3', 'top-asn-120'],
    ['endpoints -n', 'endpoints'],
    ['top --limit 3', 'top-80'],
  ])('shows what %s draws for the recorded host', (command, golden) => {
    const shown = blocks('console').find(([first]) => first === `$ peerscope ${command}`) ?? [];
    const drawn = read(`test/golden/terminal/plain-host/${golden}.txt`);
    expect(drawn).toContain(`${shown.slice(1).join('\n')}\n`);
    expect(shown.length).toBeGreaterThan(1);
  });

  test('shows no command output that is untested', () => {
    const commands = blocks('console').map(([first = '']) => first.replace(/^\$ (peerscope )?/, ''));
    expect(commands.map((command) => command.replace(/ .*/, '')).sort()).toEqual([
      'curl',
      'endpoints',
      'list',
      'top',
      'top',
    ]);
  });

  test('shows rows that the program lists for the recorded host', { timeout: 60_000 }, async () => {
    const server = await startCymruServer([
      '13335 | 1.1.1.0 | 1.1.1.0/24 | US | arin | 2010-07-14 | CLOUDFLARENET - Cloudflare, Inc., US',
      '15169 | 8.8.8.0 | 8.8.8.0/24 | US | arin | 2023-12-28 | GOOGLE - Google LLC, US',
      '19281 | 9.9.9.0 | 9.9.9.0/24 | CH | ripencc | 2017-09-13 | QUAD9-AS-1, CH',
    ]);
    const storage = `--storage.path=${folder}`;
    const asking = `--asn.server=${server.host}:${server.port}`;
    const learned = await runHere(['whois', '1.1.1.1', '8.8.8.8', '9.9.9.9', storage, asking]);
    await server.close();
    expect(learned.code).toBe(0);
    const { stdout } = await runHere(['list', `--path.procfs=${join(ROOT, 'test/fixtures/proc/plain-host')}`, storage]);

    const table = stdout.split('\n').map(cells);
    const [[, ...shown] = []] = blocks('console');
    const columns = cells(shown[0] ?? '').map((title) => table[0]?.indexOf(title) ?? -1);
    const pick = (row: string[]): string => columns.map((column) => row[column] ?? '').join('  ');
    const listed = new Set(table.map((row) => pick(row).trim()));
    expect(shown.map((line) => cells(line).join('  ')).filter((line) => !listed.has(line))).toEqual([]);
    expect(shown.length).toBeGreaterThan(1);
  });
});

/** The cells of a line of a table, two blanks or more apart. */
function cells(line: string): string[] {
  return line.split(/ {2,}/);
}

describe('docs/library.md', () => {
  const snippets = captures(read('docs/library.md'), /^```js\n(.*?)\n```$/gms);
  const library = pathToFileURL(join(ROOT, 'src/index.ts')).href;

  test.each(snippets.map((snippet, i) => ({ number: i + 1, snippet })))(
    'has snippet $number, which runs without errors',
    { timeout: 60_000 },
    async ({ number, snippet }) => {
      const path = join(folder, `snippet-${number}.mjs`);
      writeFileSync(path, snippet.replace("from 'peerscope'", `from '${library}'`));
      const { stderr } = await promisify(execFile)(process.execPath, [path], { cwd: folder });
      expect(stderr).toBe('');
    },
  );

  test('has a snippet for each function', () => {
    for (const name of captures(read('docs/library.md'), /^- `(\w+)\(.*?\)` /gm))
      expect(snippets.join('\n')).toMatch(new RegExp(`import \\{[^}]*\\b${name}\\b[^}]*\\} from 'peerscope'`));
  });
});

test('the changelog gives a reason for every runtime dependency', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
  const reasons = captures(read('CHANGELOG.md'), /^- (@?[a-z].*)$/gm).join('\n');
  expect(Object.keys(dependencies).filter((name) => !reasons.includes(name))).toEqual([]);
});
