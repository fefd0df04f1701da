/**
 * Makes text that others chose fit to be shown and to be a label value: well-formed Unicode of at most 128 code points, with
 * U+FFFD for each control character (C0, DEL, C1), line or paragraph separator and bidirectional control. Text that is not empty
 * stays so, and what is clean stays as it is.
 */
export function cleanLabel(text: string): string {
  const shortened = /^.{0,128}/su.exec(text)?.[0] ?? '';
  return shortened.toWellFormed().replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '\ufffd');
}
