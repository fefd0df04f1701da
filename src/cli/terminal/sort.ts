import { compareAddresses, parseAddress } from '../../common/address.ts';
import type { Row } from '../../model.ts';
import { KEYS_ALLOWED, parseField, type RowKey } from './row-columns.ts';
import { UsageError } from '../../common/errors.ts';

/** Compares two rows, for Array.prototype.sort. */
export type RowOrder = (a: Row, b: Row) => number;

/**
 * Parses a sort order such as "process,remote_port:desc" or, by a heading, "remote". Addresses and numbers sort by value; null always comes last. Throws
 * UsageError for an unknown field.
 */
export function parseOrder(text: string): RowOrder {
  const orders = text.split(',').flatMap((part) => {
    const [, name = '', direction = 'asc'] = /^([^:]*)(?::(asc|desc))?$/.exec(part.trim()) ?? [];
    const field = parseField(name);
    if (field === undefined)
      throw new UsageError(
        `Cannot use --sort ${JSON.stringify(text)}: ${JSON.stringify(part)} must be ${KEYS_ALLOWED}, optionally followed by :desc`,
      );
    return field.keys.map((key) => by(key, direction === 'desc' ? -1 : 1));
  });
  return (a, b) => {
    for (const order of orders) {
      const difference = order(a, b);
      if (difference !== 0) return difference;
    }
    return 0;
  };
}

function by(key: RowKey, sign: 1 | -1): RowOrder {
  return (a, b) => {
    const [left, right] = [a[key], b[key]];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return sign * compare(key, left, right);
  };
}

function compare(key: RowKey, a: NonNullable<Row[RowKey]>, b: NonNullable<Row[RowKey]>): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (Array.isArray(a) && Array.isArray(b)) return compareFirst(a[0], b[0]) || a.length - b.length;
  if (key.endsWith('_address')) {
    const [left, right] = [parseAddress(String(a)), parseAddress(String(b))];
    if (left && right) return compareAddresses(left, right);
  }
  return String(a) < String(b) ? -1 : Number(String(a) > String(b));
}

/** Compares the first elements of two lists; without one comes first. */
function compareFirst(a: string | number = -1, b: string | number = -1): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : Number(a > b) - Number(a < b);
}
