import { closeSync, openSync, readSync } from 'node:fs';
import { getSystemErrorMessage } from 'node:util';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { parseCidr } from './address.ts';
import { deepFreeze, EMPTY_RULES, UsageError } from './config.ts';
import { isNetworkClass, NETWORK_CLASSES } from './enrich/networks.ts';
import { cleanLabel } from './label.ts';
import type { ProcessRule, Rules, Transport } from './model.ts';

export { EMPTY_RULES };

const MAX_BYTES = 1024 * 1024;
const MAX_PATTERN_LENGTH = 1000;
const MAX_PROBLEMS = 20;

/**
 * Reads the configuration file at `path` into frozen rules.
 * Throws UsageError as `parseRules` does, and for a file that cannot be read or is not UTF-8.
 */
export function readRules(path: string): Rules {
  try {
    return parseRules(new TextDecoder('utf-8', { fatal: true }).decode(readStart(path)), path);
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    const errno = 'errno' in error && typeof error.errno === 'number' ? error.errno : null;
    throw refusal(path, [errno === null ? error.message : getSystemErrorMessage(errno)]);
  }
}

/** The file's bytes, but no more than one above the limit. */
function readStart(path: string): Buffer {
  const bytes = Buffer.allocUnsafe(MAX_BYTES + 1);
  const file = openSync(path, 'r');
  try {
    let length = 0;
    for (let count = -1; count !== 0 && length < bytes.length; length += count) {
      count = readSync(file, bytes, length, bytes.length - length, null);
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

/**
 * Reads the text of a configuration file (strict YAML 1.2, at most 1 MiB) into frozen rules; `path` is only quoted.
 * A pattern is an ECMAScript regular expression with the flag u. A section without content is an empty one.
 * Throws UsageError: for a text that is not YAML one line with the place, else one line for each problem with the path
 * of the key, the value and what is allowed.
 */
export function parseRules(text: string, path: string): Rules {
  if (Buffer.byteLength(text) > MAX_BYTES) throw refusal(path, [`must be at most ${MAX_BYTES} bytes long`]);
  const result = CONFIGURATION.safeParse(parseYaml(text, path) ?? {}, { reportInput: true });
  if (!result.success) throw refusal(path, result.error.issues.flatMap(problems));
  return deepFreeze(result.data);
}

function parseYaml(text: string, path: string): unknown {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, logLevel: 'error' });
  const [error] = [...document.errors, ...document.warnings];
  if (error) {
    const { line, col } = lineCounter.linePos(error.pos[0]);
    throw refusal(path, [`line ${line}, column ${col}: ${YAML_REASONS[error.code] ?? error.message}`]);
  }
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw error instanceof ReferenceError ? refusal(path, [error.message]) : error;
  }
}

/** Where the library speaks of itself rather than of the text. */
const YAML_REASONS: Readonly<Record<string, string>> = {
  MULTIPLE_DOCS: 'must be a single document',
  RESOURCE_EXHAUSTION: 'must not be nested so deeply',
};

function refusal(path: string, reasons: readonly string[]): UsageError {
  const lines = reasons
    .slice(0, MAX_PROBLEMS)
    .map((reason) => `Cannot read configuration ${JSON.stringify(path)}: ${reason}`);
  if (reasons.length > MAX_PROBLEMS) lines.push(`${reasons.length - MAX_PROBLEMS} more problems are not shown`);
  return new UsageError(lines.join('\n'));
}

