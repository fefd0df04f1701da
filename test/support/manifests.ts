import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';

export const ROOT = join(import.meta.dirname, '../..');

/** An object of Kubernetes, as far as tests look into it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

/** A DaemonSet or Deployment. */
export interface Workload extends Manifest {
  readonly spec: { readonly template: { readonly spec: PodSpec } };
}

export interface PodSpec {
  readonly containers: readonly {
    readonly image: string;
    readonly args?: readonly string[];
    readonly env?: readonly { readonly name: string }[];
    readonly securityContext: unknown;
  }[];
  readonly volumes: readonly { readonly name: string }[];
  readonly [field: string]: unknown;
}

/** The paths below the root of the repository that match a pattern. */
export function filesOf(pattern: string): string[] {
  return globSync(pattern, { cwd: ROOT }).sort();
}

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The documents of a YAML text, read strictly: a key that is there twice, a stray tag or a bad indent is an error. */
export function parseDocuments<T>(text: string): T[] {
  return parseAllDocuments(text, { uniqueKeys: true, strict: true, merge: false })
    .values()
    .map((document) => {
      const [problem] = [...document.errors, ...document.warnings];
      if (problem) throw problem;
      return document.toJS() as T;
    })
    .toArray();
}

/** The only document of a YAML file of the repository. */
export function readDocument(path: string): unknown {
  const [document, ...others] = parseDocuments<unknown>(readText(path));
  if (document === undefined || others.length > 0) throw new Error(`Cannot read "${path}": it is not one document`);
  return document;
}
