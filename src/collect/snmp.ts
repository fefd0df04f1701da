/** The counters of /proc/PID/net/snmp and netstat by section and name, such as "Tcp" and "ActiveOpens". */
export type SnmpCounters = ReadonlyMap<string, ReadonlyMap<string, number>>;

/**
 * Parses /proc/PID/net/snmp or netstat: pairs of lines, the names of a section and then its values. Names and their order differ between
 * kernels, so values are keyed by name; a pair of lines that does not match is skipped.
 * Format: snmp_seq_show() and netstat_seq_show() in the kernel's net/ipv4/proc.c; the names are those of RFC 4293, 4022 and 4113.
 * With `only`, other sections and names are left out.
 */
export function parseSnmp(text: string, only?: ReadonlyMap<string, ReadonlySet<string>>): SnmpCounters {
  const sections = new Map<string, ReadonlyMap<string, number>>();
  const lines = text.split('\n');
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const line = lines[i] ?? '';
    const wanted = only?.get(line.slice(0, line.indexOf(':')));
    if (only && !wanted) continue;
    const [section = '', ...names] = line.split(' ');
    const [again, ...values] = (lines[i + 1] ?? '').split(' ');
    if (again !== section || names.length !== values.length || !section.endsWith(':')) continue;
    const counters = new Map<string, number>();
    for (const [at, name] of names.entries()) {
      if (wanted && !wanted.has(name)) continue;
      const value = Number(values[at]);
      if (Number.isFinite(value)) counters.set(name, value);
    }
    sections.set(section.slice(0, -1), counters);
  }
  return sections;
}

/** Parses /proc/PID/net/snmp6: lines of a name, blanks, a tab and a value; other lines are skipped. */
export function parseSnmp6(text: string): ReadonlyMap<string, number> {
  const counters = new Map<string, number>();
  for (const [, name = '', value] of text.matchAll(/^(\w+)[ \t]+(-?\d{1,20})$/gm)) counters.set(name, Number(value));
  return counters;
}
