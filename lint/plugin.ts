/** The rules of ESLint that keep the walls of lint/rooms.ts. */
import { relative, sep } from 'node:path';
import type { Rule, Scope } from 'eslint';
import type { Identifier, Node } from 'estree';
import { importsOf } from './imports.ts';
import { AMBIENT, doorsOf, mayImport, mayUse, type Ambient } from './rooms.ts';

type Kind = Ambient | 'hidden';

/** What each global gives. Properties that are not listed are free, unless the whole global gives something. */
const GLOBALS: Readonly<Record<string, { whole?: Kind; properties?: Readonly<Record<string, Kind>> }>> = {
  Date: { properties: { now: 'clock' } },
  Temporal: { properties: { Now: 'clock' } },
  performance: { whole: 'clock' },
  Intl: { properties: { DateTimeFormat: 'clock' } },
  Math: { properties: { random: 'chance' } },
  crypto: { whole: 'chance' },
  process: {
    properties: {
      env: 'environment',
      hrtime: 'clock',
      loadEnvFile: 'environment',
      report: 'environment',
      uptime: 'clock',
    },
  },
  global: { whole: 'hidden' },
  globalThis: { whole: 'hidden' },
  self: { whole: 'hidden' },
  eval: { whole: 'hidden' },
  Function: { whole: 'hidden' },
  fetch: { whole: 'hidden' },
  WebSocket: { whole: 'hidden' },
  EventSource: { whole: 'hidden' },
  module: { whole: 'hidden' },
  require: { whole: 'hidden' },
};

type Child = Node & { readonly parent: Node };

/** `new Date(value)` and `instanceof Date` read no clock. */
const isConversion = (identifier: Identifier, parent: Node): boolean =>
  (parent.type === 'NewExpression' && parent.arguments.length > 0 && parent.arguments[0]?.type !== 'SpreadElement') ||
  (parent.type === 'BinaryExpression' && parent.operator === 'instanceof' && parent.right === identifier);

/** The properties that an expression or a destructuring declaration reads of a global; null if it may be any. */
const propertiesRead = (identifier: Identifier, parent: Node): (string | null)[] => {
  const nameOf = (key: Node, computed: boolean): string | null => {
    if (!computed && key.type === 'Identifier') return key.name;
    return key.type === 'Literal' ? String(key.value) : null;
  };
  if (parent.type === 'MemberExpression' && parent.object === identifier)
    return [nameOf(parent.property, parent.computed)];
  if (parent.type !== 'VariableDeclarator' || parent.id.type !== 'ObjectPattern') return [null];
  return parent.id.properties.map((property) =>
    property.type === 'Property' ? nameOf(property.key, property.computed) : null,
  );
};

/** What a use of a global gives; null for a harmless one. Another name for a global counts as all that it gives. */
const kindOf = (identifier: Identifier): Kind | null => {
  const { whole, properties = {} } = GLOBALS[identifier.name] ?? {};
  if (whole) return whole;
  const { parent } = identifier as Child & Identifier;
  if (identifier.name === 'Date' && isConversion(identifier, parent)) return null;
  const any = Object.values(properties)[0] ?? null;
  const kinds = propertiesRead(identifier, parent).map((name) => (name === null ? any : (properties[name] ?? null)));
  return kinds.find((kind) => kind !== null) ?? null;
};

/** The uses of global values in a file: of names that no declaration of the file defines. */
const usesOf = ({ globalScope }: Scope.ScopeManager): Identifier[] => {
  if (!globalScope) return [];
  const known = globalScope.variables.filter(({ defs }) => defs.length === 0).flatMap(({ references }) => references);
  return [...new Set([...known, ...globalScope.through])]
    .filter((reference) => (reference as { isValueReference?: boolean }).isValueReference !== false)
    .map(({ identifier }) => identifier as Identifier)
    .filter(({ name }) => Object.hasOwn(GLOBALS, name));
};

const pathOf = ({ settings, filename }: Rule.RuleContext): string =>
  relative(`${(settings['peerscope'] as { root: string }).root}/src`, filename)
    .split(sep)
    .join('/');

const rooms: Rule.RuleModule = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      wall: '"{{from}}" may not import "{{target}}": see ROOMS in lint/rooms.ts.',
      door: '"{{from}}" may not import "{{target}}": see DOORS in lint/rooms.ts.',
      computed: '"{{from}}" may not import a computed path.',
    },
  },
  create: (context) => ({
    Program: (program) => {
      const from = pathOf(context);
      const { visitorKeys } = context.sourceCode;
      for (const { node, target, isFile, names } of importsOf(program, visitorKeys, from)) {
        const report = (messageId: string, to = ''): void =>
          context.report({ node, messageId, data: { from, target: to } });
        if (target === null) report('computed');
        else if (isFile) {
          if (!mayImport(from, target)) report('wall', target);
        } else for (const door of doorsOf(target, names)) if (!mayUse(from, door)) report('door', door);
      }
    },
  }),
};

const ambient: Rule.RuleModule = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      clock: 'Pass the clock as a parameter: see AMBIENT in lint/rooms.ts.',
      chance: 'Pass random numbers as a parameter: see AMBIENT in lint/rooms.ts.',
      environment: 'Pass the environment as a parameter: see AMBIENT in lint/rooms.ts.',
      hidden: 'Do not use "{{name}}": it hides what a file depends on.',
    },
  },
  create: (context) => ({
    Program: () => {
      const path = pathOf(context);
      for (const identifier of usesOf(context.sourceCode.scopeManager)) {
        const kind = kindOf(identifier);
        if (kind && (kind === 'hidden' || !AMBIENT[kind].includes(path)))
          context.report({ node: identifier, messageId: kind, data: { name: identifier.name } });
      }
    },
  }),
};

export const plugin = { meta: { name: 'peerscope' }, rules: { ambient, rooms } };
