import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { parseCidr } from '../common/address.ts';
import { EMPTY_RULES } from './config.ts';
import { isNetworkClass, NETWORK_CLASSES } from '../common/network-class.ts';
import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import type { ProcessRule, Rules, SuspectList, Transport, WorkloadRule } from '../model.ts';
import { parseOwner, parseSuspects, parseWhat } from '../unusual/grammar/what.ts';
import { mapping, MAX_BYTES, readNamedFile, readYaml, refusal, validate } from './yaml.ts';
import { deepFreeze, reasonOf, UsageError } from '../common/errors.ts';

export { EMPTY_RULES };

const MAX_PATTERN_LENGTH = 1000;
const MAX_SUSPECT_LISTS = 20;
const DAY_MS = 86_400_000;

/**
 * Reads the configuration file at `path`, and the lists of suspects that it names, into frozen rules. Throws UsageError like
 * `parseRules`, and if a file cannot be read or is not UTF-8.
 */
export function readRules(path: string): Rules {
  const rules = readYaml(path, WHAT, (text) => parseRules(text, path));
  return deepFreeze({ ...rules, suspects: rules.suspects.map((list, i) => readSuspects(list, i, path)) });
}

/** Returns the paths of the lists of suspects that the configuration file at `path` names; none if it is invalid. */
export function suspectFilesIn(path: string): string[] {
  try {
    const { suspects } = readYaml(path, WHAT, (text) => parseRules(text, path));
    return suspects.map(({ file }) => resolve(dirname(path), file));
  } catch (error) {
    if (error instanceof UsageError) return [];
    throw error;
  }
}

/** Reads a list of suspects of at most 1 MiB; its path is relative to the folder of the configuration. */
function readSuspects({ file }: SuspectList, index: number, path: string): SuspectList {
  const refuse = (reasons: readonly string[]): Error =>
    refusal(
      { path, what: WHAT },
      reasons.map((reason) => `suspects[${index}] ${JSON.stringify(file)}: ${reason}`),
    );
  let text: string;
  try {
    const bytes = readNamedFile(resolve(dirname(path), file));
    if (bytes.length > MAX_BYTES) throw new Error(`must be at most ${MAX_BYTES} bytes long`);
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw refuse([reasonOf(error)]);
  }
  const { operators, problems } = parseSuspects(text);
  if (problems.length > 0) throw refuse(problems);
  return { file, operators: [...operators] };
}

/**
 * Parses a configuration file (strict YAML 1.2, at most 1 MiB) into frozen rules. `path` appears only in messages. A
 * pattern is an ECMAScript regular expression with the flag u. A section without content is empty. Throws UsageError:
 * for invalid YAML, one line with the position; else one line per problem with the path of the key, the value and
 * what is allowed.
 */
export function parseRules(text: string, path: string): Rules {
  return deepFreeze(validate(CONFIGURATION, text, { path, what: WHAT }));
}

const WHAT = 'configuration';

function listOf<Element extends z.ZodType>(element: Element, things: string): z.ZodArray<Element> {
  return z.array(element, `must be a list of ${things}`);
}

function wholeNumber(least: number, most: number): z.ZodInt {
  const allowed = `must be a whole number from ${least} to ${most}`;
  return z.int(allowed).min(least, allowed).max(most, allowed);
}

const CIDR = 'must be a CIDR such as 10.0.0.0/8, with no bits set after the prefix';
const cidr = z.string(CIDR).transform((text, context) => {
  const block = parseCidr(text);
  if (block) return block;
  context.addIssue(CIDR);
  return z.NEVER;
});

/** The text of each pattern in the file. `RegExp.source` escapes slashes and line breaks. */
const WRITTEN = new WeakMap<RegExp, string>();

/** Returns a pattern as written in the file. */
export function writtenPattern(pattern: RegExp): string {
  return WRITTEN.get(pattern) ?? pattern.source;
}

const PATTERN = 'must be an ECMAScript regular expression';
const pattern = z
  .string(PATTERN)
  .max(MAX_PATTERN_LENGTH, `must be at most ${MAX_PATTERN_LENGTH} characters long`)
  .transform((source, context) => {
    try {
      const regexp = new RegExp(source, 'u');
      WRITTEN.set(regexp, source);
      return regexp;
    } catch (error) {
      context.addIssue(`${PATTERN} (${String(error).replace(/^.*: /s, '')})`);
      return z.NEVER;
    }
  });

/** Names are exported unchanged. "other" is reserved for entries above the series limit. */
const NAME = 'must be a name of 1 to 128 characters without control characters, and not "other"';
const name = z
  .string(NAME)
  .refine((text) => cleanLabel(text) === text && text.trim() !== '' && !/^_*other$/.test(text), NAME);

const processRule = mapping({
  name,
  exe: pattern.exactOptional(),
  comm: pattern.exactOptional(),
  cmdline: pattern.exactOptional(),
}).superRefine((rule: ProcessRule, context) => {
  const { exe, comm, cmdline } = rule;
  checkTemplate(rule.name, ['exe_base', 'comm', ...groupNames([exe, comm, cmdline])], context);
});

const patterns = z
  .record(z.string(), pattern, 'must be a mapping of keys to patterns')
  .refine((map) => Object.keys(map).length > 0, 'must contain at least one key');

const workloadRule = mapping({
  name,
  labels: patterns.exactOptional(),
  annotations: patterns.exactOptional(),
  cgroup: pattern.exactOptional(),
  unit: pattern.exactOptional(),
}).superRefine((rule: WorkloadRule, context) => {
  const { labels = {}, annotations = {}, cgroup, unit } = rule;
  const all = [...Object.values(labels), ...Object.values(annotations), cgroup, unit];
  if (all.every((one) => one === undefined))
    context.addIssue({ code: 'custom', message: 'must have labels, annotations, cgroup or unit' });
  checkTemplate(rule.name, groupNames(all), context);
});

