/** Replaces a secret. */
const CUT = '***';
/** The end of a name whose value is a secret: --db-password, API_KEY, -Dspring.datasource.password, X-Auth-Token. */
const SECRET_NAME =
  /(?:pass(?:word|wd|phrase|code)?|pwd|secrets?|token|api[-_]?key|access[-_]?key|secret[-_]?key|private[-_]?key|account[-_]?key|encryption[-_]?key|credentials?|authorization|auth|cookie|session[-_]?id|bearer|sas|signature|psk)$/i;
/** An option of one letter whose value is a secret. */
interface ShortOption {
  readonly program: RegExp;
  readonly letters: RegExp;
  /** Whether the value is the next argument, or follows the letter directly; by default, either. */
  readonly only?: 'next' | 'joined';
  /** A word that must come before. */
  readonly after?: string;
}

/** The letters that mean a password to some programs, and something else to others. From their manual pages. */
const SHORT_OPTIONS: readonly ShortOption[] = [
  { program: /^(?:mysql\w*|mariadb[\w-]*|7z\w*)$/, letters: /p/, only: 'joined' },
  { program: /^(?:sshpass|mongo\w*)$/, letters: /p/ },
  { program: /^(?:docker|podman|buildah|skopeo|nerdctl|helm|oras|crane)$/, letters: /p/, after: 'login' },
  { program: /^(?:redis|valkey)-cli$/, letters: /a/, only: 'next' },
  { program: /^ldap\w+$/, letters: /w/ },
  { program: /^(?:zip|unzip|zipcloak|sqlcmd|bcp|isql|tsql|mosquitto_\w+|ipmitool)$/, letters: /P/ },
  { program: /^snmp(?!d$|trapd$)\w+$/, letters: /[cAX]/ },
  { program: /^openssl$/, letters: /[kK]/, only: 'next' },
];
/** Words that begin another command: sudo mysql -p…, sh -c 'mysql -p…'. */
const PROGRAM =
  /^(?:mysql|mariadb|7z|sshpass|mongo|docker|podman|buildah|skopeo|nerdctl|helm|oras|crane|redis-|valkey-|ldap|zip|unzip|sqlcmd|bcp|isql|tsql|mosquitto_|ipmitool|snmp|openssl|curl|htpasswd|smbclient|rpcclient|xfreerdp|(?:ssh|scp|sftp|rsync)$)/;
