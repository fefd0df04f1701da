import { closeSync, openSync, readSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { escapeControls } from '../common/sanitize.ts';
import { reasonOf, UsageError } from '../common/errors.ts';

/** The maximum size of a file. */
export const MAX_BYTES = 1024 * 1024;
const MAX_PROBLEMS = 20;

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
    return parse(new TextDecoder('utf-8', { fatal: true }).decode(readStart(path)));
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error)) throw error;
    throw refusal({ path, what }, [reasonOf(error)]);
  }
}

/** Reads the file up to one byte above the limit. */
export function readStart(path: string): Buffer {
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
  const document = parseDocument(text, { lineCounter, prettyErrors: false, logLevel: 'error' });
  const [error] = [...document.errors, ...document.warnings];
  if (error) {
    const { line, col } = lineCounter.linePos(error.pos[0]);
    throw refusal(origin, [`line ${line}, column ${col}: ${YAML_REASONS[error.code] ?? error.message}`]);
  }
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw error instanceof ReferenceError ? refusal(origin, [error.message]) : error;
  }
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
