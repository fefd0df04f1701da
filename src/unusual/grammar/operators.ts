/** `cloud` is a large cloud or content network, `hosting` a company that rents out single servers. */
type Trade = 'cloud' | 'hosting' | '';

/**
 * Companies that announce their networks under several AS numbers, and the first one represents all. A workload that calls one of them
 * moves between the numbers without a change of its own.
 *
 * Most workloads of any kind call a large cloud sooner or later, so a first call to one is weak evidence. Administrators seldom log in from
 * hosting companies, and attackers often do.
 *
 * Source: the pages of the companies in PeeringDB (https://www.peeringdb.com) and the aut-num objects of the registries, by the name of the
 * organization. A missing number costs a novelty too many, a wrong one hides a novelty: when in doubt, leave it out.
 */
const COMPANIES: readonly (readonly [name: string, trade: Trade, asns: readonly number[]])[] = [
  ['Amazon', 'cloud', [16509, 14618, 8987, 7224, 10124, 9059, 38895, 62785, 801]],
  ['Google', 'cloud', [15169, 396982, 19527, 36040, 43515, 36384, 36385, 36492, 16591, 139070, 139190, 16550]],
  ['Microsoft', 'cloud', [8075, 8068, 8069, 8070, 8071, 8072, 8073, 8074, 12076, 3598, 6584, 200517]],
  ['Cloudflare', 'cloud', [13335, 209242, 14789, 202623, 203898, 395747, 132892]],
  [
    'Akamai',
    'cloud',
    [20940, 16625, 12222, 16702, 17204, 18680, 18717, 21342, 21357, 21399, 23454, 23455, 34164, 35994],
  ],
  ['Fastly', 'cloud', [54113, 394192]],
  ['Apple', 'cloud', [714, 6185, 2709]],
  ['Meta', 'cloud', [32934, 54115, 63293]],
  ['Oracle', 'cloud', [31898, 7160, 14544, 20054]],
  ['GitHub', 'cloud', [36459]],
  ['Edgio', 'cloud', [15133, 22822]],
  ['Imperva', 'cloud', [19551]],
  ['Salesforce', 'cloud', [14340]],
  ['IBM Cloud', 'cloud', [36351]],
  ['Netflix', 'cloud', [2906, 40027, 55095, 394406]],
  ['Zscaler', '', [22616, 62044, 53813]],
  ['Twitter', '', [13414, 35995]],
  ['Alibaba', 'hosting', [45102, 37963, 134963, 45103, 45104]],
  ['Tencent', 'hosting', [132203, 45090, 132591]],
  ['Yandex', '', [13238]],
  ['Linode', 'hosting', [63949]],
  ['DigitalOcean', 'hosting', [14061, 62567, 133165, 135340, 200130, 202018, 202109, 393406, 394362, 46652]],
  ['Hetzner', 'hosting', [24940, 212317, 213230]],
  ['OVH', 'hosting', [16276, 35540]],
  ['Leaseweb', 'hosting', [60781, 28753, 16265, 7203, 30633, 59253, 395954, 396190, 394380, 60626, 133752]],
  ['Scaleway', 'hosting', [12876]],
  ['Vultr', 'hosting', [20473]],
  ['Contabo', 'hosting', [51167, 40021]],
  ['netcup', 'hosting', [197540]],
  ['M247', 'hosting', [9009]],
  ['Datacamp', 'hosting', [60068, 212238]],
  ['WorldStream', 'hosting', [49981]],
  ['FranTech', 'hosting', [53667]],
  ['ColoCrossing', 'hosting', [36352]],
  ['QuadraNet', 'hosting', [8100]],
  ['Hostinger', 'hosting', [47583]],
];

const FAMILY = new Map(COMPANIES.flatMap(([, , asns]) => asns.map((asn) => [asn, asns[0] ?? asn] as const)));
const NAMES = new Map(COMPANIES.map(([name, , [first = 0]]) => [`AS${first}`, name]));
const TRADES = new Map<string, Trade>(COMPANIES.map(([, trade, [first = 0]]) => [`AS${first}`, trade]));

/** The name of the company of an operator such as AS16509 or volume/AS16509; "" if the table has none. */
export function companyOf(what: string): string {
  return NAMES.get(what.slice(what.lastIndexOf('/') + 1)) ?? '';
}

/** The AS number that represents the company of an AS number. */
export function operatorOf(asn: number): number {
  return FAMILY.get(asn) ?? asn;
}

/** What the company with this `what` does, as far as it matters. */
export function tradeOf(what: string): Trade {
  return TRADES.get(what) ?? '';
}
