import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../src/common/address.ts';
import { NO_UID, parseSocketRows, SocketRows, stateOf, TABLES } from '../../src/collect/net-tcp-udp-raw.ts';

const recorded = (name: string): Buffer => readFileSync(new URL(`../fixtures/proc-net/${name}`, import.meta.url));

/** Rows as text: state, queues, local, remote, uid, inode. */
function parse(text: string | Buffer, family: 4 | 6, littleEndian = true): { rows: string[]; malformed: number } {
  const rows = new SocketRows(1);
  const bytes = Buffer.from(text);
  parseSocketRows(bytes, 0, bytes.length, family, littleEndian, rows);
  const address = (words: Uint32Array, i: number): string => {
    const [a = 0, b = 0, c = 0, d = 0] = words.subarray(i * 4, i * 4 + 4);
    return formatAddress([a, b, c, d]);
  };
  const lines = Array.from({ length: rows.count }, (_, i) =>
    [
      (rows.state[i] ?? 0).toString(16),
      `tx${rows.sendQueue[i]}`,
      `rx${rows.receiveQueue[i]}`,
      `${address(rows.local, i)}#${rows.localPort[i]}`,
      `${address(rows.remote, i)}#${rows.remotePort[i]}`,
      rows.uid[i] === NO_UID ? 'uid-' : `uid${rows.uid[i]}`,
      `inode${rows.inode[i]}`,
    ].join(' '),
  );
  return { rows: lines, malformed: rows.malformed };
}

const withoutHeader = (bytes: Buffer): Buffer => bytes.subarray(bytes.indexOf('\n') + 1);

