/** Safe HTML; only `markup` creates it. */
export class Markup {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  /** Inserts values into a template: text is escaped, markup is kept, null is empty. */
  static of(strings: TemplateStringsArray, ...values: readonly Piece[]): Markup {
    return new Markup(strings.map((text, i) => text + written(values[i] ?? null)).join(''));
  }

  /** A script, which must not contain "</script". */
  static script(code: string): Markup {
    return new Markup(`<script>${code}</script>`);
  }

  toString(): string {
    return this.#text;
  }
}

/** A value that a template accepts. */
export type Piece = string | number | Markup | null | readonly Piece[];

/** HTML with every value escaped for content and quoted attributes, not for tag names, scripts or styles. */
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

/** Escapes text for HTML content and quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
