import { writeFileSync } from 'node:fs';

/** Names this process "peerscope" in lists of processes, with the command behind it where they show arguments. */
export function setProcessTitle(command: string | undefined): void {
  process.title = command !== undefined && /^[a-z-]+$/.test(command) ? `peerscope ${command}` : 'peerscope';
  try {
    // The title also became the short name, which should be the same for all commands.
    writeFileSync('/proc/self/comm', 'peerscope');
  } catch {
    // Other systems have no such file.
  }
}
