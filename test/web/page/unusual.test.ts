import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Family } from '../../../src/model.ts';
import type { Report } from '../../../src/unusual/evidence.ts';
import { ACCEPT_POLICY } from '../../../src/web/page/policy.ts';
import { renderPage } from '../../../src/web/page/page.ts';

const OPTIONS = { telemetryPath: '/metrics', connectionsPath: null, acceptToken: null, refreshes: true };
const AT = Date.parse('2026-11-30T19:57:00Z');
const report = (what: string, given: Partial<Report> = {}): Report => ({
  ...{ owner: { namespace: 'shop', workload: 'web' }, kind: 'operator', what, process: 'curl', reach: 'none' },
  ...{ points: 2, reason: `First call to the operator ${what}.`, at: AT, recordedAt: AT },
  ...given,
});
const INFO: Family = {
  ...{ name: 'peerscope_asn_info', help: '', type: 'gauge', labels: ['asn', 'as_name', 'as_country'] },
  samples: [{ labels: ['64501', 'EVIL-AS', 'LU'], value: 1 }],
};
const pageOf = (reports: readonly Report[] | null, acceptToken: string | null = null): string =>
  renderPage([INFO], { ...OPTIONS, acceptToken }, () => null, reports);
const readable = (page: string): string =>
  page
    .replace(/<(script|noscript)>.*?<\/\1>/gs, '')
    .replace(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ');

describe('the section Unusual', () => {
  const reports = [
    report('AS14618', { owner: { namespace: '', workload: 'cron.service' }, points: 1, process: '' }),
    report('process/nc', { kind: 'process', points: 1, reason: 'nc called out for the first time.' }),
    report('AS64501'),
  ];

  test('is first, with the most unusual workload first', () => {
    const page = pageOf(reports);
    expect(/<main>\s*<section aria-labelledby="(\w+)"/.exec(page)?.[1]).toBe('unusual');
    expect(readable(page)).toContain(
      'Unusual past hour Workload What Points Reason ' +
        'shop/web critical, 3 points AS64501 EVIL-AS, LU · curl 2 First call to the operator AS64501. Since 2026-11-30 19:57 UTC ' +
        'shop/web process/nc curl 1 nc called out for the first time. Since 2026-11-30 19:57 UTC ' +
        'cron.service info, 1 point AS14618 1 First',
    );
  });

  test('names the company of an operator that is not connected now', () => {
    expect(readable(pageOf([report('AS16509')]))).toContain('AS16509 Amazon · curl 2');
  });

  test('says that nothing is unusual, and is absent if that is not watched', () => {
    expect(readable(pageOf([]))).toContain('Unusual past hour Nothing is unusual.');
    expect(readable(pageOf(null))).not.toContain('Unusual');
  });

  test('says that operators are not watched if ASN lookups are off', () => {
    const none = 'Network operators are not watched, because ASN lookups are off.';
    const cache: Family = {
      ...{ name: 'peerscope_asn_cache_entries', help: '', type: 'gauge', labels: [] },
      samples: [{ labels: [], value: 0 }],
    };
    const isShown = (families: readonly Family[]): boolean =>
      readable(renderPage(families, OPTIONS, () => null, [])).includes(none);
    expect([isShown([INFO]), isShown([INFO, cache])]).toEqual([true, false]);
  });

  test('shows 20 reports', () => {
    const many = Array.from({ length: 23 }, (_, i) => report(`AS${i + 1}`));
    const page = pageOf(many);
    expect([page.match(/First call to/g)?.length, readable(page).includes('and 3 more')]).toEqual([20, true]);
  });

  test('escapes every text', () => {
    const hostile = report('a"><script>', {
      ...{ owner: { namespace: '"><s>', workload: '</td><script>' }, process: '<img>', reason: '<u>' },
    });
    const page = pageOf([hostile], 'token').replace(/<script>\nfor.*?<\/script>/s, '');
    expect(page).not.toMatch(/<script|<img|<s>|<u>/);
  });
});

describe('the accept button', () => {
  test('is absent without a token, as is every script', () => {
    expect(pageOf([report('AS64501')])).not.toMatch(/<button|<script|noscript/);
  });

  test('has the decision and the token, is hidden without JavaScript, and has a link then', () => {
    const page = pageOf([report('AS64501')], 'the-token');
    expect(page).toContain(
      '<button type="button" hidden data-namespace="shop" data-workload="web" data-what="AS64501" data-token="the-token">',
    );
    expect(page).toMatch(/<noscript><a href="https:\/\/[^"]+\/docs\/accept\.md">How to accept<\/a><\/noscript>/);
  });

  test('is absent for calls to the metadata service', () => {
    expect(pageOf([report('metadata', { kind: 'metadata' })], 'token')).not.toContain('<button');
  });

  test('has the only script of the page, which the policy allows', () => {
    const scripts = [...pageOf([report('AS64501')], 'token').matchAll(/<script>(.*?)<\/script>/gs)];
    expect(scripts).toHaveLength(1);
    const hash = createHash('sha256')
      .update(scripts[0]?.[1] ?? '')
      .digest('base64');
    expect(ACCEPT_POLICY).toContain(`'sha256-${hash}'`);
  });
});
