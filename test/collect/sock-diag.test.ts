import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NO_UID, parseSocketRows, SocketRows } from '../../src/collect/net-tcp-udp-raw.ts';
import { DiagRows, EndedSockets, parseDump, parseEnded, parseNsid } from '../../src/collect/sock-diag.ts';
import {
  attribute,
  doneMessage,
  joined,
  netlinkMessage,
  socketMessage,
  type DiagSocket,
} from '../support/diag-messages.ts';
import { expectedOf, receivedOf, type Ending } from '../support/endings.ts';
import { rowsInWords } from '../support/socket-words.ts';

const fixture = (name: string): string =>
  readFileSync(new URL(`../fixtures/sock-diag/${name}`, import.meta.url), 'utf8');

const dumped = (bytes: Uint8Array, family: 4 | 6 = 4, littleEndian = true): DiagRows => {
  const rows = new DiagRows(1);
  parseDump(bytes, family, littleEndian, rows);
  return rows;
};
const ended = (bytes: Uint8Array, littleEndian = true): EndedSockets => {
  const rows = new EndedSockets(1);
  parseEnded(bytes, littleEndian, 7, 1234.5, rows);
  return rows;
};
const totals = (rows: DiagRows, i = 0): (number | undefined)[] => [
  rows.hasTotals[i],
  rows.sentBytes[i],
  rows.receivedBytes[i],
  rows.retransmittedBytes[i],
  rows.roundTripUs[i],
  rows.minRoundTripUs[i],
];

const SENT: DiagSocket = {
  roundTripUs: 40,
  minRoundTripUs: 30,
  bytesReceived: 500n,
  bytesSent: 1_200n,
  bytesRetrans: 200n,
};

