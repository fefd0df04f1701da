import { spawnSync } from 'node:child_process';
import { mainOfExporter } from './exporter.ts';
import { Load } from './load.ts';
import type { Add, Plan } from './parts.ts';

const PROCESSES = 50;
const SIZES = [1_000, 50_000];

/** Measures `list`, `ss -tunap` and an idle Node.js from start to exit, in turns. */
export async function list({ rounds }: Plan, add: Add): Promise<void> {
  const contenders = {
    ss: ['ss', '-tunap'],
    list: [process.execPath, mainOfExporter(), 'list', '--asn.provider=none'],
    node: [process.execPath, '--eval', ''],
  } as const;
  for (const rows of SIZES) {
    const load = await Load.start(rows, PROCESSES);
    const took: Record<keyof typeof contenders, number[]> = { ss: [], list: [], node: [] };
    for (let round = 0; round <= rounds; round++)
      for (const [name, [command, ...args]] of Object.entries(contenders))
        took[name as keyof typeof contenders].push(wallMsOf(command, args));
    const ss = took.ss.slice(1);
    const ratio = took.list.slice(1).map((ms, i) => ms / (ss[i] ?? NaN));
    add(
      { rows, measure: 'ss -tunap, start to end', unit: 'ms', values: ss },
      { rows, measure: 'list, start to end', unit: 'ms', values: took.list.slice(1) },
      { rows, measure: 'Node that does nothing, start to end', unit: 'ms', values: took.node.slice(1) },
      { rows, measure: 'list ÷ ss -tunap', unit: 'ratio', values: ratio, atMost: rows > 1_000 ? 1 : 2.5 },
    );
    await load.end();
  }
}

function wallMsOf(command: string, args: readonly string[]): number {
  const begun = performance.now();
  const { status } = spawnSync(command, args, { stdio: 'ignore' });
  if (status !== 0) throw new Error(`Cannot run "${command}": status ${status}`);
  return performance.now() - begun;
}
