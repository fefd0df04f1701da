import { jsonLine } from './terminal/format.ts';

/** The keys that identify a connection or a pair of endpoints, and a group of top. */
const CONNECTION_KEYS = [
  ...['netns', 'transport', 'local_address', 'local_port', 'remote_address', 'remote_port'],
  ...['family', 'direction', 'inode'],
] as const;
const GROUP_KEYS = ['process', 'asn', 'network', 'workload', 'namespace', 'endpoint'] as const;

/** Prints only the objects of a scan that differ from the scan before, as JSON lines. */
export class ObjectChanges {
  #before = new Map<string, string>();

  /** The lines of new and changed objects, and those that are gone with "gone": true; `at` in milliseconds since 1970. */
  text(objects: readonly object[], at: number): string {
    const time = new Date(at).toISOString();
    const now = new Map<string, string>();
    const lines: string[] = [];
    for (const object of objects) {
      const identity = identityOf(object, now);
      const line = jsonLine(object);
      now.set(identity, line);
      if (this.#before.get(identity) !== line) lines.push(jsonLine({ at: time, ...object }));
    }
    for (const [identity, line] of this.#before)
      if (!now.has(identity)) lines.push(jsonLine({ at: time, gone: true, ...(JSON.parse(line) as object) }));
    this.#before = now;
    return lines.map((line) => `${line}\n`).join('');
  }
}

/** Equal objects of a scan are numbered. */
function identityOf(object: object, taken: ReadonlyMap<string, string>): string {
  const fields = object as Readonly<Record<string, unknown>>;
  const keys = 'transport' in fields ? CONNECTION_KEYS : GROUP_KEYS;
  // The inode of a connection is lost when it closes.
  const isOpen = (fields['remote_port'] ?? null) === null;
  const values = keys.map((key) => (key === 'inode' && !isOpen ? null : (fields[key] ?? null)));
  for (let number = 0; ; number++) {
    const identity = JSON.stringify([...values, number]);
    if (!taken.has(identity)) return identity;
  }
}
