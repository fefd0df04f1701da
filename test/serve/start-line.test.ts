import { expect, test } from 'vitest';
import { Procfs } from '../../src/collect/procfs.ts';
import { createLog, type LogFormat } from '../../src/common/log.ts';
import { parseConfig } from '../../src/config/config.ts';
import { logStart, urlOf } from '../../src/serve/start-line.ts';

test.each<{ addresses: string[]; tls?: boolean; url: string | null }>([
  { addresses: ['[::]:10043'], url: 'http://localhost:10043' },
  { addresses: ['0.0.0.0:10043'], url: 'http://localhost:10043' },
  { addresses: ['127.0.0.1:9100', '[::]:10043'], url: 'http://127.0.0.1:9100' },
  { addresses: ['[::1]:9100'], tls: true, url: 'https://[::1]:9100' },
  { addresses: ['10.0.0.0:80'], url: 'http://10.0.0.0:80' },
  { addresses: ['unix:/run/http.sock', '192.0.2.1:443'], tls: true, url: 'https://192.0.2.1:443' },
  { addresses: ['unix:/run/http.sock'], url: null },
  { addresses: [], url: null },
])('the status page of $addresses is at $url', ({ addresses, tls = false, url }) => {
  expect(urlOf(addresses, tls)).toBe(url);
});

test.each<{ format: LogFormat; addresses: string[]; first: RegExp }>([
  {
    format: 'text',
    addresses: ['[::]:10043'],
    first: /^\S+ INFO {2}peerscope 1\.2\.3 is running: open http:\/\/localhost:10043\n$/,
  },
  { format: 'text', addresses: ['unix:/http.sock'], first: /^\S+ INFO {2}peerscope started version=1\.2\.3 .*\n$/ },
  { format: 'json', addresses: ['[::]:10043'], first: /^{"level":"warn",.*"msg":"peerscope started"}\n$/ },
])('the first line in $format with $addresses is $first', ({ format, addresses, first }) => {
  const lines: string[] = [];
  const config = parseConfig({ 'log.format': format, 'asn.provider': 'none' }, {});
  const log = createLog(config.log, { write: (line: string) => lines.push(line) });
  const services = { provider: null, watched: null };
  logStart(config, log, '1.2.3', { addresses, source: new Procfs('/proc'), access: null, services });
  expect(lines[0]).toMatch(first);
  expect(lines.at(-1)).toContain('peerscope started');
});
