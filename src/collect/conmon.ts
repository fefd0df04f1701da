/** What the arguments of conmon, which every user can read, say about its container. */
export interface Conmon {
  readonly containerId: string;
  readonly containerName: string;
}

/**
 * Reads the arguments of conmon, the parent of each container of Podman; null if they are those of another program.
 * Programs choose their arguments: trust them only if the process is outside the container.
 */
export function parseConmon(args: readonly string[]): Conmon | null {
  if (!/(?:^|\/)conmon$/.test(args[0] ?? '')) return null;
  const [containerId, containerName] = [valueOf(args, '-c', '--cid'), valueOf(args, '-n', '--name')];
  return containerId && containerName ? { containerId, containerName } : null;
}

function valueOf(args: readonly string[], short: string, long: string): string | undefined {
  const i = args.findIndex((arg) => arg === short || arg === long || arg.startsWith(`${long}=`));
  const arg = args[i];
  return arg?.startsWith(`${long}=`) ? arg.slice(long.length + 1) : arg && args[i + 1];
}