/** What one issue of zod says: the path of the key, the value where it is a single one, and the reason. */
function problems(issue: z.core.$ZodIssue): string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${keyPath([...issue.path, key])}: unknown key, ${issue.message}`);
  }
  const place = [keyPath(issue.path), shown(issue.input)].filter((part) => part !== '').join(' ');
  return [place === '' ? issue.message : `${place}: ${issue.message}`];
}

function keyPath(keys: readonly PropertyKey[]): string {
  return keys
    .map((key) =>
      typeof key === 'number' ? `[${key}]` : `.${/^\w+$/.test(String(key)) ? String(key) : JSON.stringify(key)}`,
    )
    .join('')
    .replace(/^\./, '');
}

function shown(value: unknown): string {
  if (value === undefined || (typeof value === 'object' && value !== null)) return '';
  const text = JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** A mapping with these keys and no others. */
function mapping<Shape extends z.core.$ZodLooseShape>(shape: Shape): z.ZodObject<Shape, z.core.$strict> {
  const keys = Object.keys(shape).join(', ');
  return z.strictObject(shape, {
    error: ({ code }) => `must be ${code === 'unrecognized_keys' ? 'one of' : 'a mapping with the keys'} ${keys}`,
  });
}

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

const PATTERN = 'must be an ECMAScript regular expression';
const pattern = z
  .string(PATTERN)
  .max(MAX_PATTERN_LENGTH, `must be at most ${MAX_PATTERN_LENGTH} characters long`)
  .transform((source, context) => {
    try {
      return new RegExp(source, 'u');
    } catch (error) {
      context.addIssue(`${PATTERN} (${String(error).replace(/^.*: /s, '')})`);
      return z.NEVER;
    }
  });

/** Names are published as written, but for "other", which is what does not fit the series limit. */
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
  const known = new Set(['exe_base', 'comm', ...groupNames(rule)]);
  const rest = rule.name.replaceAll(/\{\{\s*\.(\w+)\s*\}\}/g, (whole, group: string) =>
    known.has(group) ? '' : whole,
  );
  if (!/\{\{|\}\}/.test(rest)) return;
  const allowed = [...known].map((group) => `{{ .${group} }}`).join(', ');
  context.addIssue({ code: 'custom', path: ['name'], input: rule.name, message: `must hold no {{ }} but ${allowed}` });
});

/** The named groups of a rule's patterns: an alternative that matches everything makes every name appear in a match. */
function groupNames({ exe, comm, cmdline }: ProcessRule): string[] {
  return [exe, comm, cmdline].flatMap((regexp) =>
    Object.keys((regexp && new RegExp(`${regexp.source}|`, 'u').exec('')?.groups) ?? {}),
  );
}

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'udplite', 'raw'];
const cidrs = listOf(cidr, 'CIDRs').min(1, 'must hold at least one CIDR');

const endpointGroup = mapping({
  name,
  cidrs: cidrs.exactOptional(),
  ports: listOf(wholeNumber(1, 65_535), 'ports').min(1, 'must hold at least one port').exactOptional(),
  transport: z.enum(TRANSPORTS, `must be one of ${TRANSPORTS.join(', ')}`).exactOptional(),
});

/** AS 0 and 4294967295 are reserved (RFC 7607, RFC 7300). */
const network = mapping({
  name: name.refine((text) => !isNetworkClass(text), {
    message: `must not be the name of a built-in network (${NETWORK_CLASSES.join(', ')})`,
  }),
  cidrs,
  asn: wholeNumber(1, 4_294_967_294).exactOptional(),
});

const networks = listOf(network, 'networks').superRefine((list, context) => {
  for (const [i, { name }] of list.entries()) {
    if (list.findIndex((one) => one.name === name) === i) continue;
    context.addIssue({
      code: 'custom',
      path: [i, 'name'],
      input: name,
      message: 'must not be the name of two networks',
    });
  }
});

const CONFIGURATION = mapping({
  processes: listOf(processRule, 'rules').nullish(),
  endpoint_groups: listOf(endpointGroup, 'rules').nullish(),
  networks: networks.nullish(),
  asn: mapping({ never_send: listOf(cidr, 'CIDRs').nullish() }).nullish(),
}).transform((file): Rules => ({
  processes: file.processes ?? [],
  endpointGroups: file.endpoint_groups ?? [],
  networks: file.networks ?? [],
  asnNeverSend: file.asn?.never_send ?? [],
}));
