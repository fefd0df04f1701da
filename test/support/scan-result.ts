import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LiveScan, type ScanResult } from '../../src/cli/live-scan.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { parseConfig } from '../../src/config/config.ts';

const TREES = fileURLToPath(new URL('../fixtures/proc', import.meta.url));

/** The networks of the public addresses in the recorded trees, as a table for --asn.provider=tsv. */
const OPERATORS = [
  ['1.1.1.0', '1.1.1.255', '13335', 'US', 'CLOUDFLARENET'],
  ['8.8.8.0', '8.8.8.255', '15169', 'US', 'GOOGLE'],
  ['9.9.9.0', '9.9.9.255', '19281', 'CH', 'QUAD9-AS-1'],
  ['2001:4860::', '2001:4860:ffff:ffff:ffff:ffff:ffff:ffff', '15169', 'US', 'GOOGLE'],
];

/** Writes that table and a services database into a new folder. */
export function makeDatabases(): { folder: string; operators: string; services: string } {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-scan-'));
  const operators = join(folder, 'operators.tsv');
  writeFileSync(operators, OPERATORS.map((fields) => `${fields.join('\t')}\n`).join(''));
  const services = join(folder, 'services');
  writeFileSync(services, 'ssh 22/tcp\nhttps 443/tcp\npostgresql 5432/tcp\ndomain 53/udp\n');
  return { folder, operators, services };
}

/** What a look at a recorded tree sees. */
export async function scanTree(
  scenario: string,
  { operators, services }: { operators: string; services: string },
): Promise<ScanResult> {
  const flags = { 'path.procfs': join(TREES, scenario), 'asn.provider': 'tsv', 'asn.database': operators };
  const liveScan = await LiveScan.open(parseConfig(flags, {}, false), {
    names: 'services',
    services,
    ask: 'always',
    waitsForAnswers: true,
    clock: SYSTEM_CLOCK,
    random: () => 0,
    report: (line) => {
      throw new Error(line);
    },
  });
  const result = await liveScan.scan();
  await liveScan.close();
  return result;
}
