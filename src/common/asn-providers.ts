/** The formats of local ASN databases (`--asn.database`). */
export const DATABASE_FORMATS = ['mmdb', 'tsv'] as const;
export type DatabaseFormat = (typeof DATABASE_FORMATS)[number];

/** The ways to look up ASNs: two network protocols of Team Cymru, local files, or none. */
export const ASN_PROVIDERS = ['cymru', 'cymru-dns', ...DATABASE_FORMATS, 'none'] as const;
export type AsnProviderName = (typeof ASN_PROVIDERS)[number];

/** Whether a provider reads a local file: it sends nothing, and answers for single addresses. */
export function isDatabase(provider: AsnProviderName): provider is DatabaseFormat {
  return DATABASE_FORMATS.some((format) => format === provider);
}
