/** HTML that is safe to send as it is; `markup` alone makes it. */
export class Markup {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  /** Puts values into the holes of a template: texts and numbers are escaped, markup stays, nothing stands for null. */
  static of(strings: TemplateStringsArray, ...values: readonly Piece[]): Markup {
    return new Markup(strings.map((text, i) => text + written(values[i] ?? null)).join(''));
  }

  toString(): string {
    return this.#text;
  }
}

/** What a hole of a template takes. */
export type Piece = string | number | Markup | null | readonly Piece[];

/** HTML with every hole escaped: fit for content and for quoted attributes, not for tags, scripts or styles. */
export const markup = (strings: TemplateStringsArray, ...values: readonly Piece[]): Markup =>
  Markup.of(strings, ...values);

function written(piece: Piece): string {
  if (piece === null) return '';
  if (typeof piece === 'string') return escapeHtml(piece);
  if (typeof piece === 'number' || piece instanceof Markup) return String(piece);
  return piece.map(written).join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text made safe for HTML content and quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
