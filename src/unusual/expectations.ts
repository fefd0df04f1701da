import type { ExpectedRule, SuspectList } from '../model.ts';
import type { Owner } from './evidence.ts';
import { operatorWhat } from './grammar/what.ts';

/** What the configuration says about unusual connections. */
export interface ExpectationRules {
  readonly expected: readonly ExpectedRule[];
  readonly suspects: readonly SuspectList[];
}

/** What is declared normal by the configuration and by annotations of pods, and which operators are suspect. */
export class Expectations {
  /** Values of `what` that the pods of a workload declare. */
  readonly #declaredBy: (namespace: string, workload: string) => ReadonlySet<string>;
  #expected: ReadonlyMap<string, readonly ExpectedRule[]> = new Map();
  #suspects: ReadonlySet<string> = new Set();
  /** Their companies. */
  #suspectWhats: ReadonlySet<string> = new Set();

  constructor(
    rules: ExpectationRules,
    declaredBy: (namespace: string, workload: string) => ReadonlySet<string> = () => new Set(),
  ) {
    this.#declaredBy = declaredBy;
    this.adopt(rules);
  }

  /** Replaces the rules of the configuration. */
  adopt({ expected, suspects }: ExpectationRules): void {
    this.#expected = Map.groupBy(expected, keyOf);
    this.#suspects = new Set(suspects.flatMap(({ operators }) => operators));
    this.#suspectWhats = new Set([...this.#suspects].map((operator) => operatorWhat(Number(operator.slice(2)))));
  }

  /** Whether a canonical value of `what` is declared normal for a workload at a time, in milliseconds since 1970. */
  isExpected(owner: Owner, what: string, at: number): boolean {
    const isListed = this.#expected
      .get(keyOf(owner))
      ?.some((rule) => (rule.until === null || at < rule.until) && rule.what.includes(what));
    return isListed === true || this.#declaredBy(owner.namespace, owner.workload).has(what);
  }

  /** AS numbers as in `AS64500`. */
  suspects(): ReadonlySet<string> {
    return this.#suspects;
  }

  /** Whether a canonical value of `what` is a suspect operator, or the company of one. */
  isSuspect(what: string): boolean {
    return this.#suspectWhats.has(what);
  }
}

function keyOf({ namespace, workload }: Owner): string {
  return JSON.stringify([namespace, workload]);
}
