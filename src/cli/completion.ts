import { FLAGS } from '../config/flags.ts';
import { commandPaths, type CommandShape, type OptionShape } from './command-shape.ts';

/** The supported shells. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** A completion script for commands, options and their values. Values without a fixed list complete to file names. */
export function completionFor(shell: (typeof SHELLS)[number], program: CommandShape): string {
  const whole = withDefault(program);
  switch (shell) {
    case 'bash':
      return bash(whole);
    case 'zsh':
      return zsh(whole);
    case 'fish':
      return fish(whole);
  }
}

/** Without a command, the options of `serve` apply. */
function withDefault(program: CommandShape): CommandShape {
  const own = new Set(program.options.flatMap(({ names }) => names));
  const serveOptions = program.subcommands.find(({ name }) => name === 'serve')?.options ?? [];
  return {
    ...program,
    options: [...program.options, ...serveOptions.filter(({ names: [name = ''] }) => !own.has(name))],
  };
}

/** The allowed values of an option; empty if they are not a short list. */
function valuesOf({ names, choices }: OptionShape): readonly string[] {
  return choices.length > 0 ? choices : (FLAGS.find(({ name }) => names.includes(`--${name}`))?.values ?? []);
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const firstLine = (text: string): string => text.split('\n', 1)[0] ?? '';
const words = (command: CommandShape): string =>
  [
    ...command.subcommands.map(({ name }) => name),
    ...command.choices,
    ...command.options.flatMap(({ names }) => names),
  ].join(' ');

/** Completes a word by the command before it, and a value by its option. */
function bash(program: CommandShape): string {
  const paths = commandPaths(program);
  const wordsOf = paths.map(({ path, command }) => `    ${quote(path.join(' '))}) words=${quote(words(command))} ;;`);
  const pathPatterns = paths.filter(({ path }) => path.length > 0).map(({ path }) => quote(path.join(' ')));
  const values = paths.flatMap(({ path, command }) =>
    command.options
      .filter(({ value }) => value !== null)
      .map((option) => {
        const keys = option.names.map((name) => quote([...path, name].join(' '))).join('|');
        const values = valuesOf(option);
        return `    ${keys}) values=${values.length > 0 ? quote(values.join(' ')) : '@file'} ;;`;
      }),
  );
  return `# Completion of peerscope for bash: source <(peerscope completion bash)
_peerscope() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} path='' word words='' values=''
  if [[ $current == '=' ]]; then
    current=''
  elif [[ $previous == '=' ]]; then
    previous=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
    ${pathPatterns.join('|')}) path="\${path:+$path }$word" ;;
    esac
  done
  case "\${path:+$path }$previous" in
${values.join('\n')}
  esac
  COMPREPLY=()
  if [[ $values == @file ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    return
  fi
  if [[ -z $values ]]; then
    case "$path" in
${wordsOf.join('\n')}
    esac
    values=$words
  fi
  mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current")
}
complete -o default -F _peerscope peerscope
`;
}

function zsh(program: CommandShape): string {
  const functions = commandPaths(program).map(({ path, command }) => {
    const specs = command.options.map(zshOption).map((spec) => `    ${spec}`);
    const rest =
      command.subcommands.length === 0
        ? [`    '*:argument:${command.choices.length > 0 ? `(${command.choices.join(' ')})` : '_files'}'`]
        : [
            `    '1: :{_values command ${command.subcommands.map((one) => zshValue(one)).join(' ')}}'`,
            `    '*:: :->subcommand'`,
          ];
    const subcommands = command.subcommands.map(({ name }) => `    ${name}) ${zshName([...path, name])} ;;`);
    const jump =
      subcommands.length === 0
        ? ''
        : `  [[ $state == subcommand ]] && case $words[1] in\n${subcommands.join('\n')}\n  esac\n`;
    return `${zshName(path)}() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -s -S -C \\
${[...specs, ...rest].join(' \\\n')}
${jump}}`;
  });
  return `#compdef peerscope
# Completion of peerscope for zsh: source <(peerscope completion zsh)
${functions.join('\n')}
if [[ $funcstack[1] == _peerscope ]]; then
  _peerscope "$@"
else
  compdef _peerscope peerscope
fi
`;
}

function zshName(path: readonly string[]): string {
  return ['_peerscope', ...path].join('_').replaceAll('-', '_');
}

function zshValue({ name, description }: CommandShape): string {
  return `"${name}[${plain(description)}]"`;
}

/** "(-o --output)"{-o,--output}"[Output format]:format:(table json)": each name excludes the other. */
function zshOption(option: OptionShape): string {
  const { names, value, description } = option;
  const values = valuesOf(option);
  const long = names.some((name) => name.startsWith('--') && value !== null)
    ? names.map((name) => (name.startsWith('--') && value !== null ? `${name}=` : name))
    : names;
  const label = `[${plain(firstLine(description))}]`;
  const argument = value === null ? '' : `:${plain(value)}:${values.length > 0 ? `(${values.join(' ')})` : '_files'}`;
  const tail = quote(label + argument);
  return names.length === 1
    ? `'*'${quote(long[0] ?? '')}${tail}`
    : `${quote(`(${names.join(' ')})`)}{${long.join(',')}}${tail}`;
}

/** Removes characters that are special in a zsh option spec. */
function plain(text: string): string {
  return text
    .replaceAll(/[[\]:"'\\$`]/g, ' ')
    .replaceAll(/ +/g, ' ')
    .trim();
}

function fish(program: CommandShape): string {
  const lines = commandPaths(program).flatMap(({ path, command }) => {
    const condition = quote(`__peerscope_at ${path.join(' ')}`.trim());
    const subcommands = command.subcommands.map(
      ({ name, description }) => `complete -c peerscope -n ${condition} -f -a ${quote(name)} -d ${quote(description)}`,
    );
    const choices =
      command.choices.length === 0
        ? []
        : [`complete -c peerscope -n ${condition} -f -a ${quote(command.choices.join(' '))}`];
    const options = command.options.map((option) => {
      const { names, value, description } = option;
      const values = valuesOf(option);
      const named = names.map((name) =>
        name.startsWith('--') ? `-l ${quote(name.slice(2))}` : `-s ${quote(name.slice(1))}`,
      );
      const takes = value === null ? '' : values.length > 0 ? ` -x -a ${quote(values.join(' '))}` : ' -r';
      return `complete -c peerscope -n ${condition} ${named.join(' ')}${takes} -d ${quote(firstLine(description))}`;
    });
    return [...subcommands, ...choices, ...options];
  });
  const known = commandPaths(program)
    .map(({ path }) => path.join(' '))
    .filter((path) => path !== '');
  return `# Completion of peerscope for fish: peerscope completion fish | source
function __peerscope_at
  set -l path
  for word in (commandline -opc)[2..]
    set -l next (string join -- ' ' $path $word)
    contains -- "$next" ${known.map(quote).join(' ')}; and set path (string split ' ' -- $next)
  end
  test "$path" = "$argv"
end
${lines.join('\n')}
`;
}