describe('parseSocketRows', () => {
  test.each([
    {
      name: 'a listener with three connections waiting (0x46A0 is port 18080)',
      family: 4 as const,
      line: '   1: 0100007F:46A0 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 371423 4 0000000052be9a05 100 0 0 10 0                    ',
      expected: 'a tx0 rx3 127.0.0.1#18080 0.0.0.0#0 uid0 inode371423',
    },
    {
      name: 'TIME_WAIT ends after twelve columns and its uid 0 is not root',
      family: 4 as const,
      line: '   6: 0100007F:994E 0100007F:46A3 06 00000000:00000000 03:00001693 00000000     0        0 0 3 00000000e324de24                                      ',
      expected: '6 tx0 rx0 127.0.0.1#39246 127.0.0.1#18083 uid- inode0',
    },
    {
      name: 'FIN_WAIT2 kept as TIME_WAIT has no uid either',
      family: 4 as const,
      line: '  22: 0100007F:8FAA 0100007F:46A2 05 00000000:00000000 03:0000168E 00000000     0        0 0 3 00000000e61f56be',
      expected: '5 tx0 rx0 127.0.0.1#36778 127.0.0.1#18082 uid- inode0',
    },
    {
      name: 'SYN_RECV of an IPv4-mapped peer in tcp6 is folded to IPv4, with the uid of its listener',
      family: 6 as const,
      line: ' 4: 0000000000000000FFFF00000109090A:46A6 0000000000000000FFFF00004D09090A:A028 03 00000000:00000000 01:00000041 00000000 33 0 0 0 00000000c5a21eda',
      expected: '3 tx0 rx0 10.9.9.1#18086 10.9.9.77#41000 uid33 inode0',
    },
    {
      name: 'words of an IPv6 address are swapped each, in their order',
      family: 6 as const,
      line: ' 0: 010000FD030002000000000067450000:0016 00000000000000000000000001000000:0001 01 00000000:00000000 00:00000000 00000000 0 0 1 1 0 20 4 30 10 -1',
      expected: '1 tx0 rx0 fd00:1:2:3::4567#22 ::1#1 uid0 inode1',
    },
    {
      name: 'a full send queue and a large uid',
      family: 4 as const,
      line: '  20: 0100007F:8FA6 0100007F:46A2 01 0039B600:00000000 04:00000071 00000000 4294967294        0 371434 2 0000000097dc6907 20 0 0 16 -1',
      expected: '1 tx3782144 rx0 127.0.0.1#36774 127.0.0.1#18082 uid4294967294 inode371434',
    },
    {
      name: 'a state that the headers do not name is kept',
      family: 4 as const,
      line: ' 0: 0100007F:0050 0100007F:0051 0E 00000000:00000000 00:00000000 00000000 0 0 7 1 0',
      expected: 'e tx0 rx0 127.0.0.1#80 127.0.0.1#81 uid0 inode7',
    },
  ])('$name', ({ family, line, expected }) => {
    expect(parse(`${line}\n`, family)).toEqual({ rows: [expected], malformed: 0 });
  });

  test('a big-endian machine prints addresses as they are read', () => {
    const line = ' 0: 7F000001:0016 0A000001:D431 01 00000000:00000000 00:00000000 00000000 0 0 5 1 0\n';
    expect(parse(line, 4, false).rows).toEqual(['1 tx0 rx0 127.0.0.1#22 10.0.0.1#54321 uid0 inode5']);
  });

  test.each([
    ['no row at all', 'hello world'],
    ['an empty line', ''],
    ['a row cut inside the remote address', '   1: 0100007F:46A0 0000'],
    [
      'a row cut before the inode',
      '   1: 0100007F:46A0 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0   ',
    ],
    [
      'a digit that is not hexadecimal',
      '   1: 0100007G:46A0 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 371423 4',
    ],
    [
      'a uid above 32 bits',
      '   1: 0100007F:46A0 00000000:0000 0A 00000000:00000003 00:00000000 00000000 4294967296 0 371423 4',
    ],
    [
      'an inode that no double holds',
      '   1: 0100007F:46A0 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 99999999999999999999 4',
    ],
    ['a negative inode', '   1: 0100007F:46A0 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 -1 4'],
    [
      'an IPv6 address in an IPv4 table',
      '   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0',
    ],
  ])('%s is malformed, and costs only itself', (_, line) => {
    const good = ' 0: 0100007F:0016 0100007F:D431 01 00000000:00000000 00:00000000 00000000 0 0 5 1 0';
    const { rows, malformed } = parse(`${good}\n${line}\n${good}\n`, 4);
    expect({ rows: rows.length, malformed }).toEqual({ rows: 2, malformed: 1 });
  });

  test('text after the last newline waits for the next read', () => {
    const line = ' 0: 0100007F:0016 0100007F:D431 01 00000000:00000000 00:00000000 00000000 0 0 5 1 0\n';
    const bytes = Buffer.from(line + line.slice(0, 40));
    const rows = new SocketRows();
    expect(parseSocketRows(bytes, 0, bytes.length, 4, true, rows)).toBe(line.length);
    expect(rows.count).toBe(1);
  });

  test.each(TABLES)('every line of the recorded %s is a row', (table) => {
    const bytes = withoutHeader(recorded(table));
    const lines = bytes.toString('latin1').split('\n').length - 1;
    const { rows, malformed } = parse(bytes, table.endsWith('6') ? 6 : 4);
    expect({ rows: rows.length, malformed }).toEqual({ rows: lines, malformed: 0 });
  });

  test('never throws, and accounts for every line of any bytes', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 400 }),
      fc
        .tuple(fc.constant(withoutHeader(recorded('tcp'))), fc.nat(4400), fc.uint8Array({ minLength: 1, maxLength: 4 }))
        .map(([bytes, at, patch]) => {
          const torn = Buffer.from(bytes);
          torn.set(patch, Math.min(at, torn.length - patch.length));
          return new Uint8Array(torn);
        }),
    );
    fc.assert(
      fc.property(noise, fc.constantFrom(4 as const, 6 as const), fc.boolean(), (bytes, family, littleEndian) => {
        const rows = new SocketRows(1);
        const consumed = parseSocketRows(bytes, 0, bytes.length, family, littleEndian, rows);
        const newlines = bytes.subarray(0, consumed).filter((byte) => byte === 0x0a).length;
        expect(rows.count + rows.malformed).toBe(newlines);
        expect(bytes.subarray(consumed).includes(0x0a)).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('stateOf', () => {
  test.each([
    ['tcp', 0x07, 'closed'],
    ['udp', 0x07, 'unconnected'],
    ['udp6', 0x01, 'established'],
    ['raw', 0x07, 'unconnected'],
    ['tcp6', 0x0c, 'unknown'],
    ['tcp', 0x03, 'syn_received'],
  ] as const)('%s %i is %s', (table, code, expected) => {
    expect(stateOf(TABLES.indexOf(table), code)).toBe(expected);
  });
});
