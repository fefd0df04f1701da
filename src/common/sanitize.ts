/** What a terminal may obey or what changes how a line reads: C0, DEL, C1, line and paragraph separators, bidirectional controls. */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/**
 * Makes text that others chose fit to be shown and to be a label value: well-formed Unicode of at most 128 code points, with
 * U+FFFD for each control character (C0, DEL, C1), line or paragraph separator and bidirectional control. Text that is not empty
 * stays so, and what is clean stays as it is.
 */
export function cleanLabel(text: string): string {
  return text.length <= 128 && isPlain(text) ? text : withoutControls(/^.{0,128}/su.exec(text)?.[0] ?? '');
}

/** The same at any length. */
export function withoutControls(text: string): string {
  return isPlain(text) ? text : text.toWellFormed().replace(CONTROLS, '\ufffd');
}

/** The same of each of its lines, which stay lines. */
export function linesWithoutControls(text: string): string {
  return text.split('\n').map(withoutControls).join('\n');
}

/** Whether a text is of printable ASCII alone: most are, and to see that takes a tenth of looking for what Unicode calls a control. */
export function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code > 0x7e) return false;
  }
  return true;
}

/** The same controls as \u escapes: in JSON that is the same text. */
export function escapeControls(text: string): string {
  return text.replace(CONTROLS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
