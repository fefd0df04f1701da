import { cidrContains, parseAddress, parseCidr } from '../common/address.ts';
import { classify } from '../common/network-class.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Returns the URL of the HTTP proxy that the environment sets for a URL: HTTPS_PROXY or HTTP_PROXY, lower case first,
 * unless NO_PROXY lists the host. Null without one. Loopback addresses are never proxied. `refuse` receives the name of
 * a variable that is not an HTTP URL.
 */
export function proxyFor(url: string, environment: Environment, refuse: (variable: string) => void): string | null {
  const { protocol, hostname, port } = new URL(url);
  const name = protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const variable = [name, name.toUpperCase()].find((variable) => environment[variable]?.trim());
  const noProxy = environment['no_proxy'] || environment['NO_PROXY'] || '';
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (variable === undefined || isDirect(host, port || (protocol === 'https:' ? '443' : '80'), noProxy)) return null;
  const text = environment[variable]?.trim() ?? '';
  const proxy = text.includes('://') ? text : `http://${text}`;
  if (/^https?:\/\/[^/]/i.test(proxy) && URL.canParse(proxy)) return proxy;
  refuse(variable);
  return null;
}

/** Entries of NO_PROXY: a host with its subdomains, ".domain", "*.domain", an address, a block, or "*"; also with a port. */
function isDirect(host: string, port: string, noProxy: string): boolean {
  const address = parseAddress(host);
  if (host === 'localhost' || (address && classify(address).network === 'loopback')) return true;
  return noProxy.split(/[\s,]+/).some((entry) => {
    if (entry === '*') return true;
    const block = parseCidr(entry.replace(/^\[(.*)\]$/, '$1'));
    if (block) return address !== undefined && cidrContains(block, address);
    const [, listed = '', listedPort = port] = /^(.*?)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
    const domain = listed.replace(/^\[(.*)\]$/, '$1').replace(/^\*?\./, '');
    return domain !== '' && listedPort === port && (host === domain || (!address && host.endsWith(`.${domain}`)));
  });
}
