import { escapeControls } from '../../common/sanitize.ts';

/** An object as one line of JSON (RFC 8259) in which nothing stands that a terminal obeys. */
export function jsonLine(value: object): string {
  const text = JSON.stringify(value);
  return PRINTABLE.test(text) ? text : escapeControls(text);
}

const PRINTABLE = /^[\x20-\x7e]*$/;
