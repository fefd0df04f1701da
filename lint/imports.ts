/** What a file imports, in every way in which a TypeScript module can. */
import { isBuiltin } from 'node:module';
import { posix } from 'node:path';
import type { AST } from 'eslint';
import type { Node } from 'estree';

export interface Import {
  readonly node: Node;
  /** A path below src, the name of a package, or "node:" and a module; null if only the running program can know. */
  readonly target: string | null;
  readonly isFile: boolean;
  /** The exports that are imported by name; null for the module as a whole. */
  readonly names: readonly string[] | null;
}

/** A node of the syntax tree, whose fields depend on its type: see https://typescript-eslint.io/play. */
type Tree = Node & Readonly<Record<string, unknown>>;

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && 'type' in value;

/** The value of a string literal, or of a template without holes; null for any other expression. */
const literal = (value: unknown): string | null => {
  if (!isTree(value)) return null;
  if (value.type === 'Literal') return typeof value.value === 'string' ? value.value : null;
  if (value.type === 'TemplateLiteral' && value.expressions.length === 0) return value.quasis[0]?.value.cooked ?? null;
  return (value.type as string) === 'TSLiteralType' ? literal((value as Tree)['literal']) : null;
};

/** The file of `new URL(path, import.meta.url)`; `./worker.${extension}` is ./worker.ts. */
const fileOfUrl = (value: unknown): string | null => {
  if (!isTree(value) || value.type !== 'TemplateLiteral') return literal(value);
  const [start, end] = value.quasis.map(({ value }) => value.cooked ?? '');
  return value.quasis.length === 2 && start?.endsWith('.') && end === '' ? `${start}ts` : literal(value);
};

const namesOf = (specifiers: unknown): string[] | null => {
  const names: string[] = [];
  for (const specifier of Array.isArray(specifiers) ? (specifiers as Tree[]) : []) {
    const name = specifier['imported'] ?? (specifier.type === 'ExportSpecifier' ? specifier.local : null);
    if (!isTree(name)) return null;
    names.push(name.type === 'Identifier' ? name.name : (literal(name) ?? ''));
  }
  return names.length > 0 ? names : null;
};

/** What a single node imports: a module, a file, "computed", or undefined for nothing. */
const specifierOf = (node: Tree): { specifier: string | null; names: string[] | null } | undefined => {
  const whole = (specifier: string | null) => ({ specifier, names: null });
  switch (node.type as string) {
    case 'ImportDeclaration':
    case 'ExportNamedDeclaration':
      return node['source'] ? { specifier: literal(node['source']), names: namesOf(node['specifiers']) } : undefined;
    case 'ExportAllDeclaration':
    case 'ImportExpression':
      return whole(literal(node['source']));
    case 'TSImportType':
      return whole(literal(node['source'] ?? node['argument']));
    case 'TSExternalModuleReference':
      return whole(literal(node['expression']));
    case 'CallExpression': {
      const { callee, arguments: parameters } = node as unknown as { callee: Tree; arguments: unknown[] };
      const property = callee.type === 'MemberExpression' ? (callee.property as Tree) : callee;
      const name = property.type === 'Identifier' ? property.name : literal(property);
      return name === 'require' || name === 'getBuiltinModule' ? whole(literal(parameters[0])) : undefined;
    }
    // Outside a call, the function can be passed on and called with any name.
    case 'MemberExpression':
    case 'Property': {
      const key = (node['property'] ?? node['key']) as Tree;
      const name = key.type === 'Identifier' ? key.name : literal(key);
      return name === 'getBuiltinModule' ? whole(null) : undefined;
    }
    case 'NewExpression': {
      const { callee, arguments: parameters } = node as unknown as { callee: Tree; arguments: unknown[] };
      if (callee.type !== 'Identifier' || callee.name !== 'URL' || !isMetaUrl(parameters[1])) return undefined;
      return whole(fileOfUrl(parameters[0]));
    }
  }
  return undefined;
};

const isMetaUrl = (value: unknown): boolean =>
  isTree(value) && value.type === 'MemberExpression' && (value.object as Tree).type === 'MetaProperty';

const packageOf = (specifier: string): string => {
  if (isBuiltin(specifier)) return `node:${specifier.replace(/^node:/, '').split('/')[0] ?? ''}`;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
};

/** All imports of a file, whose path below src says what its relative imports mean. */
export const importsOf = (
  program: AST.Program,
  visitorKeys: Readonly<Record<string, readonly string[]>>,
  path: string,
): Import[] => {
  const found: Import[] = [];
  const visit = (node: Tree): void => {
    const hit = specifierOf(node);
    if (hit) {
      const { specifier, names } = hit;
      const isFile = specifier?.startsWith('.') ?? false;
      const target =
        specifier === null ? null : isFile ? posix.join(posix.dirname(path), specifier) : packageOf(specifier);
      found.push({ node, target, isFile, names });
    }
    for (const key of visitorKeys[node.type] ?? [])
      if (!hit || key !== 'callee') [node[key]].flat().filter(isTree).forEach(visit);
  };
  visit(program as unknown as Tree);
  return found;
};
