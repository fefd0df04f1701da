import { withoutControls } from '../common/sanitize.ts';
import { cellsOf, wrap } from './terminal/width.ts';

/** A field, and its value as words. */
type Field = readonly [name: string, value: string];

/** The narrowest column of values; below that, a value stands under its name. */
const MIN_VALUE_WIDTH = 20;

/** All known fields of an object, each value next to its name. */
export function detailLines(object: object, width: number): string[] {
  const fields = fieldsOf(object);
  const column = Math.max(0, ...fields.map(([name]) => cellsOf(name))) + 2;
  const indent = width - column >= MIN_VALUE_WIDTH ? column : 4;
  return fields.flatMap(([name, value]) => {
    const lines = wrap(value, Math.max(1, width - indent)).map((line) => ' '.repeat(indent) + line);
    const [first = '', ...rest] = lines;
    return indent === column ? [name.padEnd(column) + first.trimStart(), ...rest] : [name, ...lines];
  });
}

function fieldsOf(object: object, prefix = ''): Field[] {
  return Object.entries(object).flatMap(([key, value]: [string, unknown]): Field[] => {
    const name = `${prefix}${withoutControls(key).replaceAll('_', ' ')}`;
    if (value === null || value === undefined || value === '') return [];
    if (Array.isArray(value)) {
      const items: readonly unknown[] = value;
      const isSimple = items.every((item) => typeof item !== 'object');
      if (isSimple) return items.length === 0 ? [] : [[name, items.map(textOf).join(', ')]];
      return items.flatMap((item, i) => (item === null ? [] : fieldsOf(item as object, `${name} ${i + 1} `)));
    }
    return typeof value === 'object' ? fieldsOf(value, `${name} `) : [[name, textOf(value)]];
  });
}

function textOf(value: unknown): string {
  return withoutControls(String(value));
}
