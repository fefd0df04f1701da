import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { setDirections } from '../../src/collect/saved-output.ts';
import { parseServices } from '../../src/common/etc-services.ts';
import { placeText } from '../../src/parse/text-reader.ts';

const TEXTS = join(import.meta.dirname, '..', 'fixtures', 'text');
const services = parseServices('smtp 25/tcp\nhttps 443/tcp\npostgresql 5432/tcp\n');

function directions(text: string): (string | null)[] {
  const { rows } = placeText(text, { portOf: (_, name) => (name === 'smtp' ? 25 : null) });
  setDirections(rows, services);
  return rows.map(({ row }) => row.direction && [row.direction, row.direction_evidence ?? ''].join(' ').trim());
}

const HEADER = 'Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port';

describe('the directions of saved output', () => {
  it.each<[name: string, lines: readonly string[], expected: readonly (string | null)[]]>([
    [
      'a listener that comes later',
      ['tcp ESTAB 0 0 192.0.2.5:8000 198.51.100.7:9000', 'tcp LISTEN 0 5 0.0.0.0:8000 0.0.0.0:*'],
      ['inbound listener', 'listen'],
    ],
    [
      'ports',
      ['tcp ESTAB 0 0 192.0.2.5:40000 198.51.100.7:443', 'tcp ESTAB 0 0 192.0.2.5:443 198.51.100.7:40000'],
      ['outbound', 'inbound'],
    ],
    ['a guess by ports', ['tcp ESTAB 0 0 192.0.2.5:8000 198.51.100.7:9000'], ['inbound port']],
    [
      'mirrors',
      ['tcp ESTAB 0 0 192.0.2.5:8000 192.0.2.5:40000', 'tcp ESTAB 0 0 192.0.2.5:40000 192.0.2.5:8000'],
      ['loopback listener', 'loopback listener'],
    ],
    [
      'names of the loopback address',
      ['tcp ESTAB 0 0 localhost:40000 localhost:smtp', 'tcp ESTAB 0 0 web1:40000 web1:smtp'],
      ['loopback listener', 'loopback listener'],
    ],
    [
      'a port by name',
      [
        'tcp ESTAB 0 0 web1:40000 mx.example:smtp',
        'tcp LISTEN 0 5 *:smtp *:*',
        'tcp ESTAB 0 0 web1:smtp mx.example:1024',
      ],
      ['outbound', 'listen', 'inbound listener'],
    ],
    ['no transport', ['ESTAB 0 0 192.0.2.5:40000 198.51.100.7:443'], ['outbound']],
    [
      'a repeated header: mirrors of two hosts',
      ['tcp ESTAB 0 0 192.0.2.5:40000 192.0.2.6:5432', HEADER, 'tcp ESTAB 0 0 192.0.2.6:5432 192.0.2.5:40000'],
      ['outbound', 'inbound'],
    ],
    [
      'repeated output without a header',
      [
        'tcp LISTEN 0 5 0.0.0.0:8000 0.0.0.0:*',
        'tcp ESTAB 0 0 192.0.2.5:8000 192.0.2.6:9000',
        'tcp LISTEN 0 5 0.0.0.0:8000 0.0.0.0:*',
        'tcp ESTAB 0 0 192.0.2.5:8000 192.0.2.6:9000',
      ],
      ['listen', 'inbound listener', 'listen', 'inbound listener'],
    ],
  ])('by %s', (_, lines, expected) => {
    expect(directions([HEADER, ...lines].join('\n'))).toEqual(expected);
  });

  it('are null where the text cuts the peer off', () => {
    const [local, remote] = ['192.168.1.221.5061', 'fe80::aede:48ff:.4'].map((end) => end.padEnd(18));
    const text = `Tcpcb            Proto Recv-Q Send-Q  Local Address      Foreign Address    (state)\nb68d2a49e3ce22ad tcp6       0      0  ${local} ${remote} ESTABLISHED`;
    expect(directions(text)).toEqual([null]);
  });

  it('takes linear time for equal rows', () => {
    const line = 'tcp ESTAB 0 0 192.0.2.1:40000 198.51.100.7:443\n';
    expect(new Set(directions(line.repeat(20_000)))).toEqual(new Set(['outbound']));
  });

  it('are complete in recordings', () => {
    const { rows } = placeText(readFileSync(join(TEXTS, 'ss-tunap.out'), 'utf8'));
    setDirections(rows, () => null);
    expect(rows.filter(({ row }) => row.direction === null)).toEqual([]);
    expect(new Set(rows.map(({ row }) => row.direction))).toEqual(new Set(['listen', 'loopback', 'outbound']));
  });
});
