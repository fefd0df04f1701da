import type { Log } from '../../common/log.ts';
import type { Change } from './list-watch.ts';
import type { Pod } from './pods.ts';

/** Known values. Pods choose their annotations, so the memory must be bounded; the oldest are dropped first. */
const CAPACITY = 10_000;

/** A value of `what` that pods of a workload declare as normal. */
export interface Declaration {
  readonly namespace: string;
  readonly workload: string;
  readonly what: string;
}

/** Logs each new value of the annotation `peerscope.dev/expects` once per workload, and each value that is ignored. */
export class ExpectsLog {
  readonly #log: Pick<Log, 'info' | 'warn'>;
  readonly #known = new Set<string>();
  /** The values that were ignored since the start. */
  ignored = 0;

  constructor(log: Pick<Log, 'info' | 'warn'>) {
    this.#log = log;
  }

  /** Takes in a change of pods. Returns the values that are new. */
  accept(change: Change<Pod>): Declaration[] {
    if (change.kind === 'delete') return [];
    return (change.kind === 'replace' ? change.items : [change.item]).flatMap((pod) => this.#read(pod));
  }

  #read({ namespace, workload, name: pod, expects }: Pod): Declaration[] {
    if (!expects) return [];
    const isNew = (text: string): boolean => this.#remember(JSON.stringify([namespace, workload, text]));
    for (const reason of expects.problems.filter(isNew)) {
      this.ignored++;
      this.#log.warn({ namespace, workload, pod, reason }, 'a value of an annotation is ignored');
    }
    const values = expects.values.filter(isNew);
    if (values.length > 0)
      this.#log.info({ namespace, workload, pod, what: values.join(', ') }, 'an annotation declares what is normal');
    return values.map((what) => ({ namespace, workload, what }));
  }

  /** Returns false if the key is known. */
  #remember(key: string): boolean {
    if (this.#known.has(key)) return false;
    const [oldest = ''] = this.#known;
    if (this.#known.size >= CAPACITY) this.#known.delete(oldest);
    this.#known.add(key);
    return true;
  }
}
