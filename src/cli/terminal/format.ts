import { escapeControls } from '../../common/sanitize.ts';

/** "1 process", "2 processes". */
export function plural(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

/** An object as one line of JSON (RFC 8259), with control characters escaped. */
export function jsonLine(value: object): string {
  const text = JSON.stringify(value);
  return PRINTABLE.test(text) ? text : escapeControls(text);
}

const PRINTABLE = /^[\x20-\x7e]*$/;
