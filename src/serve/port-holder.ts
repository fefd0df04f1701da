import { openSource } from '../collect/host.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { ROW_COLLECTORS, rowsOf } from '../rows/row.ts';
import { Scrape } from '../scrape.ts';

/** The process that listens on a TCP port, as "name/pid"; null if it cannot be found. */
export async function portHolder(port: number, config: Config): Promise<string | null> {
  try {
    const source = await openSource(config.source, config.procfs);
    const options = { ...config, collectors: ROW_COLLECTORS, services: () => null };
    const scrape = new Scrape(source, options, SYSTEM_CLOCK, null);
    scrape.scanRows(true);
    const row = rowsOf(scrape).find(
      ({ transport, state, local_port, pid }) =>
        transport === 'tcp' && state === 'listen' && local_port === port && pid !== null,
    );
    return row ? `${row.process ?? 'process'}/${row.pid}` : null;
  } catch {
    return null;
  }
}
