/**
 * Characters that control a terminal or the display of a line: C0, DEL, C1, line and paragraph separators,
 * bidirectional controls.
 */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/**
 * Makes untrusted text safe as a label value and for display: well-formed Unicode, at most 128 code points, with
 * U+FFFD for each control character (C0, DEL, C1), line or paragraph separator and bidirectional control. Non-empty
 * text stays non-empty. Idempotent.
 */
export function cleanLabel(text: string): string {
  return text.length <= 128 && isPlain(text) ? text : withoutControls(/^.{0,128}/su.exec(text)?.[0] ?? '');
}

/** Like `cleanLabel`, without the length limit. */
export function withoutControls(text: string): string {
  return isPlain(text) ? text : text.toWellFormed().replace(CONTROLS, '\ufffd');
}

/** Like `withoutControls`, but keeps line feeds. */
export function linesWithoutControls(text: string): string {
  return text.split('\n').map(withoutControls).join('\n');
}

/** Returns true if a text is printable ASCII. Most texts are, and this is ten times faster than matching CONTROLS. */
export function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code > 0x7e) return false;
  }
  return true;
}

/** Escapes the same characters as \u sequences. In JSON, the value stays the same. */
export function escapeControls(text: string): string {
  return text.replace(CONTROLS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
