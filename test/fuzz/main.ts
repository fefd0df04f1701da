/** `npm run fuzz`: feeds damaged recordings to every parser until one fails. CONTRIBUTING.md describes the next steps. */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { TARGETS as PARSERS, type Target } from './parsers.ts';
import { TREE_TARGETS } from './trees.ts';

const TARGETS = [...PARSERS, ...TREE_TARGETS];

const USAGE = `usage: npm run fuzz -- [--cases 20000] [--seed N] [--only NAME]

What it may feed:
${TARGETS.map(({ name }) => `  ${name}\n`).join('')}`;

interface Plan {
  readonly cases: number;
  readonly seed: number;
  readonly targets: readonly Target[];
}

function parsePlan(): Plan {
  const { values } = parseArgs({
    options: { cases: { type: 'string', default: '20000' }, seed: { type: 'string' }, only: { type: 'string' } },
  });
  const cases = Number(values.cases);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
  const targets = TARGETS.filter(({ name }) => values.only === undefined || name === values.only);
  if (!Number.isSafeInteger(cases) || cases < 1 || !Number.isSafeInteger(seed) || targets.length === 0)
    throw new TypeError('Cannot run: --cases and --seed must be whole numbers, --only one of the names');
  return { cases, seed, targets };
}

/** Resolves with null, or with the smallest input that breaks the parser, and how. */
async function feed({ input, check, cost = 1 }: Target, { cases, seed }: Plan): Promise<string | null> {
  const property = fc.asyncProperty(input, async (fed) => check(fed as never));
  const { failed, counterexample, errorInstance } = await fc.check(property, {
    numRuns: Math.ceil(cases / cost),
    seed,
  });
  return failed ? `${JSON.stringify(counterexample?.[0])}\n  ${String(errorInstance)}` : null;
}

async function main(): Promise<number> {
  const plan = parsePlan();
  let broken = 0;
  process.stdout.write(`${plan.cases} cases each, fewer of slow ones, --seed ${plan.seed}\n`);
  for (const target of plan.targets) {
    const before = performance.now();
    const failure = await feed(target, plan);
    if (failure !== null) broken++;
    const seconds = ((performance.now() - before) / 1000).toFixed(1);
    process.stdout.write(`${failure === null ? 'held' : 'BROKE'} ${target.name} (${seconds} s)\n`);
    if (failure !== null) process.stdout.write(`  ${failure}\n`);
  }
  return broken > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  process.stderr.write(`${error.message}\n${USAGE}`);
  process.exitCode = 2;
}
