import { readFileSync } from 'node:fs';
import type { Transport } from '../model.ts';

const LONGEST_NAME = 32;

/** The name of a service by its port, where it has one. */
export type ServiceNames = (transport: Transport, port: number) => string | null;

/**
 * Reads a services database (services(5)): "name port/protocol aliases…", comments from "#"; the first name of a port counts, and a
 * line that is none is passed over. UDP-Lite has the names of UDP, raw sockets have none.
 */
export function parseServices(text: string): ServiceNames {
  const names = new Map<string, string>();
  for (const [, name = '', port = '', protocol = ''] of text.matchAll(
    /^([\x21-\x22\x24-\x7e]+)[ \t]+(\d{1,5})\/(tcp|udp)(?![^\s#])/gm,
  ))
    if (name.length <= LONGEST_NAME && !names.has(`${protocol} ${Number(port)}`))
      names.set(`${protocol} ${Number(port)}`, name);
  return (transport, port) => names.get(`${transport === 'udplite' ? 'udp' : transport} ${port}`) ?? null;
}

/** The services database of this host; one without names where there is none. */
export function readServices(file = '/etc/services'): ServiceNames {
  try {
    return parseServices(readFileSync(file, 'latin1'));
  } catch {
    return () => null;
  }
}
