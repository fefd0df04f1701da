import { expect, it } from 'vitest';
import { eventText } from '../../src/cli/event-text.ts';
import { parse } from '../../src/index.ts';

const [ROW] = parse('tcp ESTAB 0 0 192.0.2.5:40000 198.51.100.7:443 users:(("curl",pid=7,fd=3))').rows;
const at = '2026-09-15T08:00:00.000Z';
const peer = {
  network: 'public',
  asn: 13335,
  as_name: 'CLOUDFLARENET',
  direction: 'outbound',
  workload: 'cron.service',
};

it.each<[fields: object, text: string]>([
  [
    { event: 'opened' },
    'opened   tcp  192.0.2.5:40000 -> 198.51.100.7:443  curl/7  established  cron.service  AS13335 Cloudflare',
  ],
  [
    { event: 'closed', duration_seconds: 3.4, sent_bytes: 2048, received_bytes: 0 },
    'closed   tcp  192.0.2.5:40000 -> 198.51.100.7:443  curl/7  established  cron.service  AS13335 Cloudflare  after 3.4 s  2.0 KiB sent  0 B received',
  ],
  [
    { event: 'closed', duration_seconds: null, direction: 'inbound' },
    'closed   tcp  192.0.2.5:40000 <- 198.51.100.7:443  curl/7  established  cron.service  AS13335 Cloudflare',
  ],
  [
    { event: 'state', previous: 'syn_sent' },
    'state    tcp  192.0.2.5:40000 -> 198.51.100.7:443  curl/7  syn_sent > established  cron.service  AS13335 Cloudflare',
  ],
  [
    { event: 'owner', previous: 'sh' },
    'owner    tcp  192.0.2.5:40000 -> 198.51.100.7:443  curl/7  was sh  cron.service  AS13335 Cloudflare',
  ],
  [{}, 'open     tcp  192.0.2.5:40000 -> 198.51.100.7:443  curl/7  established  cron.service  AS13335 Cloudflare'],
  [
    { event: 'opened', process: 'a\u001b[2J', workload: null },
    'opened   tcp  192.0.2.5:40000 -> 198.51.100.7:443  a\ufffd[2J/7  established  AS13335 Cloudflare',
  ],
])('%j is one line', (fields, text) => {
  expect(eventText({ at, ...ROW, ...peer, ...fields })).toBe(`2026-09-15 08:00:00.000  ${text}`);
});

it.each<[width: number, lines: string]>([
  [
    80,
    `08:00:00  closed   tcp  192.0.2.5:40000 -> 198.51.100.7:443  curl/7  established
          cron.service  AS13335 Cloudflare  after 3.4 s  2.0 KiB sent`,
  ],
  [
    40,
    `08:00:00  closed   tcp
          192.0.2.5:40000 -> 198.51.100…
          curl/7  established
          cron.service
          AS13335 Cloudflare
          after 3.4 s  2.0 KiB sent`,
  ],
])('fits %i columns, and shows the rest below', (width, lines) => {
  const fields = { event: 'closed', duration_seconds: 3.4, sent_bytes: 2048 };
  expect(eventText({ at, ...ROW, ...peer, ...fields }, width)).toBe(lines);
});

it('says how many lines were dropped', () => {
  expect(eventText({ event: 'dropped', count: 5, at })).toBe(
    '2026-09-15 08:00:00.000  dropped  5 lines, because the reader is slow',
  );
});
