/** A random UUID. The first one loads node:crypto, which costs 3 MiB and which a thread that only scans does not need. */
export function randomUuid(): string {
  const { randomUUID } = process.getBuiltinModule('node:crypto');
  return randomUUID();
}