/** Addresses that are secrets themselves. */
const SECRET_URLS =
  /(\b(?:hooks\.slack\.com\/(?:services|workflows|triggers)|discord(?:app)?\.com\/api\/webhooks|api\.telegram\.org\/bot))[^\s'"]+/g;
/** Tokens that are known by their form: AWS, GitHub, GitLab, Slack, OpenAI, Vault, and JSON Web Tokens. */
const KNOWN_TOKENS =
  /\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{8,}|sk-[\w-]{20,}|hv[sbr]\.[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)/g;

/**
 * The arguments of a process as one line, without passwords and tokens: in URLs, in options such as --token=… and --password …, in
 * variables and in headers. A secret without any of these marks cannot be found.
 */
export function redactArguments(args: readonly string[]): string {
  // A process that renames itself has one argument with blanks.
  const words = args.length === 1 ? (args[0] ?? '').split(' ') : args;
  return redactWords(words)
    .map((word) => (args.length === 1 || /^[^\s'"\\$`]+$/.test(word) ? word : `'${word}'`))
    .join(' ');
}

function redactWords(words: readonly string[]): string[] {
  const before = new Set<string>();
  let program = '';
  let isValue = false;
  return words.map((word, i) => {
    const isHidden = isValue && !word.startsWith('--');
    const previous = words[i - 1] ?? '';
    isValue = isHidden
      ? // Authorization: Bearer x
        /^(?:Bearer|Basic)$/i.test(word)
      : takesSecret(word, { program, before });
    if (isHidden) return isUser(previous) ? cutPassword(word) : CUT;
    const name = word.replace(/^.*\//, '').replace(/^['"(]+/, '');
    if (i === 0 || PROGRAM.test(name)) {
      program = name;
      before.clear();
    }
    before.add(word);
    if (program === 'htpasswd' && i === words.length - 1 && [...before].some((one) => /^-\w*b/.test(one))) return CUT;
    if (!/\s/.test(word)) return redactWord(cutJoined(word, { program, before }));
    // The script of a shell: its words, with the blanks between them.
    const parts = redactWord(word).split(/(\s+)/);
    const blanks = parts.filter((_, at) => at % 2 === 1);
    const script = redactWords(parts.filter((_, at) => at % 2 === 0));
    return script.map((one, at) => one + (blanks[at] ?? '')).join('');
  });
}

/** The program whose arguments these are, and the words since. */
interface Place {
  readonly program: string;
  readonly before: ReadonlySet<string>;
}

function shortOptionsOf({ program, before }: Place): readonly ShortOption[] {
  return SHORT_OPTIONS.filter((one) => one.program.test(program) && (one.after === undefined || before.has(one.after)));
}

/** Whether the next argument is a secret: --password x, sshpass -p x, curl -u user:password. */
function takesSecret(word: string, place: Place): boolean {
  const [, letter] = /^-(\w)$/.exec(word) ?? [];
  if (
    letter !== undefined &&
    shortOptionsOf(place).some(({ letters, only }) => only !== 'joined' && letters.test(letter))
  )
    return true;
  if (isUser(word)) return true;
  if (/^[\w-]+:$/.test(word)) return SECRET_NAME.test(word.slice(0, -1));
  // aws configure set aws_secret_access_key x
  if (/^[a-z]\w*_(?:key|token|password|secret)$/i.test(word)) return SECRET_NAME.test(word);
  return /^--?[A-Za-z]/.test(word) && !word.includes('=') && SECRET_NAME.test(word);
}

/** Cuts a secret that follows its option directly: mysql -px, curl -uuser:password, smbclient -Uuser%password, xfreerdp /p:x. */
function cutJoined(word: string, place: Place): string {
  const { program } = place;
  if (program === 'xfreerdp') return word.replace(/^(\/(?:p|gp):).+/i, `$1${CUT}`);
  if (program === 'curl') word = word.replace(/^(-[uU][^:]+:).+/, `$1${CUT}`);
  word = word.replace(/^(--(?:proxy-)?user=)(.+)/, (_, option: string, user: string) => option + cutPassword(user));
  const [, letter] = /^-(\w)./.exec(word) ?? [];
  const isSecret = shortOptionsOf(place).some(
    ({ letters, only }) => letter !== undefined && only !== 'next' && letters.test(letter),
  );
  return isSecret ? `-${letter}${CUT}` : word;
}

function isUser(word: string): boolean {
  return word === '-u' || word === '--user' || word === '--proxy-user' || word === '-U';
}

/** Cuts what follows the first colon of user:password, or the first % of Samba; not of uid:gid. */
function cutPassword(word: string): string {
  return /^\d+:\d+$/.test(word) ? word : word.replace(/([:%]).*/s, `$1${CUT}`);
}

function redactWord(word: string): string {
  return word
    .replaceAll(/([a-z][a-z\d+.-]{0,20}:\/\/)([^/?#\s@]*)@/gi, (_, scheme: string, user: string) => {
      const name = user.replace(/:.*/s, '');
      // A long name without a password is a token.
      if (name === user) return `${scheme}${user.length > 20 ? CUT : user}@`;
      return `${scheme}${name}:${CUT}@`;
    })
    .replaceAll(/([\w.-]{1,100})("?\s?[=:]\s?"?)(?!\/\/)([^&;,"\s][^&;,"]*)/g, (whole, name: string, sign: string) =>
      SECRET_NAME.test(name) ? `${name}${sign}${CUT}` : whole,
    )
    .replaceAll(/\b(Bearer|Basic) [^\s'"]+/gi, `$1 ${CUT}`)
    .replaceAll(SECRET_URLS, `$1/${CUT}`)
    .replaceAll(KNOWN_TOKENS, CUT);
}