/** Adds an issue if a name contains other placeholders than those of `groups`. */
function checkTemplate(template: string, groups: readonly string[], context: z.core.$RefinementCtx): void {
  const known = new Set(groups);
  const rest = template.replaceAll(/\{\{\s*\.(\w+)\s*\}\}/g, (whole, group: string) => (known.has(group) ? '' : whole));
  if (!/\{\{|\}\}/.test(rest)) return;
  const allowed = [...known].map((group) => `{{ .${group} }}`).join(', ');
  context.addIssue({
    code: 'custom',
    path: ['name'],
    input: template,
    message: `must contain no {{ }} except ${allowed || '{{ .group }} of a named group in a pattern of the rule'}`,
  });
}

/**
 * Returns the named groups of a rule's patterns. The added empty alternative always matches, so `groups` lists all
 * names.
 */
function groupNames(patterns: readonly (RegExp | undefined)[]): string[] {
  return patterns.flatMap((regexp) =>
    Object.keys((regexp && new RegExp(`${regexp.source}|`, 'u').exec('')?.groups) ?? {}),
  );
}

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'udplite', 'raw'];
const cidrs = listOf(cidr, 'CIDRs').min(1, 'must contain at least one CIDR');

const endpointGroup = mapping({
  name,
  cidrs: cidrs.exactOptional(),
  ports: listOf(wholeNumber(1, 65_535), 'ports').min(1, 'must contain at least one port').exactOptional(),
  transport: z.enum(TRANSPORTS, `must be one of ${TRANSPORTS.join(', ')}`).exactOptional(),
});

/** AS 0 and AS 4294967295 are reserved (RFC 7607, RFC 7300). */
const network = mapping({
  name: name.refine((text) => !isNetworkClass(text), {
    message: `must not be the name of a built-in network (${NETWORK_CLASSES.join(', ')})`,
  }),
  cidrs,
  asn: wholeNumber(1, 4_294_967_294).exactOptional(),
});

const networks = listOf(network, 'networks').superRefine((list, context) => {
  const names = new Set<string>();
  for (const [i, { name }] of list.entries()) {
    if (!names.has(name)) {
      names.add(name);
      continue;
    }
    context.addIssue({
      code: 'custom',
      path: [i, 'name'],
      input: name,
      message: 'must be unique',
    });
  }
});

const WORKLOAD = 'must be a workload such as shop/web or nginx.service';
const owner = z.string(WORKLOAD).transform((text, context) => {
  const found = parseOwner(text);
  if (!('problem' in found)) return found;
  context.addIssue(found.problem.includes('wildcards') ? 'must contain no wildcards' : WORKLOAD);
  return z.NEVER;
});

const EXPECTED = 'must be values such as AS64500, tcp/5432, shop/ledger, process/nc or listen/udp/ephemeral';
/** Values as in the annotation, separated by commas. Here one that is not valid is an error. */
const whats = z.string(EXPECTED).transform((text, context) => {
  const values = new Set<string>();
  for (const part of text.split(',').map((one) => one.trim())) {
    const value = part === '' ? { problem: EXPECTED } : parseWhat(part);
    if (typeof value === 'string') values.add(value);
    else context.addIssue(value.problem.replace(/^Cannot read expected value ".*": /s, ''));
  }
  return [...values];
});

const UNTIL = 'must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z';
/** A date ends with its last moment in UTC. */
const until = z.string(UNTIL).transform((text, context) => {
  const isDate = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const isTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})$/.test(text);
  const day = Date.parse(text.slice(0, 10));
  const time = Date.parse(text);
  const isReal = day >= 0 && new Date(day).toISOString().startsWith(text.slice(0, 10)) && time >= 0;
  if ((isDate || isTime) && isReal) return isDate ? day + DAY_MS : time;
  context.addIssue(UNTIL);
  return z.NEVER;
});

const WHY = 'must be a text of 1 to 300 characters without control characters';
const why = z
  .string(WHY)
  .max(300, WHY)
  .refine((text) => text.trim() !== '' && withoutControls(text) === text, WHY);

const expectedRule = mapping({
  workload: owner,
  what: whats,
  until: until.nullish(),
  why: why.nullish(),
}).transform(({ workload, what, until, why }) => ({ ...workload, what, until: until ?? null, why: why ?? '' }));

const SUSPECT_FILE = 'must be a path of 1 to 4096 characters';
const suspectFile = z
  .string(SUSPECT_FILE)
  .min(1, SUSPECT_FILE)
  .max(4096, SUSPECT_FILE)
  .refine((text) => !text.includes('\0'), SUSPECT_FILE);

const CONFIGURATION = mapping({
  processes: listOf(processRule, 'rules').nullish(),
  workloads: listOf(workloadRule, 'rules').nullish(),
  endpoint_groups: listOf(endpointGroup, 'rules').nullish(),
  networks: networks.nullish(),
  asn: mapping({ never_send: listOf(cidr, 'CIDRs').nullish() }).nullish(),
  expected: listOf(expectedRule, 'rules').nullish(),
  suspects: listOf(suspectFile, 'files')
    .max(MAX_SUSPECT_LISTS, `must contain at most ${MAX_SUSPECT_LISTS} files`)
    .nullish(),
}).transform((file): Rules => ({
  processes: file.processes ?? [],
  workloads: file.workloads ?? [],
  endpointGroups: file.endpoint_groups ?? [],
  networks: file.networks ?? [],
  asnNeverSend: file.asn?.never_send ?? [],
  expected: file.expected ?? [],
  // Their content is read with the file.
  suspects: (file.suspects ?? []).map((path) => ({ file: path, operators: [] })),
}));
