import { readFileSync } from 'node:fs';
import type { Transport } from '../model.ts';

const LONGEST_NAME = 32;

/** Returns the service name of a port, or null. */
export type ServiceNames = (transport: Transport, port: number) => string | null;

/**
 * Parses a services database (services(5)): "name port/protocol aliases…", with comments after "#". The first name of
 * a port wins. Invalid lines are skipped. UDP-Lite uses the names of UDP; raw sockets have none.
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

/** Reads the services database of this host. If there is none, no port has a name. */
export function readServices(file = '/etc/services'): ServiceNames {
  try {
    return parseServices(readFileSync(file, 'latin1'));
  } catch {
    return () => null;
  }
}
