import type { State, Transport } from '../model.ts';
import { parseAddress, formatAddress } from '../common/address.ts';
import type { Problem, TextEndpoint } from './endpoint.ts';
import { NO_EXTRAS, wordsOf, type LineResult, type LineRow } from './line.ts';
import { stateOfWord } from './states.ts';

/** Properties of Get-NetTCPConnection and Get-NetUDPEndpoint (MSFT_NetTCPConnection), as text. */
type Properties = Map<string, string>;

const KEYS: ReadonlySet<string> = new Set([
  'LocalAddress',
  'LocalPort',
  'RemoteAddress',
  'RemotePort',
  'State',
  'OwningProcess',
]);
/** The numbers of states in MSFT_NetTCPConnection, which ConvertTo-Json prints. */
const STATES: ReadonlyMap<string, State> = new Map<string, State>([
  ['1', 'closed'],
  ['2', 'listen'],
  ['3', 'syn_sent'],
  ['4', 'syn_received'],
  ['5', 'established'],
  ['6', 'fin_wait_1'],
  ['7', 'fin_wait_2'],
  ['8', 'close_wait'],
  ['9', 'closing'],
  ['10', 'last_ack'],
  ['11', 'time_wait'],
  ['12', 'closed'],
  ['100', 'closed'],
]);
/** The states as PowerShell names them. */
const STATE_NAMES: ReadonlySet<string> = new Set(
  'Bound Closed CloseWait Closing DeleteTCB Established FinWait1 FinWait2 LastAck Listen SynReceived SynSent TimeWait'.split(
    ' ',
  ),
);
/** A line of JSON starts with punctuation, a string, or a lone value. */
const JSON_LINE = /^\s*(?:[[\]{},"]|(?:null|true|false|-?\d[\d.eE+-]*)\s*,?\s*$)/;
const MAX_DEPTH = 64;

/** A column of a table: its title and where it starts. */
interface TableColumn {
  readonly title: string;
  readonly start: number;
}

/** Parses tables, lists, CSV and JSON of Get-NetTCPConnection and Get-NetUDPEndpoint in PowerShell. */
export class PowerShell {
  #table: readonly TableColumn[] | null = null;
  #csv: { readonly titles: readonly string[]; readonly separator: string } | null = null;
  #json: JsonObjects | null = null;
  #record: Properties | null = null;
  /** The command line or the class is that of UDP. */
  #isUdp = false;

  /** Takes the header of a table or of CSV, or the beginning of JSON; false for any other line. */
  takeHeader(text: string): boolean {
    const separator = /^"?\w+"?([,;\t])/.exec(text)?.[1];
    const isCsv = separator !== undefined && /(?:^|[,;\t])"?LocalAddress"?(?:[,;\t]|\s*$)/.test(text);
    if (isCsv) this.#csv = { titles: fieldsOf(text.trimEnd(), separator), separator };
    else if (/^[A-Za-z\s]{1,400}$/.test(text) && /\bLocalAddress\b/.test(text) && /\bLocalPort\b/.test(text)) {
      this.#table = wordsOf(text).map((word) => ({ title: word.text, start: word.start }));
      this.#csv = null;
    } else return false;
    this.#json = null;
    return true;
  }

  read(text: string): LineResult | null {
    if (/^#TYPE /.test(text) || /^-[-\s]*$/.test(text)) return { kind: 'header' };
    if (text.includes('Get-NetUDPEndpoint') || text.includes('MSFT_NetUDPEndpoint')) this.#isUdp = true;
    else if (text.includes('Get-NetTCPConnection')) this.#isUdp = false;
    if (this.#json && !JSON_LINE.test(text)) this.#json = null;
    if (this.#json?.isOpen || /^\s*[[{]\s*(?:$|[{"])/.test(text)) {
      this.#json ??= new JsonObjects();
      return { kind: 'record', rows: this.#json.take(text).map((object) => rowOf(object, this.#isUdp)) };
    }
    const [, key, value] = /^\s*([A-Z]\w{1,40})\s*: ?(.*)$/.exec(text) ?? [];
    if (key !== undefined && value !== undefined && (KEYS.has(key) || this.#record))
      return this.#takeProperty(key, value);
    const properties = this.#csv ? this.#readCsv(text) : (this.#readTable(text) ?? readPlainTable(text));
    const row = properties && rowOf(properties, this.#isUdp);
    if (!row) return null;
    if (!('error' in row)) return { kind: 'row', row };
    return this.#csv ? { kind: 'error', problem: row } : null;
  }

  /** Ends the last record of a list. */
  end(): LineRow | Problem | null {
    const record = this.#record;
    this.#record = null;
    return record?.has('LocalAddress') ? rowOf(record, this.#isUdp) : null;
  }

  /** A property that is already in the record starts the next. */
  #takeProperty(key: string, value: string): LineResult {
    const row = this.#record?.has(key) ? this.end() : null;
    this.#record ??= new Map();
    if (this.#record.size < MAX_DEPTH) this.#record.set(key, value.trim());
    return { kind: 'record', rows: row ? [row] : [] };
  }

  #readCsv(text: string): Properties | null {
    if (!this.#csv) return null;
    const { titles, separator } = this.#csv;
    const fields = fieldsOf(text.trimEnd(), separator);
    return fields.length === titles.length ? new Map(titles.map((title, i) => [title, fields[i] ?? ''])) : null;
  }

  /** Values are words. One column may be empty: then the positions of the titles decide. */
  #readTable(text: string): Properties | null {
    const columns = this.#table;
    const words = wordsOf(text, 0, 20);
    if (!columns || words.length > columns.length) return null;
    if (words.length === columns.length) return new Map(columns.map(({ title }, i) => [title, words[i]?.text ?? '']));
    const properties: Properties = new Map();
    const known = columns.filter(({ title }) => title !== 'AppliedSetting' && title !== 'CreationTime');
    if (words.length === known.length) {
      for (const [i, { title }] of known.entries()) properties.set(title, words[i]?.text ?? '');
      return properties;
    }
    for (const word of words) {
      const column = columns.findLast(({ start }) => start <= word.start);
      if (column) properties.set(column.title, word.text);
    }
    return properties;
  }
}

/**
 * Parses a row of a table without titles. It has the columns of Get-NetTCPConnection: addresses and ports, the state as PowerShell
 * names it, the setting (which may be empty) and the process ID.
 */
function readPlainTable(text: string): Properties | null {
  const [, ...values] =
    /^\s*(\S{1,60})\s+(\d{1,5})\s+(\S{1,60})\s+(\d{1,5})\s+([A-Z][A-Za-z]{3,10}[12]?)(?:\s+[A-Z][A-Za-z]{1,30})?(?:\s+(\d{1,10}))?\s*$/.exec(
      text,
    ) ?? [];
  if (!STATE_NAMES.has(values[4] ?? '') || !parseAddress((values[0] ?? '').replace(/%.*$/, ''))) return null;
  const titles = ['LocalAddress', 'LocalPort', 'RemoteAddress', 'RemotePort', 'State', 'OwningProcess'];
  return new Map(titles.flatMap((title, i) => (values[i] === undefined ? [] : [[title, values[i]] as const])));
}

/** Splits a line of CSV; a field in quotation marks may hold separators and doubled quotation marks. */
function fieldsOf(line: string, separator: string): string[] {
  if (!line.includes('"')) return line.split(separator);
  const fields: string[] = [];
  let field = '';
  let isQuoted = false;
  for (let i = 0; i < line.length; i++) {
    const c = line.charAt(i);
    if (c === '"' && isQuoted && line.charAt(i + 1) === '"') {
      field += '"';
      i++;
    } else if (c === '"') isQuoted = !isQuoted;
    else if (c === separator && !isQuoted) {
      fields.push(field);
      field = '';
    } else field += c;
  }
  return [...fields, field];
}

/** Finds the objects in JSON, line by line, and keeps their numbers and strings with known keys. */
class JsonObjects {
  readonly #objects: (Properties | null)[] = [];
  #key: string | null = null;
  #depth = 0;

  /** The objects that a line completes. */
  take(line: string): Properties[] {
    const complete: Properties[] = [];
    let last: string | null = null;
    for (const [token] of line.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s"[\]{}:,]+/g)) {
      if (token === '{' || token === '[') {
        this.#depth++;
        if (this.#depth <= MAX_DEPTH) this.#objects.push(token === '{' ? new Map() : null);
        this.#key = null;
      } else if (token === '}' || token === ']') {
        const object = this.#depth <= MAX_DEPTH ? this.#objects.pop() : null;
        this.#depth = Math.max(0, this.#depth - 1);
        if (object?.has('LocalAddress')) complete.push(object);
        this.#key = null;
      } else if (token === ':') this.#key = last;
      else if (token === ',') this.#key = null;
      else {
        last = token.startsWith('"') ? unquoted(token) : token;
        const object = this.#objects.at(-1);
        if (object && this.#key !== null && KEYS.has(this.#key)) object.set(this.#key, last);
      }
    }
    return complete;
  }

  get isOpen(): boolean {
    return this.#depth > 0;
  }
}

function unquoted(token: string): string {
  try {
    return String(JSON.parse(token));
  } catch {
    return token.slice(1, -1);
  }
}

function rowOf(properties: Properties, isUdp: boolean): LineRow | Problem {
  const localText = properties.get('LocalAddress') ?? '';
  const local = endpointOf(localText, properties.get('LocalPort'));
  const isTcp = properties.has('RemoteAddress') || properties.has('State');
  const transport: Transport | null = isTcp ? 'tcp' : isUdp ? 'udp' : null;
  const remote = endpointOf(properties.get('RemoteAddress') ?? '*', properties.get('RemotePort'));
  if (!local || !remote) {
    const end = `${localText} ${properties.get('LocalPort') ?? ''}`.slice(0, 60);
    return { error: 'bad-address', reason: `"${end}" and its peer are not addresses and ports` };
  }
  const word = properties.get('State') ?? '';
  const state = STATES.get(word) ?? (word === '' ? null : stateOfWord(word, transport));
  const pid = properties.get('OwningProcess') ?? '';
  // A calculated property of Select-Object.
  const name = properties.get('ProcessName') ?? properties.get('Process') ?? null;
  const isPid = /^\d{1,10}$/.test(pid);
  return {
    ...NO_EXTRAS,
    transport,
    family: local.form === 'ipv6' ? 6 : local.form === 'ipv4' ? 4 : remote.form === 'ipv6' ? 6 : null,
    local,
    remote,
    state: transport === 'udp' ? 'unconnected' : state,
    receiveQueue: null,
    sendQueue: null,
    holders: isPid && pid !== '0' ? [{ pid: Number(pid), name }] : [],
    problems: isPid || pid === '' ? [] : [{ error: 'bad-pid', reason: `"${pid.slice(0, 60)}" is not a process ID` }],
  };
}

/** An address and a port of their own columns. PowerShell ends an address that is too long for its column with "..." or "…". */
function endpointOf(text: string, portText = ''): TextEndpoint | null {
  if (portText !== '' && !(/^\d{1,5}$/.test(portText) && Number(portText) <= 65_535)) return null;
  const bare = text.replace(/%.*$/s, '');
  const end = {
    address: null,
    port: portText === '' ? null : Number(portText),
    name: null,
    service: null,
    mayBeTruncated: false,
    isBracketed: false,
  };
  if (bare === '*' || bare === '') return { ...end, form: '*' };
  if (/(?:\.\.\.|…)$/.test(text)) return { ...end, form: 'truncated' };
  const address = parseAddress(bare);
  return address ? { ...end, address: formatAddress(address), form: bare.includes(':') ? 'ipv6' : 'ipv4' } : null;
}
