import { OTHER } from '../../common/other.ts';
import { bytesOf } from '../../common/units.ts';
import { ASN_INFO, FAMILIES } from '../../metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../metrics/status-families.ts';
import type { Family } from '../../model.ts';
import type { Report } from '../../unusual/evidence.ts';
import { markup, type Markup, type Piece } from './html.ts';
import {
  overviewOf,
  type Count,
  type EndpointCount,
  type Overview,
  type ShownOwner,
  type Ranking,
  type Traffic,
} from './overview.ts';
import { STYLE } from './style.ts';
import { unusualSection } from './unusual.ts';
import { DIRECTION_MEANINGS, STATE_MEANINGS } from './glossary.ts';

const REFRESH_SECONDS = 15;
const WAITING_REFRESH_SECONDS = 2;

/** Options of the page. Paths begin with "/" and are linked relative to the page, so they work behind a path prefix. */
export interface PageOptions {
  readonly telemetryPath: string;
  /** Null if the API is off. */
  readonly connectionsPath: string | null;
  /** The token with which the page declares something normal; null if users may not. */
  readonly acceptToken: string | null;
  /** Whether the page refreshes itself. */
  readonly refreshes: boolean;
}

/**
 * Renders the status page of one scan: one HTML document in which every text is escaped. It has no scripts but that of the accept
 * buttons. `nameOf` returns the reverse DNS name of a remote address, or null; `reports` is what is unusual, null if that is not watched.
 */
export function renderPage(
  families: readonly Family[],
  options: PageOptions,
  nameOf: (address: string) => string | null = () => null,
  reports: readonly Report[] | null = null,
): string {
  const overview = overviewOf(families);
  const { refreshes } = options;
  return wholePage(
    `peerscope: ${number(overview.sockets)} sockets`,
    refreshes ? REFRESH_SECONDS : null,
    markup`${pageHeader(options, overview.version)}
<p class="when">${when(overview)} ${
      refreshes
        ? markup`Refreshes every ${REFRESH_SECONDS} s · <a href="?refresh=off">Pause</a>`
        : markup`Refresh is paused · <a href="./">Resume</a>`
    }</p>
<main>
${unusualSection(reports, families, options.acceptToken)}
${totals(overview)}
${topProcesses(overview)}
${traffic(overview)}
<div class="two">
${operators(overview)}
${listeners(overview)}
</div>
${endpoints(overview, nameOf)}
<div class="two">
${blindSpots(overview)}
${costs(overview)}
</div>
${(documented ??= documentation())}
</main>`,
  );
}

/** Renders the page that is served before the first scan completes. */
export function renderWaiting(): string {
  return wholePage(
    'peerscope: scanning',
    WAITING_REFRESH_SECONDS,
    markup`<header>${MARK}<h1>peerscope</h1></header><main><p class="when">The first scan is still running.</p></main>`,
  );
}

/** Adds a notice to an earlier page that its numbers are old. */
export function markStale(page: string): string {
  const notice =
    '<p class="notice" role="status">The latest scan did not complete in time. This page shows the previous scan.</p>';
  return page.replace('<main>', `<main>\n${notice}`);
}

