import type { OwnerLabels } from '../model.ts';
import type { ScanData } from './scan-data.ts';

/** Owners that are gone but may still be exported. */
const MAX_GONE = 10_000;

/** Which tenant the connections of an owner are of: of the current scan, else of an earlier one. */
export class TenantsOfOwners {
  /** By owner, the one that was seen last at the end. */
  readonly #tenants = new Map<string, string>();
  readonly #present = new Set<string>();

  update({ groups }: Pick<ScanData, 'groups'>): void {
    this.#present.clear();
    let last: OwnerLabels | null = null;
    for (const { owner, tenant } of groups) {
      // The groups of an owner follow each other.
      if (owner === last) continue;
      last = owner;
      const key = keyOf({ ...owner });
      if (this.#present.has(key)) continue;
      this.#present.add(key);
      this.#tenants.delete(key);
      this.#tenants.set(key, tenant);
    }
    for (const key of this.#tenants.keys()) {
      if (this.#tenants.size - this.#present.size <= MAX_GONE) break;
      this.#tenants.delete(key);
    }
  }

  /** The tenant of a label set with an owner; an unknown owner is its workload. */
  of(labels: Readonly<Record<string, string>>): string {
    return this.#tenants.get(keyOf(labels)) ?? `${labels['namespace'] ?? ''}/${labels['workload'] ?? ''}`;
  }
}

function keyOf({ process = '', namespace = '', workload = '' }: Readonly<Record<string, string>>): string {
  return JSON.stringify([process, namespace, workload]);
}
