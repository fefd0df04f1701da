import { expect, it } from 'vitest';
import { proxyFor } from '../../src/config/proxy.ts';

const PROXY = 'http://proxy.example:3128';
const HTTPS = 'https://otel.example/v1/metrics';

it.each<[url: string, environment: Record<string, string>, expected: string | null]>([
  [HTTPS, {}, null],
  [HTTPS, { HTTPS_PROXY: PROXY }, PROXY],
  [HTTPS, { https_proxy: PROXY, HTTPS_PROXY: 'http://other.example' }, PROXY],
  [HTTPS, { https_proxy: '', HTTPS_PROXY: PROXY }, PROXY],
  [HTTPS, { HTTP_PROXY: PROXY }, null],
  ['http://otel.example:4318', { HTTP_PROXY: PROXY }, PROXY],
  ['http://otel.example:4318', { http_proxy: 'proxy.example:3128' }, PROXY],
  ['http://otel.example:4318', { HTTPS_PROXY: PROXY }, null],
  ['http://localhost:4318', { HTTP_PROXY: PROXY }, null],
  ['http://127.0.0.2:4318', { HTTP_PROXY: PROXY }, null],
  ['http://[::1]:4318', { HTTP_PROXY: PROXY }, null],
  ...[
    '*',
    'a, otel.example',
    'a otel.example',
    'OTEL.example',
    'example',
    '.example',
    '*.example',
    'otel.example:443',
  ].map((NO_PROXY): [string, Record<string, string>, null] => [HTTPS, { HTTPS_PROXY: PROXY, NO_PROXY }, null]),
  ...['', ',', 'tel.example', 'other.example', 'otel.example:80', '.otel.example.com', '10.0.0.0/8'].map(
    (no_proxy): [string, Record<string, string>, string] => [HTTPS, { HTTPS_PROXY: PROXY, no_proxy }, PROXY],
  ),
  ...['10.0.0.0/8', '10.1.2.3', '10.1.2.3:4318', '10.1.2.3,x'].map(
    (NO_PROXY): [string, Record<string, string>, null] => [
      'http://10.1.2.3:4318',
      { HTTP_PROXY: PROXY, NO_PROXY },
      null,
    ],
  ),
  ['http://10.1.2.3:4318', { HTTP_PROXY: PROXY, NO_PROXY: '2.3,11.0.0.0/8' }, PROXY],
  ['http://[fd00::1]:4318', { HTTP_PROXY: PROXY, NO_PROXY: 'fd00::/8' }, null],
  ['http://[fd00::1]:4318', { HTTP_PROXY: PROXY, NO_PROXY: '[fd00::1]:4318' }, null],
])('the proxy for %s with %j is %s', (url, environment, expected) => {
  expect(proxyFor(url, environment, () => expect.fail('a variable was refused'))).toBe(expected);
});

it.each(['socks5://proxy.example:1080', 'http://', 'http://:x@:y', 'http:///', 'ftp://a'])(
  'refuses the proxy %s',
  (HTTPS_PROXY) => {
    const refused: string[] = [];
    expect(proxyFor(HTTPS, { HTTPS_PROXY }, (variable) => refused.push(variable))).toBeNull();
    expect(refused).toEqual(['HTTPS_PROXY']);
  },
);
