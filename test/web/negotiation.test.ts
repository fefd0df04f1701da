import { describe, expect, test } from 'vitest';
import { acceptsGzip, chooseCollectors, negotiateFormat, timeLimitMs } from '../../src/web/negotiation.ts';

describe('negotiateFormat', () => {
  test.each([
    ['no header', undefined, 'text'],
    ['a browser', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'text'],
    ['curl', '*/*', 'text'],
    [
      'Prometheus 3',
      'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
      'openmetrics',
    ],
    [
      'Prometheus 2',
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
    ],
    ['text preferred', 'application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.9', 'text'],
    ['OpenMetrics refused by weight 0', 'application/openmetrics-text;q=0,*/*;q=0.1', 'text'],
    ['an unknown OpenMetrics version', 'application/openmetrics-text;version=9.0.0', 'text'],
    ['a version in quotes', 'application/openmetrics-text; version="1.0.0"', 'openmetrics'],
    ['a malformed header', ';;q=,,=', 'text'],
  ])('%s', (_, accept, expected) => {
    expect(negotiateFormat(accept)).toBe(expected);
  });
});

describe('acceptsGzip', () => {
  test.each([
    [undefined, false],
    ['gzip', true],
    ['deflate, gzip;q=0.5', true],
    ['gzip;q=0', false],
    ['gzip;q=0.000, identity', false],
    ['br', false],
    ['*', true],
    ['gzip;q=0, *', false],
    ['*;q=0, gzip', true],
    ['identity;q=1, *;q=0', false],
    ['x-gzip', false],
    ['gzip;q=nonsense', false],
  ])('%s: %s', (header, expected) => {
    expect(acceptsGzip(header)).toBe(expected);
  });
});

describe('timeLimitMs', () => {
  test.each([
    ['no header: the budget', undefined, 5_000],
    ['half a second less than the timeout', '10', 9_500],
    ['a decimal', '1.5', 1_000],
    ['a very short timeout', '0.2', 100],
    ['longer than the longest timer', '1e300', 3_600_000],
    ['not a number', 'soon', 5_000],
    ['a negative time', '-3', 5_000],
  ])('%s', (_, header, expected) => {
    expect(timeLimitMs(header, 5_000)).toBe(expected);
  });
});

describe('chooseCollectors', () => {
  const ON = ['sockets', 'processes', 'asn'];
  test.each([
    ['no query: all', '/metrics', ON],
    ['another query: all', '/metrics?collect=asn&name=collect[]', ON],
    ['collect[]: only this one', '/metrics?collect[]=asn', ['asn']],
    ['several, in any order and twice', '/metrics?collect[]=asn&collect[]=sockets&collect[]=asn', ['sockets', 'asn']],
    ['percent-encoded', '/metrics?collect%5B%5D=a%73n', ['asn']],
    ['exclude[]: all others', '/metrics?exclude[]=asn', ['sockets', 'processes']],
    ['all excluded: none', '/metrics?exclude[]=asn&exclude[]=sockets&exclude[]=processes', []],
  ])('%s', (_, url, expected) => {
    expect(chooseCollectors(url, ON)).toEqual({ collectors: new Set(expected) });
  });

  const ALLOWED = 'must be one of the enabled collectors sockets, processes, asn';
  test.each([
    ['an unknown collector', '/metrics?collect[]=cpu', `Cannot select collector "cpu": ${ALLOWED}`],
    ['a disabled collector', '/metrics?exclude[]=endpoints', `Cannot select collector "endpoints": ${ALLOWED}`],
    ['an empty name', '/metrics?collect[]=', `Cannot select collector "": ${ALLOWED}`],
    ['a property name of objects', '/metrics?collect[]=__proto__', `Cannot select collector "__proto__": ${ALLOWED}`],
    [
      'both',
      '/metrics?collect[]=asn&exclude[]=sockets',
      'Cannot select collectors: collect[] and exclude[] cannot be combined',
    ],
  ])('refuses %s', (_, url, refusal) => {
    expect(chooseCollectors(url, ON)).toEqual({ refusal });
  });
});
