// The test of the release: asks every exporter behind the name whether it is ready.
import { lookup } from 'node:dns/promises';
import { get as getHttp } from 'node:http';
import { get as getHttps } from 'node:https';

const [name, port, scheme] = process.argv.slice(-3);
const get = scheme === 'https' ? getHttps : getHttp;
const statusOf = (host) =>
  new Promise((resolve) => {
    // As the kubelet does, it does not check the certificate.
    const options = { host, port, path: '/-/ready', timeout: 10_000, rejectUnauthorized: false };
    const request = get(options, (response) => {
      response.resume();
      resolve(`status ${response.statusCode}`);
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 10 s')));
    request.on('error', (error) => resolve(error.message));
  });

const addresses = await lookup(name, { all: true }).catch(() => []);
const statuses = await Promise.all(addresses.map(({ address }) => statusOf(address)));
const ready = statuses.filter((status) => status === 'status 200').length;
for (const [i, { address }] of addresses.entries())
  if (statuses[i] !== 'status 200') console.error(`Cannot use the exporter at ${address}: ${statuses[i]}`);
if (addresses.length === 0) console.error(`Cannot find an exporter: ${name} has no address`);
else console.log(`${ready} of ${addresses.length} exporters are ready`);
process.exitCode = addresses.length > 0 && ready === addresses.length ? 0 : 1;
