/**
 * Parses the output of `tasklist /fo csv /nh` on Windows into process names by pid. Other columns depend on the language and are
 * ignored, and so are other lines.
 */
export function parseTasklist(text: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const [, name = '', pid] of text.matchAll(/^"((?:[^"\r\n]|"")+)","(\d{1,10})"/gm))
    names.set(Number(pid), name.replaceAll('""', '"'));
  return names;
}

/** Parses the output of `ps -axo pid=,ucomm=` on macOS into process names by pid. Ignores other lines. */
export function parsePs(text: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const [, pid, name = ''] of text.matchAll(/^ *(\d{1,10}) (\S.*)$/gm)) names.set(Number(pid), name.trimEnd());
  return names;
}
