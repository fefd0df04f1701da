import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { events, filter, parse, scan, type ConnectionEvent } from '../src/index.ts';
import { runHere } from './support/main.ts';

const PROC = fileURLToPath(new URL('fixtures/proc/plain-host', import.meta.url));
const text = readFileSync(new URL('fixtures/text/ss-tunap.out', import.meta.url));

describe('the library', () => {
  it('scan returns the rows of list', async () => {
    const { stdout } = await runHere(['list', '-o', 'json', '--asn.provider=none', `--path.procfs=${PROC}`]);
    expect(await scan({ procfs: PROC })).toEqual(JSON.parse(stdout));
  });

  it('filter selects rows', async () => {
    const rows = await scan({ procfs: PROC });
    const listeners = rows.filter(filter('state=listen', 'transport=tcp'));
    expect(listeners).toEqual(rows.filter((row) => row.state === 'listen' && row.transport === 'tcp'));
    expect(listeners.length).toBeGreaterThan(0);
    expect(rows.filter(filter())).toEqual(rows);
    expect(() => filter('state=open')).toThrow('Cannot use filter "state=open"');
  });

  it('parse accepts text and bytes in any supported encoding', () => {
    const expected = parse(text.toString());
    expect(expected).toMatchObject({ dialect: 'ss', malformed: [], warnings: [], counts: { row: 28, header: 1 } });
    expect(parse(text)).toEqual(expected);
    expect(parse(Buffer.from(text.toString(), 'utf16le'))).toEqual(expected);
    expect(parse('')).toMatchObject({ dialect: null, rows: [] });
  });

  it('scan rejects an unreadable procfs', async () => {
    await expect(scan({ procfs: '/nowhere' })).rejects.toThrow(/^Cannot read procfs "\/nowhere": /);
  });

  it.each([0, -1, NaN, Infinity, 2 ** 31])('events rejects an interval of %d ms', async (intervalMs) => {
    await expect(events({ intervalMs }).next()).rejects.toThrow(
      new RangeError(`Cannot use intervalMs ${intervalMs}: must be from 10 to 3600000`),
    );
  });

  it('events reports changes until the signal', async ({ skip }) => {
    skip(process.platform !== 'linux', 'needs procfs');
    const interruption = new AbortController();
    const { signal } = interruption;
    const isOwn = filter(`pid=${process.pid}`);
    const seen: ConnectionEvent[] = [];
    const server = createServer();
    let port = 0;
    const opening = setInterval(() => {
      if (!server.listening) server.listen(0, '127.0.0.1');
    }, 50);
    void once(server, 'listening').then(() => (port = (server.address() as AddressInfo).port));
    for await (const event of events({ intervalMs: 20, signal })) {
      if (!isOwn(event) || event.local_port !== port) continue;
      seen.push(event);
      clearInterval(opening);
      if (event.event === 'opened') server.close();
      else interruption.abort();
    }
    expect(seen.map(({ event, state }) => [event, state])).toEqual([
      ['opened', 'listen'],
      ['closed', 'listen'],
    ]);
  });
});
