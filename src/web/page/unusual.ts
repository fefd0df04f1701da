import { ASN_INFO } from '../../metrics/catalogue.ts';
import type { Family } from '../../model.ts';
import type { Report } from '../../unusual/evidence.ts';
import { companyOf } from '../../unusual/grammar/operators.ts';
import { METADATA } from '../../unusual/grammar/what.ts';
import { byWorkload } from '../../unusual/summary.ts';
import { ACCEPT_SCRIPT } from './accept-script.ts';
import { Markup, markup } from './html.ts';

/** Reports that the page shows. */
const MOST_REPORTS = 20;
const HELP = 'https://github.com/peerscope/peerscope/blob/main/docs/accept.md';

/**
 * The section about what is unusual now; null if that is not watched. With a token, each report has a button that declares it normal, and
 * without JavaScript a link to the documentation.
 */
export function unusualSection(
  reports: readonly Report[] | null,
  families: readonly Family[],
  token: string | null,
): Markup | null {
  if (!reports) return null;
  const names = operatorNames(families);
  const workloads = byWorkload(reports);
  const rows = workloads.flatMap(({ owner, severity, points, reports }) =>
    reports.map((report, i) => {
      const place = [owner.namespace, owner.workload].filter((name) => name !== '').join('/');
      const sum = `${severity}, ${points} ${points === 1 ? 'point' : 'points'}`;
      const name = /AS(\d+)$/.exec(report.what)?.[1];
      const operator = name === undefined ? '' : (names.get(name) ?? companyOf(report.what));
      const about = [operator, report.process].filter((text) => text !== '').join(' · ');
      return markup`<tr><th scope="row">${i === 0 ? markup`<bdi>${place}</bdi><span class="sub${severity === 'info' ? '' : ' warn'}">${sum}</span>` : markup`<span class="spoken">${place}</span>`}</th>
<td><bdi>${report.what}</bdi>${about === '' ? null : markup`<span class="sub"><bdi>${about}</bdi></span>`}</td><td class="number">${report.points}</td>
<td>${report.reason}<span class="sub">Since ${time(report.at)}</span></td>${token === null ? null : markup`<td>${accept(report, token)}</td>`}</tr>`;
    }),
  );
  const shown = rows.slice(0, MOST_REPORTS);
  const looksUp = families.some(({ name, samples }) => name === 'peerscope_asn_cache_entries' && samples.length > 0);
  const more = rows.length - shown.length;
  return markup`<section aria-labelledby="unusual"><h2 id="unusual">Unusual <small>past hour</small></h2>
${
  rows.length === 0
    ? markup`<p>Nothing is unusual.</p>`
    : markup`<table class="unusual"><thead><tr><th scope="col">Workload</th><th scope="col">What</th><th scope="col" class="number">Points</th><th scope="col">Reason</th>${token === null ? null : markup`<th scope="col">Normal?</th>`}</tr></thead>
<tbody>${shown}</tbody></table>${more > 0 ? markup`<p class="more">and ${more} more</p>` : null}`
}${looksUp ? null : markup`<p>Network operators are not watched, because ASN lookups are off.</p>`}${rows.length > 0 && token !== null ? SCRIPT : null}</section>`;
}

const SCRIPT = Markup.script(ACCEPT_SCRIPT);

/** Calls to the metadata service cannot be declared normal. */
function accept({ owner, kind, what }: Report, token: string): Markup | null {
  if (kind === METADATA) return null;
  return markup`<button type="button" hidden data-namespace="${owner.namespace}" data-workload="${owner.workload}" data-what="${what}" data-token="${token}">Accept</button><span role="status"></span><noscript><a href="${HELP}">How to accept</a></noscript>`;
}

function time(at: number): Markup {
  const iso = new Date(at).toISOString();
  return markup`<time datetime="${iso}">${iso.slice(0, 16).replace('T', ' ')} UTC</time>`;
}

/** The name and country of each operator that is connected now, by AS number. */
function operatorNames(families: readonly Family[]): ReadonlyMap<string, string> {
  const family = families.find(({ name }) => name === ASN_INFO.name);
  const [asn, name, country] = ['asn', 'as_name', 'as_country'].map((label) => family?.labels.indexOf(label) ?? -1);
  const textOf = (labels: readonly string[], i: number | undefined): string => labels[i ?? -1] ?? '';
  const entries = (family?.samples ?? []).map(({ labels }): [string, string] => [
    textOf(labels, asn),
    [textOf(labels, name), textOf(labels, country)].filter((text) => text !== '').join(', '),
  ]);
  return new Map(entries.filter(([, text]) => text !== ''));
}
