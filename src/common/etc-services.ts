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

/** Returns the port of a service by its name or an alias, or null. Without a transport, TCP and UDP must agree. */
export type ServicePorts = (transport: Transport | null, name: string) => number | null;

/** Parses a services database for the other direction. A name wins over an alias, and the first line of equal names over the others. */
export function parseServicePorts(text: string): ServicePorts {
  const names = new Map<string, number>();
  const aliases = new Map<string, number>();
  const add = (ports: Map<string, number>, key: string, port: number): void => {
    if (!ports.has(key)) ports.set(key, port);
  };
  for (const [, name = '', digits = '', protocol = '', others = ''] of text.matchAll(
    /^([\x21-\x22\x24-\x7e]+)[ \t]+(\d{1,5})\/(tcp|udp)(?![^\s#])([^#\n]*)/gm,
  )) {
    if (Number(digits) > 65_535) continue;
    add(names, `${protocol} ${name}`, Number(digits));
    for (const [alias] of others.matchAll(/\S+/g)) add(aliases, `${protocol} ${alias}`, Number(digits));
  }
  const find = (protocol: string, name: string): number | null =>
    names.get(`${protocol} ${name}`) ?? aliases.get(`${protocol} ${name}`) ?? null;
  return (transport, name) => {
    if (transport !== null) return find(transport === 'udplite' ? 'udp' : transport, name);
    const [tcp, udp] = [find('tcp', name), find('udp', name)];
    return tcp === null || udp === null || tcp === udp ? (tcp ?? udp) : null;
  };
}

/** Reads the services database of this host. If there is none, no name has a port. */
export function readServicePorts(file = '/etc/services'): ServicePorts {
  try {
    return parseServicePorts(readFileSync(file, 'latin1'));
  } catch {
    return () => null;
  }
}
