/** Operators that people know by another name than the registered one, by AS number. */
const COMMON_NAMES: ReadonlyMap<number, string> = new Map([
  [174, 'Cogent'],
  [209, 'Lumen'],
  [701, 'Verizon'],
  [714, 'Apple'],
  [1299, 'Arelion'],
  [2906, 'Netflix'],
  [2914, 'NTT'],
  [3209, 'Vodafone'],
  [3215, 'Orange'],
  [3257, 'GTT'],
  [3320, 'Deutsche Telekom'],
  [3356, 'Lumen'],
  [6185, 'Apple'],
  [6453, 'Tata Communications'],
  [6939, 'Hurricane Electric'],
  [7018, 'AT&T'],
  [7922, 'Comcast'],
  [8068, 'Microsoft'],
  [8069, 'Microsoft'],
  [8075, 'Microsoft'],
  [8560, 'IONOS'],
  [12876, 'Scaleway'],
  [13238, 'Yandex'],
  [13335, 'Cloudflare'],
  [13414, 'X (Twitter)'],
  [14061, 'DigitalOcean'],
  [14618, 'Amazon'],
  [14907, 'Wikimedia'],
  [15133, 'Edgio'],
  [15169, 'Google'],
  [16276, 'OVHcloud'],
  [16509, 'Amazon'],
  [16625, 'Akamai'],
  [19281, 'Quad9'],
  [20473, 'Vultr'],
  [20940, 'Akamai'],
  [24940, 'Hetzner'],
  [31898, 'Oracle Cloud'],
  [32934, 'Meta'],
  [36459, 'GitHub'],
  [37963, 'Alibaba Cloud'],
  [40027, 'Netflix'],
  [45090, 'Tencent Cloud'],
  [45102, 'Alibaba Cloud'],
  [51167, 'Contabo'],
  [54113, 'Fastly'],
  [60781, 'Leaseweb'],
  [63949, 'Akamai (Linode)'],
  [132203, 'Tencent Cloud'],
  [212317, 'Hetzner'],
  [213230, 'Hetzner'],
  [396982, 'Google Cloud'],
]);

const LEGAL_FORM =
  /(?<=[^\s,]),?\s+(?:Inc|Incorporated|LLC|L\.L\.C|Ltd|Limited|GmbH|AG|SE|SAS|S\.A\.S|SA|S\.A|BV|B\.V|NV|N\.V|Corp|Corporation|Co|Company|PLC|Oy|AB|ApS|SRL|S\.R\.L|SpA|S\.p\.A|Pty|Pte)\.?$/i;

/**
 * The name of a network operator as people call it: "CLOUDFLARENET - Cloudflare, Inc." is Cloudflare, DIGITALOCEAN-ASN is DIGITALOCEAN.
 * `registered` is the name that the registry has; null if it is unknown.
 */
export function operatorName(asn: number, registered: string | null): string | null {
  const common = COMMON_NAMES.get(asn);
  if (common !== undefined || registered === null) return common ?? null;
  const [, organization] = /^[A-Z0-9][A-Z0-9-]* - (.+)$/.exec(registered) ?? [];
  const handle = /^[A-Z0-9-]+$/.test(registered)
    ? registered.replace(/(?!^)-ASN?\d*(?:-[A-Z0-9-]*)?$/, '')
    : registered;
  let name = organization ?? handle;
  // "Co., Ltd." are two.
  while (LEGAL_FORM.test(name)) name = name.replace(LEGAL_FORM, '');
  return name;
}