function wholePage(title: string, refreshSeconds: number | null, body: Markup): string {
  const refresh = refreshSeconds === null ? null : markup`<meta http-equiv="refresh" content="${refreshSeconds}">\n`;
  const head = markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
${refresh}<title>${title}</title>
<link rel="icon" href="data:image/svg+xml,${encodeURIComponent(ICON)}">`;
  return `${String(head)}\n<style>${STYLE}</style>\n</head>\n<body>\n${String(body)}\n</body>\n</html>\n`;
}

const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 34 34" fill="none" stroke="#0f9488" stroke-width="3"><circle cx="17" cy="17" r="3.5" fill="#0f9488"/><path d="M8 17a9 9 0 0 1 9-9M26 17a9 9 0 0 1-9 9M2 17A15 15 0 0 1 17 2M32 17a15 15 0 0 1-15 15"/></svg>';
const MARK = markup`<svg viewBox="0 0 34 34" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round" aria-hidden="true"><circle cx="17" cy="17" r="3.2" fill="currentColor"/><path d="M8 17a9 9 0 0 1 9-9M26 17a9 9 0 0 1-9 9M2 17A15 15 0 0 1 17 2M32 17a15 15 0 0 1-15 15"/></svg>`;

function pageHeader({ telemetryPath, connectionsPath }: PageOptions, version: string): Markup {
  const links: readonly (readonly [text: string, href: string])[] = [
    ['Metrics', `.${telemetryPath}`],
    ...(connectionsPath === null ? [] : [['Connections (JSON)', `.${connectionsPath}`] as const]),
    ['Health', './-/healthy'],
    ['Readiness', './-/ready'],
    ['Documentation', '#documentation'],
  ];
  return markup`<header>${MARK}<h1>peerscope</h1><p>Caller ID for every connection on this host · ${version}</p>
<nav aria-label="Pages"><ul>${links.map(([text, href]) => markup`<li><a href="${href}">${text}</a></li>`)}</ul></nav></header>`;
}

function when({ at, costs }: Overview): Markup {
  if (at === 0) return markup`No scan has completed yet.`;
  const iso = new Date(at).toISOString();
  const seconds = costs.reduce((total, run) => total + run.seconds, 0);
  return markup`Scanned at <time datetime="${iso}">${iso.slice(11, 19)} UTC</time> in ${duration(seconds)}.`;
}

function totals(overview: Overview): Markup {
  const { inbound, outbound, loopback, listen } = overview.directions;
  const tiles = [
    ['Sockets', overview.sockets],
    ['Inbound', inbound],
    ['Outbound', outbound],
    ['Loopback', loopback],
    ['Listening', listen],
  ] as const;
  const { processes, namespaces, operators } = overview;
  const atLeast = operators?.lines.some(({ asn }) => asn === OTHER) ? 'at least ' : '';
  return markup`<h2 class="spoken">Totals</h2>
<dl class="totals">${tiles.map(([name, value]) => markup`<div><dt>${name}</dt><dd>${number(value)}</dd></div>`)}</dl>
<p class="sum"><b>${plural(namespaces, 'network namespace')}</b>${
    processes === null ? null : markup`, <b>${plural(processes, 'process', 'processes')}</b>`
  }${operators && markup`, ${atLeast}<b>${plural(operators.known, 'remote network operator')}</b>`}</p>`;
}

function topProcesses({ top, sockets }: Overview): Markup {
  const most = Math.max(1, ...top.lines.map(({ total }) => total));
  const rows = top.lines.map(
    (line) => markup`<tr><th scope="row">${named(line.owner)}</th><td class="number">${number(line.total)}</td>
<td>${bar(line, most, sockets)}${stateList(line)}</td></tr>`,
  );
  return markup`<section aria-labelledby="processes"><h2 id="processes">Top processes by sockets</h2>
${
  rows.length === 0
    ? markup`<p>No sockets.</p>`
    : markup`<table class="top"><thead><tr><th scope="col">Process</th><th scope="col" class="number">Sockets</th><th scope="col">By state</th></tr></thead>
<tbody>${rows}</tbody></table>`
}${moreLine(top, 'process', 'processes')}</section>`;
}

/** A stacked bar, scaled to the longest one, with one color per state. */
function bar({ total, states }: Count, most: number, all: number): Markup {
  const scale = 1000 / most;
  let from = 0;
  const parts = states.map(([state, count]) => {
    const width = Math.max(4, count * scale);
    const part = markup`<rect class="${classOf(state)}" x="${round(from)}" y="0" width="${round(Math.max(2, width - 3))}" height="12"/>`;
    from += width;
    return part;
  });
  const share = `${percent(total, all)} of all sockets`;
  const length = Math.max(1000, Math.ceil(from));
  return markup`<svg class="bar" viewBox="0 0 ${length} 12" preserveAspectRatio="none" role="img" aria-label="${share}"><title>${share}</title>${parts}</svg>`;
}

function stateList({ states }: Count): Markup {
  const items = states.map(
    ([state, count]) =>
      markup`<li><svg viewBox="0 0 9 9" aria-hidden="true"><rect class="${classOf(state)}" width="9" height="9" rx="2"/></svg>${state} <b>${number(count)}</b></li>`,
  );
  return markup`<ul class="states">${items}</ul>`;
}

function operators({ operators, networks }: Overview): Markup {
  const rows = operators?.lines.map(
    ({ asn, name, country, inbound, outbound, total }) =>
      markup`<tr><th scope="row">${operatorName(asn, name)}<span class="sub">${[...(/^[1-9]/.test(asn) ? [`AS${asn}`] : []), ...(country === '' ? [] : [country])].join(' · ')}</span></th><td class="number">${number(inbound)}</td><td class="number">${number(outbound)}</td><td class="number">${number(total)}</td></tr>`,
  );
  const rest = networks.map(([network, count]) => markup`<li>${networkName(network)} <b>${number(count)}</b></li>`);
  return markup`<section aria-labelledby="operators"><h2 id="operators">Remote network operators</h2>
${
  rows === undefined
    ? markup`<p>Disabled by --no-collector.asn.</p>`
    : rows.length === 0
      ? markup`<p>No remote has a known operator.</p>`
      : markup`<table><thead><tr><th scope="col">Operator</th><th scope="col" class="number">In</th><th scope="col" class="number">Out</th><th scope="col" class="number">Total</th></tr></thead>
<tbody>${rows}</tbody></table>`
}${operators && moreLine(operators, 'operator')}${
    rest.length === 0 ? null : markup`<h3>Other networks</h3><ul class="states">${rest}</ul>`
  }</section>`;
}

function traffic({ traffic }: Overview): Markup | null {
  if (!traffic) return null;
  const bytes = (line: Traffic): Markup =>
    markup`<td class="number">${bytesOf(line.sent)}</td><td class="number">${bytesOf(line.received)}</td>`;
  const table = (id: string, title: string, rows: readonly Markup[], ranking: Ranking<unknown>, many: string): Markup =>
    markup`<div><h3 id="${id}">By ${title}</h3>
${
  rows.length === 0
    ? markup`<p>None yet.</p>`
    : markup`<table aria-labelledby="${id}"><thead><tr><th scope="col">${title}</th><th scope="col" class="number">Sent</th><th scope="col" class="number">Received</th></tr></thead>
<tbody>${rows}</tbody></table>`
}${moreLine(ranking, title, many)}</div>`;
  const operators = traffic.operators.lines.map(
    (line) =>
      markup`<tr><th scope="row">${line.network === '' ? operatorName(line.asn, line.name) : networkName(line.network)}${/^[1-9]/.test(line.asn) ? markup`<span class="sub">AS${line.asn}</span>` : null}</th>${bytes(line)}</tr>`,
  );
  const processes = traffic.processes.lines.map(
    (line) => markup`<tr><th scope="row">${named(line.owner)}</th>${bytes(line)}</tr>`,
  );
  return markup`<section aria-labelledby="traffic"><h2 id="traffic">Who this host sends to, in bytes</h2><p>Payload of TCP connections since peerscope started. Connections in other network namespaces count when they close.</p>
<div class="two">${table('traffic-operators', 'operator', operators, traffic.operators, 'operators')}
${table('traffic-processes', 'process', processes, traffic.processes, 'processes')}</div></section>`;
}

function networkName(network: string): string {
  return network === 'public' ? 'public, operator unknown' : network;
}

function operatorName(asn: string, name: string): Piece {
  if (asn === OTHER) return markup`<i>all others</i>`;
  return name === '' ? markup`<i>unknown name</i>` : markup`<bdi>${name}</bdi>`;
}

function listeners({ listeners }: Overview): Markup {
  const waiting = listeners.lines.reduce((total, line) => total + line.waiting, 0);
  const rows = listeners.lines.map(
    (
      line,
    ) => markup`<tr><th scope="row">${named(line.owner)}</th><td class="address">${authority(line.address, line.port)}</td>
<td class="number${line.waiting > 0 ? ' warn' : ''}">${number(line.waiting)}</td></tr>`,
  );
  return markup`<section aria-labelledby="listeners"><h2 id="listeners">Listeners <small>${number(listeners.total)}</small></h2>
<p>${waiting === 0 ? 'No connections are waiting to be accepted.' : `${plural(waiting, 'connection')} waiting to be accepted.`}</p>
${
  rows.length === 0
    ? null
    : markup`<table class="listeners"><thead><tr><th scope="col">Process</th><th scope="col">Address</th><th scope="col" class="number">Backlog</th></tr></thead>
<tbody>${rows}</tbody></table>`
}${moreLine(listeners, 'listener')}</section>`;
}

function endpoints({ endpoints, loopbackDuplicates }: Overview, nameOf: (address: string) => string | null): Markup {
  if (!endpoints)
    return markup`<section aria-labelledby="endpoints"><h2 id="endpoints">Endpoints</h2><p>Disabled by --no-collector.endpoints.</p></section>`;
  const headings = [
    ['inbound', 'Inbound', ''],
    ['outbound', 'Outbound', ''],
    ['loopback', 'Loopback', `, ${plural(loopbackDuplicates, 'duplicate')} omitted`],
  ] as const;
  return markup`<section aria-labelledby="endpoints"><h2 id="endpoints">Endpoints</h2><p>Connections by the service that they belong to.</p>
<div class="three">${headings.map(([direction, title, note]) => {
    const { total, ranking } = endpoints[direction];
    return markup`<div><h3 id="${direction}">${title} <small>${plural(total, 'connection')}${total === 0 ? '' : note}</small></h3>
${endpointTable(ranking, direction, direction === 'outbound' ? nameOf : () => null)}</div>`;
  })}</div></section>`;
}

function endpointTable(
  ranking: Ranking<EndpointCount>,
  labelledBy: string,
  nameOf: (address: string) => string | null,
): Markup {
  if (ranking.lines.length === 0) return markup`<p>None.</p>`;
  const rows = ranking.lines.map(
    (
      line,
    ) => markup`<tr><th scope="row"><span class="address">${foldedOr(line.name)}</span>${remoteName(line.name, nameOf)}<span class="sub">${line.transport} · ${named(line.owner)}</span></th>
<td class="number">${number(line.total)}</td></tr><tr class="parts"><td colspan="2">${stateList(line)}</td></tr>`,
  );
  return markup`<table aria-labelledby="${labelledBy}"><thead><tr><th scope="col">Endpoint and owner</th><th scope="col" class="number">Connections</th></tr></thead>
<tbody>${rows}</tbody></table>${moreLine(ranking, 'endpoint')}`;
}

/** The reverse DNS name of an endpoint named by address: "192.0.2.1:443", "[2001:db8::1]:443" or, for a raw socket, without a port. */
function remoteName(endpoint: string, nameOf: (address: string) => string | null): Markup | null {
  const [, ipv6, ipv4, bare = endpoint] = /^(?:\[(.+)\]|([\d.]+)):\d+$|^(.*)$/s.exec(endpoint) ?? [];
  const name = nameOf(ipv6 ?? ipv4 ?? bare);
  return name === null ? null : markup`<span class="sub"><bdi>${name}</bdi></span>`;
}

function blindSpots({ blindSpots }: Overview): Markup {
  const rows = blindSpots.map(
    ({ amount, what, why }) => markup`<tr><th scope="row">${amount} ${what}</th><td>${why}</td></tr>`,
  );
  return markup`<section aria-labelledby="blind-spots"><h2 id="blind-spots">Blind spots</h2>
${
  rows.length === 0
    ? markup`<p>None. Every socket has a known process, and every network namespace was read.</p>`
    : markup`<table><thead><tr><th scope="col">What</th><th scope="col">Why</th></tr></thead><tbody>${rows}</tbody></table>`
}</section>`;
}

function costs({ costs }: Overview): Markup {
  const total = costs.reduce((sum, run) => sum + run.seconds, 0);
  const rows = costs.map(
    ({ collector, seconds, success }) =>
      markup`<tr><th scope="row">${collector}</th><td class="${success ? '' : 'warn'}">${success ? 'complete' : 'incomplete'}</td><td class="number">${duration(seconds)}</td></tr>`,
  );
  return markup`<section aria-labelledby="cost"><h2 id="cost">Scan cost <small>${duration(total)}</small></h2>
<table><thead><tr><th scope="col">Collector</th><th scope="col">Result</th><th scope="col" class="number">Time</th></tr></thead><tbody>${rows}</tbody></table></section>`;
}

/** The documentation section, equal on every page. */
let documented: Markup | undefined;

function documentation(): Markup {
  const words = (meanings: Readonly<Record<string, string>>): Markup =>
    markup`<dl class="words">${Object.entries(meanings).map(([word, meaning]) => markup`<dt>${word}</dt><dd>${meaning}</dd>`)}</dl>`;
  const specs = [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES];
  const metrics = specs.map(
    ({ name, help, labels }) =>
      markup`<dt class="address">${name}${labels.length === 0 ? null : markup`<span class="sub">${labels.join(', ')}</span>`}</dt><dd>${help}</dd>`,
  );
  return markup`<section aria-labelledby="documentation"><h2 id="documentation">Documentation</h2>
<details><summary>Socket states</summary>${words(STATE_MEANINGS)}</details>
<details><summary>Directions</summary>${words(DIRECTION_MEANINGS)}</details>
<details><summary>Metrics and labels</summary><dl class="words metrics">${metrics}</dl></details>
<p>All flags: <span class="address">peerscope serve --help</span></p></section>`;
}

/** An owner: the process, with its namespace and workload below. */
function named({ process, namespace, workload }: ShownOwner): Markup {
  const place = [namespace, workload].filter((name) => name !== '').join('/');
  const name = process === '' ? markup`<i>unknown process</i>` : foldedOr(process);
  return markup`${name}${place === '' ? null : markup`<span class="sub"><bdi>${place}</bdi></span>`}`;
}

/** A label value; "other" always means folded series, since values that spell it are prefixed with "_". */
function foldedOr(name: string): Markup {
  return name === OTHER ? markup`<i>all others</i>` : markup`<bdi>${name}</bdi>`;
}

function authority(address: string, port: string): string {
  const host = address.includes(':') ? `[${address}]` : address;
  return `${host === OTHER ? '*' : host}:${port === OTHER ? '*' : port}`;
}

function classOf(state: string): string {
  return Object.hasOwn(STATE_MEANINGS, state) ? state : 'unknown';
}

function moreLine(ranking: Pick<Ranking<unknown>, 'more'>, one: string, many?: string): Markup | null {
  return ranking.more === 0 ? null : markup`<p class="more">and ${plural(ranking.more, one, many)} more</p>`;
}

function number(value: number): string {
  return value.toLocaleString('en');
}

function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}

function percent(part: number, whole: number): string {
  const share = whole === 0 ? 0 : (part / whole) * 100;
  return share > 0 && share < 1 ? 'less than 1 %' : `${Math.round(share)} %`;
}

function duration(seconds: number): string {
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
