import { createReadStream } from 'node:fs';
import { SavedOutput } from '../collect/saved-output.ts';
import { readServicePorts } from '../common/etc-services.ts';
import { reasonOf } from '../common/errors.ts';
import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import type { ErrorRow, Transport } from '../model.ts';
import { linesOf } from '../parse/line-splitter.ts';
import { isUnrecognized, TextReader, type ParsedRow } from '../parse/text-reader.ts';

/** The bytes of a file. Rejects with a one-line Error if it cannot be read. */
export async function* readBytes(file: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(file)) yield chunk as Uint8Array;
  } catch (error) {
    throw new Error(`Cannot read "${cleanLabel(file)}": ${withoutControls(reasonOf(error))}`, { cause: error });
  }
}

/** Reads saved output of ss, netstat or a similar tool from a file or standard input ("-"), instead of a scan. */
export async function openSavedOutput(
  file: string,
  { stdin, transport }: { stdin: () => AsyncIterable<Uint8Array>; transport: Transport | undefined },
): Promise<SavedOutput> {
  const rows: ParsedRow[] = [];
  const malformed: ErrorRow[] = [];
  const name = file === '-' ? 'standard input' : cleanLabel(file);
  const reader = new TextReader(
    (entry) => ('row' in entry ? rows.push(entry) : malformed.push(entry.error)),
    undefined,
    { transport: transport ?? null, portOf: readServicePorts() },
  );
  for await (const lines of linesOf(file === '-' ? stdin() : readBytes(file)))
    for (const { text, isTooLong } of lines) reader.take(text, isTooLong);
  reader.end();
  if (isUnrecognized(reader.counts))
    throw new Error(`Cannot parse "${name}": it is not output of ss, netstat or a similar tool`);
  return new SavedOutput(name, rows, malformed);
}
