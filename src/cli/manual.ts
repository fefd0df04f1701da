import { commandPaths, type CommandShape, type OptionShape } from './command-shape.ts';

/** The manual page peerscope(1) in man(7) format, generated from the help of each command. */
export function manualOf(program: CommandShape, version: string): string {
  const common = commonOptions(program);
  const commands = commandPaths(program).filter(
    ({ path, command }) => path.length > 0 && command.subcommands.length === 0,
  );
  const printed = new Set<string>();
  const sections = commands.flatMap(({ path, command }) => [
    `.SS ${escape([path.join(' '), command.arguments].filter((part) => part !== '').join(' '))}`,
    escape(`${command.description}.`),
    ...mergeNegations(command.options.filter((option) => !common.has(keyOf(option)))).flatMap(optionLines),
    ...notesOf(command, printed),
  ]);
  return [
    `.TH PEERSCOPE 1 "" "peerscope ${version}" "User Commands"`,
    '.SH NAME',
    'peerscope \\- caller ID for every connection on a host',
    '.SH SYNOPSIS',
    '.B peerscope',
    '.RI [ command ]',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    escape(program.description),
    '.SH COMMANDS',
    ...sections,
    '.SH COMMON OPTIONS',
    ...mergeNegations([...common.values()]).flatMap(optionLines),
    '.SH EXIT STATUS',
    '0 on success, 1 on failure, 2 on invalid usage.',
    '',
  ].join('\n');
}

/** Options that all commands share with the same description. */
function commonOptions(program: CommandShape): Map<string, OptionShape> {
  const each = commandPaths(program)
    .filter(({ path, command }) => path.length > 0 && command.subcommands.length === 0)
    .map(({ command }) => new Map(command.options.map((option) => [keyOf(option), option])));
  const [first = new Map<string, OptionShape>(), ...others] = each;
  return new Map([...first].filter(([key]) => others.every((options) => options.has(key))));
}

/** Merges a switch with its negation: --[no-]name. */
function mergeNegations(options: readonly OptionShape[]): OptionShape[] {
  const isOff = ({ names: [name = ''] }: OptionShape): boolean => name.startsWith('--no-');
  const off = new Set(options.filter(isOff).map(({ names: [name] }) => name));
  const named = (name: string): string => (off.has(name.replace('--', '--no-')) ? name.replace('--', '--[no-]') : name);
  return options.filter((option) => !isOff(option)).map((option) => ({ ...option, names: option.names.map(named) }));
}

function keyOf({ names, value, description }: OptionShape): string {
  return JSON.stringify([names, value, description]);
}

function optionLines({ names, value, choices, description }: OptionShape): string[] {
  const shown = names.map((name) => `\\fB${escape(name)}\\fR`).join(', ');
  const lines = description.split('\n').map(escape);
  const allowed = choices.length > 0 ? [escape(`One of ${choices.join(', ')}.`)] : [];
  return ['.TP', value === null ? shown : `${shown} \\fI${escape(value)}\\fR`, [...lines, ...allowed].join('\n.br\n')];
}

/** Converts help text, a section that was printed before to a reference: two spaces of indent mark a term, six its definition. */
function notesOf({ notes }: CommandShape, printed: Set<string>): string[] {
  const lines = notes.split('\n\n').flatMap((section) => {
    if (!printed.has(section)) return section.split('\n');
    return [`${section.replace(/:.*/s, '')}: see above.`];
  });
  for (const section of notes.split('\n\n')) printed.add(section);
  if (notes === '') return [];
  return lines.map((line) => {
    if (line.startsWith('      ')) return escape(line.trim());
    return line.startsWith('  ') ? `.TP\n\\fB${escape(line.trim())}\\fR` : `.PP\n${escape(line)}`;
  });
}

/** Escapes roff control characters. */
function escape(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll(/^([.'])/gm, '\\&$1');
}