describe('parseDump', () => {
  const recorded = JSON.parse(fixture('dump.json')) as Record<'tcp' | 'tcp6', string[]> & {
    text: Record<'tcp' | 'tcp6', string>;
  };

  test.each(['tcp', 'tcp6'] as const)('gives the rows of the text of %s', (table) => {
    const family = table === 'tcp' ? 4 : 6;
    const rows = new DiagRows(1);
    for (const datagram of recorded[table]) parseDump(Buffer.from(datagram, 'hex'), family, true, rows);
    const text = new SocketRows();
    const bytes = Buffer.from(recorded.text[table].replace(/^.*\n/, ''));
    parseSocketRows(bytes, 0, bytes.length, family, true, text);
    // SYN_RECV has the user of the listener in the text, and none in a dump.
    const expected = rowsInWords(text).map((row) => (row.startsWith('3 ') ? row.replace(/uid\S+/, 'uid-') : row));
    expect(rowsInWords(rows)).toEqual(expected.sort());
    expect(rows).toMatchObject({ malformed: 0, isComplete: true, isInterrupted: false, errno: 0 });
    expect(rows.count).toBeGreaterThan(8);
  });

  test.each([
    { name: 'no tcp_info (TIME_WAIT)', infoLength: null, expected: [0, 0, 0, 0, 0, 0] },
    { name: 'tcp_info of Linux 2.6', infoLength: 104, expected: [0, 0, 0, 0, 40, 0] },
    { name: 'tcp_info of Linux 4.9', infoLength: 192, expected: [0, 0, 0, 0, 40, 30] },
    { name: 'tcp_info that ends before bytes_retrans', infoLength: 208, expected: [0, 0, 0, 0, 40, 30] },
    { name: 'tcp_info of Linux 4.19', infoLength: 224, expected: [1, 1_000, 500, 200, 40, 30] },
    { name: 'tcp_info of Linux 6.18', infoLength: 280, expected: [1, 1_000, 500, 200, 40, 30] },
  ])('$name', ({ infoLength, expected }) => {
    expect(totals(dumped(socketMessage({ ...SENT, infoLength })))).toEqual(expected);
  });

  test.each([
    { name: 'ESTABLISHED', state: 1, received: 500 },
    { name: 'FIN_WAIT2', state: 5, received: 500 },
    { name: 'CLOSE_WAIT', state: 8, received: 499 },
    { name: 'LAST_ACK', state: 9, received: 499 },
    { name: 'CLOSING', state: 11, received: 499 },
  ])('bytes received in $name do not count the FIN', ({ state, received }) => {
    expect(dumped(socketMessage({ ...SENT, state })).receivedBytes[0]).toBe(received);
  });

  test('a listener has its waiting connections, and neither a send queue nor totals', () => {
    const rows = dumped(socketMessage({ ...SENT, state: 10, receiveQueue: 3, sendQueue: 128, inode: 5, uid: 33 }));
    expect(rowsInWords(rows)).toEqual(['a tx0 rx3 0.0.0.0#0 0.0.0.0#0 uid33 inode5']);
    expect(totals(rows).slice(0, 4)).toEqual([0, 0, 0, 0]);
  });

  test.each([
    { name: 'TIME_WAIT', socket: { state: 6, timer: 3 } },
    { name: 'FIN_WAIT2 kept as TIME_WAIT', socket: { state: 5, timer: 3 } },
    { name: 'SYN_RECV', socket: { state: 3, timer: 1 } },
  ])('$name has no uid', ({ socket }) => {
    expect(dumped(socketMessage(socket)).uid[0]).toBe(NO_UID);
  });

  test('an orphan has the uid that the kernel gives', () => {
    expect(dumped(socketMessage({ state: 4, uid: 0, inode: 0 })).uid[0]).toBe(0);
  });

  test('a round trip that was never measured is unknown', () => {
    expect(dumped(socketMessage({ minRoundTripUs: 0xffffffff })).minRoundTripUs[0]).toBe(0);
  });

  test.each([
    ['a cookie that no double holds', socketMessage({ cookie: 2n ** 53n })],
    ['no cookie', socketMessage({ cookie: 2n ** 64n - 1n })],
    ['another family', socketMessage({ family: 10 })],
    ['an unknown type', netlinkMessage(99, new Uint8Array(72))],
    ['a message cut inside the row', netlinkMessage(20, new Uint8Array(71))],
    ['an attribute without a length', netlinkMessage(20, joined(new Uint8Array(72).fill(2, 0, 1), new Uint8Array(4)))],
    [
      'an attribute that ends after its message',
      netlinkMessage(20, joined(new Uint8Array(72).fill(2, 0, 1), Uint8Array.of(200, 0, 2, 0))),
    ],
    [
      'another protocol',
      netlinkMessage(20, joined(new Uint8Array(72).fill(2, 0, 1), attribute(10, Uint8Array.of(17)))),
    ],
  ])('%s is malformed, and costs only itself', (_, bad) => {
    const rows = dumped(joined(socketMessage({}), bad, socketMessage({}), doneMessage()));
    expect([rows.count, rows.malformed, rows.isComplete]).toEqual([2, 1, true]);
  });

  test.each([
    ['a length of 0', new Uint8Array(20)],
    ['a length beyond the datagram', Uint8Array.of(0xff, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['half a header', new Uint8Array(7)],
  ])('%s ends the datagram as malformed', (_, bad) => {
    const rows = dumped(joined(socketMessage({}), bad));
    expect([rows.count, rows.malformed, rows.isComplete]).toEqual([1, 1, false]);
  });

  test.each([
    { name: 'done', bytes: doneMessage(), expected: { isComplete: true, errno: 0, isInterrupted: false } },
    { name: 'done with an error', bytes: doneMessage(-2), expected: { isComplete: true, errno: 2 } },
    {
      name: 'an error',
      bytes: netlinkMessage(2, Uint8Array.of(0xfe, 0xff, 0xff, 0xff)),
      expected: { isComplete: true, errno: 2 },
    },
    { name: 'a row', bytes: socketMessage({}), expected: { isComplete: false } },
    { name: 'NOOP', bytes: netlinkMessage(1, new Uint8Array(0)), expected: { isComplete: false, malformed: 0 } },
    {
      name: 'a row of an interrupted dump',
      bytes: socketMessage({}, true, 0x10),
      expected: { isComplete: false, isInterrupted: true, count: 1 },
    },
  ])('$name', ({ bytes, expected }) => {
    const rows = dumped(bytes);
    expect(rows).toMatchObject(expected);
    rows.clear();
    expect(rows).toMatchObject({ count: 0, isComplete: false, isInterrupted: false, errno: 0, malformed: 0 });
  });

  test('both byte orders give the same rows', () => {
    const word = fc.nat({ max: 0xffffffff });
    const long = fc.bigInt({ min: 0n, max: 2n ** 53n - 1n });
    const port = fc.nat({ max: 65_535 });
    const addresses = fc.array(word, { minLength: 4, maxLength: 4 });
    const socket = fc.record({
      ...{ family: fc.constant(10), state: fc.integer({ min: 1, max: 12 }), localPort: port, remotePort: port },
      ...{ local: addresses, remote: addresses, cookie: long, receiveQueue: word, sendQueue: word, uid: word },
      ...{ inode: word, infoLength: fc.nat({ max: 280 }), roundTripUs: word, minRoundTripUs: word },
      ...{ bytesReceived: long, bytesSent: long, bytesRetrans: long },
    });
    fc.assert(
      fc.property(socket, (one) => {
        const [little, big] = [true, false].map((order) => dumped(socketMessage(one, order), 6, order));
        expect(little).toEqual(big);
        expect(little?.count).toBe(1);
        expect(little?.cookie[0]).toBe(Number(one.cookie));
      }),
    );
  });

  test('rows keep their values when the columns grow', () => {
    const rows = dumped(joined(...Array.from({ length: 50 }, (_, i) => socketMessage({ ...SENT, inode: i + 1 }))));
    expect(Array.from(rows.inode.subarray(0, 50))).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    expect(totals(rows, 0)).toEqual(totals(rows, 49));
  });
});

describe('parseEnded', () => {
  const endings = fixture('endings.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Ending);

  test.each(endings)('payload of the $side: $name', (ending) => {
    for (const knowsPeer of [false, true])
      expect(receivedOf(ending, { knowsPeer })).toEqual(expectedOf(ending, { knowsPeer }));
  });

  test.each([
    { name: 'SO_LINGER 0', side: 'server' as const, isWiped: true },
    { name: 'SO_LINGER 0', side: 'client' as const, isWiped: false },
    { name: 'no data', side: 'server' as const, isWiped: false },
  ])('whether the totals of the $side were discarded: $name', ({ name, side, isWiped }) => {
    const ending = endings.find((one) => one.name === name && one.side === side);
    const rows = ended(Buffer.from(ending?.event ?? '', 'hex'));
    expect([rows.count, rows.hasTotals[0], rows.isWiped(0)]).toEqual([1, 1, isWiped]);
  });

  test('an event has its table, namespace and time, and no user', () => {
    const rows = ended(joined(socketMessage({ state: 7 }), socketMessage({ state: 7, family: 10 })));
    expect(Array.from(rows.table.subarray(0, 2))).toEqual([0, 1]);
    expect([rows.nsid[1], rows.receivedAt[1], rows.uid[1], rows.inode[1]]).toEqual([7, 1234.5, NO_UID, 0]);
  });

  test('what is not an event is malformed, and costs only itself', () => {
    const bad = [socketMessage({ family: 1 }), doneMessage(), socketMessage({ cookie: 2n ** 60n })];
    const rows = ended(joined(socketMessage({}), ...bad, socketMessage({})));
    expect([rows.count, rows.malformed]).toEqual([2, 3]);
  });
});

describe('parseNsid', () => {
  const reply = (nsid: number, littleEndian = true): Uint8Array => {
    const value = new Uint8Array(4);
    new DataView(value.buffer).setInt32(0, nsid, littleEndian);
    return netlinkMessage(88, joined(new Uint8Array(4), attribute(1, value, littleEndian)), { littleEndian });
  };

  test.each([
    { name: 'a namespace with a number', bytes: reply(3), expected: 3 },
    { name: 'namespace 0', bytes: reply(0), expected: 0 },
    { name: 'a namespace without a number', bytes: reply(-1), expected: null },
    { name: 'an error', bytes: netlinkMessage(2, new Uint8Array(20)), expected: null },
    { name: 'no attribute', bytes: netlinkMessage(88, new Uint8Array(4)), expected: null },
    {
      name: 'an attribute of length 0',
      bytes: netlinkMessage(88, new Uint8Array(8)),
      expected: null,
    },
    { name: 'nothing', bytes: new Uint8Array(0), expected: null },
  ])('$name', ({ bytes, expected }) => {
    expect(parseNsid(bytes, true)).toBe(expected);
  });

  test('on a big-endian machine', () => {
    expect(parseNsid(reply(258, false), false)).toBe(258);
  });
});

test('no bytes make a parser throw, or give more rows than messages fit', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), fc.boolean(), (bytes, littleEndian) => {
      const most = bytes.length / 16 + 1;
      for (const family of [4, 6] as const) {
        const rows = dumped(bytes, family, littleEndian);
        expect(rows.count + rows.malformed).toBeLessThanOrEqual(most);
      }
      const rows = ended(bytes, littleEndian);
      expect(rows.count + rows.malformed).toBeLessThanOrEqual(most);
      parseNsid(bytes, littleEndian);
    }),
  );
});
