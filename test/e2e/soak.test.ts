import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { whyNoNamespaces } from '../support/sockets/network.ts';

const SOAK = fileURLToPath(new URL('../../bench/soak.ts', import.meta.url));
const MINUTES = 2;

it(
  `an exporter scraped every second for ${MINUTES} minutes keeps its memory, series, descriptors and store within bounds`,
  { timeout: (MINUTES + 3) * 60_000 },
  ({ skip }) => {
    const obstacle = whyNoNamespaces();
    if (obstacle !== null) process.stderr.write(`SKIPPED: soak: ${obstacle}\n`);
    skip(obstacle !== null, obstacle ?? '');
    const { status, stdout, stderr } = spawnSync(process.execPath, [SOAK, `--minutes=${MINUTES}`], {
      encoding: 'utf8',
    });
    process.stderr.write(stdout.slice(stdout.indexOf('| after the warm-up')));
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  },
);
