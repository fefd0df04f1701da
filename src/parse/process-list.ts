/**
 * Reads what `tasklist /fo csv /nh` of Windows prints: the name of each process by its pid. The other columns, which depend on the
 * language, are left alone; a line of another kind is no process.
 */
export function parseTasklist(text: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const [, name = '', pid] of text.matchAll(/^"((?:[^"\r\n]|"")+)","(\d{1,10})"/gm))
    names.set(Number(pid), name.replaceAll('""', '"'));
  return names;
}

/** Reads what `ps -axo pid=,ucomm=` of macOS prints: the name of each process by its pid. A line of another kind is no process. */
export function parsePs(text: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const [, pid, name = ''] of text.matchAll(/^ *(\d{1,10}) (\S.*)$/gm)) names.set(Number(pid), name.trimEnd());
  return names;
}
