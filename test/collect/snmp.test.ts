import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseSnmp, parseSnmp6 } from '../../src/collect/snmp.ts';

const NET = new URL('../fixtures/proc/states/26038/net/', import.meta.url);
const recorded = (name: string): string => readFileSync(new URL(name, NET), 'latin1');

/** Sections as plain objects, so that a difference is shown whole. */
function sections(text: string): Record<string, Record<string, number>> {
  return Object.fromEntries([...parseSnmp(text)].map(([name, counters]) => [name, Object.fromEntries(counters)]));
}

describe('snmp and netstat', () => {
  test.each<{ name: string; input: string; expected: Record<string, Record<string, number>> }>([
    { name: 'an empty file has no section', input: '', expected: {} },
    {
      name: 'a value goes by the name above it',
      input: 'Tcp: ActiveOpens PassiveOpens\nTcp: 7 9\n',
      expected: { Tcp: { ActiveOpens: 7, PassiveOpens: 9 } },
    },
    {
      name: 'MaxConn is -1 where the number of connections has no limit',
      input: 'Tcp: MaxConn ActiveOpens\nTcp: -1 7\n',
      expected: { Tcp: { MaxConn: -1, ActiveOpens: 7 } },
    },
    {
      name: 'there may be several sections, and names that only one kernel has',
      input: 'Tcp: ActiveOpens\nTcp: 7\nMPTcpExt: MPCapableSYNRX\nMPTcpExt: 1\n',
      expected: { Tcp: { ActiveOpens: 7 }, MPTcpExt: { MPCapableSYNRX: 1 } },
    },
    { name: 'a file that was cut after the names has no values', input: 'Tcp: ActiveOpens\n', expected: {} },
    { name: 'a line that was cut is left out', input: 'Tcp: ActiveOpens PassiveOpens\nTcp: 7\n', expected: {} },
    { name: 'values of another section are left out', input: 'Tcp: ActiveOpens\nUdp: 7\n', expected: {} },
    {
      name: 'a value that is no number is left out alone',
      input: 'Tcp: ActiveOpens PassiveOpens\nTcp: x 9\n',
      expected: { Tcp: { PassiveOpens: 9 } },
    },
  ])('$name', ({ input, expected }) => expect(sections(input)).toEqual(expected));

  test('of a recorded namespace', () => {
    const snmp = sections(recorded('snmp'));
    expect(Object.keys(snmp)).toEqual(['Ip', 'Icmp', 'Tcp', 'Udp', 'UdpLite']);
    expect(snmp['Tcp']?.['MaxConn']).toBe(-1);
    const published = [snmp['Tcp']?.['ActiveOpens'], snmp['Tcp']?.['RetransSegs'], snmp['Udp']?.['RcvbufErrors']];
    const { TcpExt } = sections(recorded('netstat'));
    expect([...published, TcpExt?.['ListenOverflows']].filter((value) => value === undefined)).toEqual([]);
  });

  test('never throws on any text, and every value is a finite number', () => {
    const word = fc.oneof(fc.constantFrom('Tcp:', 'Udp:', '1', '-1', 'x', '1e999', '', ' ', '\n'), fc.string());
    fc.assert(
      fc.property(fc.array(word), (words) => {
        const values = [...parseSnmp(words.join(' ')).values()].flatMap((counters) => [...counters.values()]);
        expect(values.filter((value) => !Number.isFinite(value))).toEqual([]);
      }),
    );
  });

  test('what is printed in the format of the kernel is parsed again', () => {
    const name = fc.stringMatching(/^[A-Z][A-Za-z0-9]{0,20}$/);
    const counters = fc.dictionary(name, fc.maxSafeInteger(), { minKeys: 1, noNullPrototype: true });
    fc.assert(
      fc.property(fc.dictionary(name, counters, { noNullPrototype: true }), (expected) => {
        const text = Object.entries(expected)
          .map(([section, values]) => {
            return `${section}: ${Object.keys(values).join(' ')}\n${section}: ${Object.values(values).join(' ')}\n`;
          })
          .join('');
        expect(sections(text)).toEqual(expected);
      }),
    );
  });
});

describe('snmp6', () => {
  test.each<{ name: string; input: string; expected: Record<string, number> }>([
    { name: 'an empty file has no counter', input: '', expected: {} },
    {
      name: 'a name, blanks, a tab and a value',
      input: 'Udp6InDatagrams                 \t12\nUdp6RcvbufErrors                \t3\n',
      expected: { Udp6InDatagrams: 12, Udp6RcvbufErrors: 3 },
    },
    {
      name: 'a line that was cut is left out',
      input: 'Udp6InDatagrams\nUdp6RcvbufErrors \t3\n',
      expected: { Udp6RcvbufErrors: 3 },
    },
    {
      name: 'a value longer than any of 64 bits is left out',
      input: `Udp6RcvbufErrors \t${'9'.repeat(400)}\nUdp6NoPorts \t18446744073709551615\n`,
      expected: { Udp6NoPorts: 2 ** 64 },
    },
  ])('$name', ({ input, expected }) => expect(Object.fromEntries(parseSnmp6(input))).toEqual(expected));

  test('of a recorded namespace', () => {
    expect(Object.fromEntries(parseSnmp6(recorded('snmp6')))).toMatchObject({ Udp6RcvbufErrors: 0 });
  });

  test('never throws on any text', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '1', '-', ' ', '\t', '\n') }),
        (text) => void parseSnmp6(text),
      ),
    );
  });
});
