import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { isScalar, LineCounter, parseDocument, visit, type Document, type Node } from 'yaml';
import { z } from 'zod';
import { escapeControls } from '../common/sanitize.ts';
import { reasonOf, UsageError } from '../common/errors.ts';

/** The maximum size of a file. */
export const MAX_BYTES = 1024 * 1024;
const MAX_PROBLEMS = 20;
/** The library searches the whole document for each alias. */
const MAX_ALIASES = 100;

/** The source of a text for messages, and which values are secret. */
export interface YamlFile {
  readonly path: string;
  readonly what: string;
  readonly isSecret?: (keys: readonly PropertyKey[]) => boolean;
}

/**
 * Reads a UTF-8 file, up to one byte above 1 MiB, and passes it to `parse`. Throws UsageError from `parse`, and if
 * the file cannot be read or is not UTF-8. `what` names the kind of file in messages.
 */
export function readYaml<T>(path: string, what: string, parse: (text: string) => T): T {
  try {
    return parse(new TextDecoder('utf-8', { fatal: true }).decode(readStart(openSync(path, 'r'))));
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    throw refusal({ path, what }, [reasonOf(error)]);
  }
}

/** Reads a regular file up to one byte above the limit. A pipe that a configuration names would block until another process writes. */
export function readNamedFile(path: string): Buffer {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = fstatSync(file);
  // The read of a directory fails with the reason.
  if (stats.isFile() || stats.isDirectory()) return readStart(file);
  closeSync(file);
  throw new Error('is not a regular file');
}

/** Reads an open file up to one byte above the limit, and closes it. */
function readStart(file: number): Buffer {
  const bytes = Buffer.allocUnsafe(MAX_BYTES + 1);
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
 * Parses strict YAML 1.2 of at most 1 MiB and validates it. A text without content is an empty mapping. Throws
 * UsageError: for invalid YAML, one line with the position; else one line per problem with the path of the key, the
 * value (if scalar and not secret) and what is allowed.
 */
export function validate<Schema extends z.ZodType>(schema: Schema, text: string, origin: YamlFile): z.infer<Schema> {
  if (Buffer.byteLength(text) > MAX_BYTES) throw refusal(origin, [`must be at most ${MAX_BYTES} bytes long`]);
  const result = schema.safeParse(parseYaml(text, origin) ?? {}, { reportInput: true });
  if (!result.success)
    throw refusal(
      origin,
      result.error.issues.flatMap((issue) => problems(issue, origin)),
    );
  return result.data;
}

/** Returns an error with one line per reason. */
export function refusal({ path, what }: YamlFile, reasons: readonly string[]): UsageError {
  const lines = reasons
    .slice(0, MAX_PROBLEMS)
    .map((reason) => escapeControls(`Cannot read ${what} ${JSON.stringify(path)}: ${reason}`));
  if (reasons.length > MAX_PROBLEMS) lines.push(`${reasons.length - MAX_PROBLEMS} more problems are not shown`);
  return new UsageError(lines.join('\n'));
}

/** A key that other programs support and peerscope does not: the reason, and the values that change nothing. */
export interface Unsupported {
  readonly reason: string;
  readonly isHarmless: (value: unknown) => boolean;
}

/**
 * Returns the schema of a mapping with exactly these keys. Keys in `unsupported`, which other programs accept, are
 * rejected with their reason, unless they are empty or harmless.
 */
export function mapping<Shape extends z.core.$ZodLooseShape>(
  shape: Shape,
  unsupported: Readonly<Record<string, Unsupported>> = {},
): z.ZodObject<Shape, z.core.$strict> {
  const keys = Object.keys(shape).join(', ');
  const refused = Object.entries(unsupported).map(([key, { reason, isHarmless }]) => {
    const accepted = z.custom((value) => value === null || isHarmless(value), `is not supported: ${reason}`);
    return [key, accepted.exactOptional()] as const;
  });
  return z.strictObject(
    { ...shape, ...Object.fromEntries(refused) },
    {
      error: ({ code }) => `must be ${code === 'unrecognized_keys' ? 'one of' : 'a mapping with the keys'} ${keys}`,
    },
  );
}

function parseYaml(text: string, origin: YamlFile): unknown {
  const lineCounter = new LineCounter();
  // The library compares each key of a mapping with all others.
  const options = { lineCounter, prettyErrors: false, logLevel: 'error', uniqueKeys: false } as const;
  const document = parseDocument(text, options);
  const [error] = [...document.errors, ...document.warnings];
  const problem = error ? { at: error.pos[0], reason: YAML_REASONS[error.code] ?? error.message } : problemIn(document);
  if (problem) {
    const { line, col } = lineCounter.linePos(problem.at);
    throw refusal(origin, [`line ${line}, column ${col}: ${problem.reason}`]);
  }
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES + 1 });
  } catch (error) {
    throw error instanceof ReferenceError ? refusal(origin, [error.message]) : error;
  }
}

/** Finds a key that a mapping has twice, and an alias too many. */
function problemIn(document: Document): { readonly at: number; readonly reason: string } | null {
  let aliases = 0;
  let problem: { at: number; reason: string } | null = null;
  const found = (node: Node, reason: string): symbol => {
    problem = { at: node.range?.[0] ?? 0, reason };
    return visit.BREAK;
  };
  visit(document, {
    Map: (_, { items }) => {
      const keys = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (keys.has(key.value)) return found(key, 'Map keys must be unique');
        keys.add(key.value);
      }
      return undefined;
    },
    Alias: (_, alias) =>
      ++aliases > MAX_ALIASES ? found(alias, `must have at most ${MAX_ALIASES} aliases`) : undefined,
  });
  return problem;
}

/** Replacements for messages that describe the YAML library instead of the text. */
const YAML_REASONS: Readonly<Record<string, string>> = {
  MULTIPLE_DOCS: 'must be a single document',
  RESOURCE_EXHAUSTION: 'must not be nested too deeply',
};

/** Formats a zod issue: the path of the key, the scalar value and the reason. */
function problems(issue: z.core.$ZodIssue, { isSecret }: YamlFile): string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${keyPath([...issue.path, key])}: unknown key, ${issue.message}`);
  }
  const value = isSecret?.(issue.path) === true ? '' : shown(issue.input);
  const place = [keyPath(issue.path), value].filter((part) => part !== '').join(' ');
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
