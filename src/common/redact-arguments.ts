/** Replaces a secret. */
const CUT = '***';
/** The end of a name whose value is a secret: --db-password, API_KEY, -Dspring.datasource.password, X-Auth-Token. */
const SECRET_NAME =
  /(?:pass(?:word|wd|phrase|code)?|pwd|secrets?|token|api[-_]?key|access[-_]?key|secret[-_]?key|private[-_]?key|account[-_]?key|encryption[-_]?key|credentials?|authorization|auth|cookie|session[-_]?id|bearer|sas|signature)$/i;
/** Programs that take a password right behind -p. */
const SHORT_PASSWORD = /^(?:mysql\w*|mariadb[\w-]*)$/;
/** Tokens that are known by their form: AWS, GitHub, GitLab, Slack, OpenAI, and JSON Web Tokens. */
const KNOWN_TOKENS =
  /\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{8,}|sk-[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)/g;

/**
 * The arguments of a process as one line, without passwords and tokens: in URLs, in options such as --token=… and --password …, in
 * variables and in headers. A secret without any of these marks cannot be found.
 */
export function redactArguments(args: readonly string[]): string {
  // A process that renames itself has one argument with blanks.
  const words = args.length === 1 ? (args[0] ?? '').split(' ') : args;
  const program = (words[0] ?? '').replace(/^.*\//, '');
  const shown: string[] = [];
  let isValue = false;
  for (const [i, word] of words.entries()) {
    if (isValue && !word.startsWith('--')) {
      shown.push(isUser(words[i - 1] ?? '') ? cutPassword(word) : CUT);
      // Authorization: Bearer x
      isValue = /^(?:Bearer|Basic)$/i.test(word);
      continue;
    }
    isValue = takesSecret(word, program);
    shown.push(SHORT_PASSWORD.test(program) && /^-p./.test(word) ? `-p${CUT}` : redactWord(word));
  }
  return shown.map((word) => (args.length === 1 || /^[^\s'"\\$`]+$/.test(word) ? word : `'${word}'`)).join(' ');
}

/** Whether the next argument is a secret: --password x, sshpass -p x, curl -u user:password. */
function takesSecret(word: string, program: string): boolean {
  if (program === 'sshpass' && word === '-p') return true;
  if (isUser(word)) return true;
  if (/^[\w-]+:$/.test(word)) return SECRET_NAME.test(word.slice(0, -1));
  return /^--?[A-Za-z]/.test(word) && !word.includes('=') && SECRET_NAME.test(word);
}

function isUser(word: string): boolean {
  return word === '-u' || word === '--user' || word === '--proxy-user' || word === '-U';
}

/** Cuts what follows the first colon of user:password. */
function cutPassword(word: string): string {
  const at = word.indexOf(':');
  return at < 0 ? word : `${word.slice(0, at)}:${CUT}`;
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
    .replaceAll(KNOWN_TOKENS, CUT);
}
