import fc, { type Arbitrary } from 'fast-check';

/** Words that programs trip over: ends of number ranges, other forms of addresses, control characters, quotes, much of one thing. */
const HOSTILE_WORDS = [
  ...['', ' ', '\t', '\r', '\0', '\u001b[31m', '\u202e', '\ufffd', '\ud800', '😀', '\u00ff', '\u2028'],
  ...[
    '0',
    '-0',
    '-1',
    '1e3',
    '0x10',
    '00000000',
    'FFFFFFFF',
    'ffffffffffffffff',
    '65535',
    '65536',
    '4294967295',
    '4294967296',
  ],
  ...[
    '9007199254740993',
    '99999999999999999999',
    '1.5',
    'NaN',
    'Infinity',
    'null',
    'true',
    '__proto__',
    'constructor',
    'toString',
  ],
  ...[
    '*',
    '::',
    '*:*',
    '0.0.0.0',
    '0.0.0.0:0',
    '[::]:*',
    '::ffff:1.2.3.4',
    'fe80::1%eth0',
    '1.2.3.4/33',
    '2001:db8::/129',
    '256.1.1.1',
  ],
  ...[
    '"',
    "'",
    '\\',
    '"\\"',
    '(',
    ')',
    '))(',
    '((',
    '[',
    ']',
    '{',
    '}',
    '|',
    '||',
    ',',
    ',,',
    ';',
    ':',
    '::::',
    '=',
    '%',
    '%lo',
    '&',
    '*a',
    '!',
    '- -',
  ],
  ...[
    'users:(("a",pid=1,fd=3))',
    'users:((',
    '"a\\"b",pid=',
    'LISTEN',
    'TIME-WAIT',
    'NA',
    'AS',
    'Error:',
    'kB',
    '..',
    '/..',
    '../..',
  ],
  'A'.repeat(300),
  '9'.repeat(5_000),
];

const SEPARATORS = /([ \t]+|[|:,;()="/[\]\n-])/;

type Edit =
  | { readonly kind: 'replace' | 'insert'; readonly at: number; readonly word: string }
  | { readonly kind: 'remove' | 'double' | 'swap'; readonly at: number };

const WORD = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...HOSTILE_WORDS) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
);

const EDIT: Arbitrary<Edit> = fc.oneof(
  fc.record({ kind: fc.constantFrom('replace' as const, 'insert' as const), at: fc.nat(), word: WORD }),
  fc.record({ kind: fc.constantFrom('remove' as const, 'double' as const, 'swap' as const), at: fc.nat() }),
);

/**
 * Texts that begin as some lines of a recording and then lose, double, swap or gain words, or are cut: most keep enough form to get
 * deep into a parser.
 */
export function damaged(recordings: readonly string[], linesMost = 6): Arbitrary<string> {
  const all = recordings.map((text) => text.split('\n'));
  return fc
    .record({
      recording: fc.nat({ max: all.length - 1 }),
      from: fc.oneof(fc.constant(0), fc.nat()),
      lines: fc.integer({ min: 1, max: linesMost }),
      edits: fc.array(EDIT, { maxLength: 4 }),
      cut: fc.option(fc.nat(), { freq: 6 }),
      end: fc.constantFrom('\n', '\n', '\n', '', '\r\n'),
    })
    .map(({ recording, from, lines, edits, cut, end }) => {
      const source = all[recording] ?? [];
      const start = from % Math.max(1, source.length);
      const words = source
        .slice(start, start + lines)
        .join('\n')
        .split(SEPARATORS);
      for (const edit of edits) apply(edit, words);
      const text = words.join('') + '\n';
      const kept = cut === null ? text : text.slice(0, cut % (text.length + 1));
      return end === '\r\n' ? kept.replaceAll('\n', '\r\n') : end === '' ? kept.replace(/\n$/, '') : kept;
    });
}

/** The bytes of a recording with some of them changed, removed or duplicated. */
export function damagedBytes(recordings: readonly Buffer[]): Arbitrary<Buffer> {
  return fc
    .record({
      recording: fc.nat({ max: recordings.length - 1 }),
      patches: fc.array(fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 6 })), { maxLength: 6 }),
      cut: fc.option(fc.nat(), { freq: 6 }),
    })
    .map(({ recording, patches, cut }) => {
      const bytes = Buffer.from(recordings[recording] ?? []);
      for (const [at, patch] of patches) bytes.set(patch, at % Math.max(1, bytes.length - patch.length));
      return cut === null ? bytes : bytes.subarray(0, cut % (bytes.length + 1));
    });
}

/** A value that stands where an object of another kind is expected, or a key that every object has. */
const HOSTILE_VALUES: readonly unknown[] = [
  ...[null, true, 0, -1, 1.5, 1e300, 2 ** 53, [], [[]], [null], {}, { '': '' }],
  JSON.parse('{"__proto__":{"name":"a"},"constructor":{"prototype":{}},"length":3}'),
];

const JSON_EDIT = fc.record({
  at: fc.nat(),
  value: fc.option(fc.oneof(fc.constantFrom(...HOSTILE_VALUES), WORD), { nil: undefined, freq: 5 }),
  moves: fc.nat(4),
});

/** Recorded JSON objects with some members removed, or replaced by other members or hostile values. */
export function damagedJson(recordings: readonly unknown[]): Arbitrary<unknown> {
  const texts = recordings.map((recording) => JSON.stringify(recording));
  return fc
    .record({ recording: fc.nat({ max: texts.length - 1 }), edits: fc.array(JSON_EDIT, { maxLength: 5 }) })
    .map(({ recording, edits }) => {
      const object = JSON.parse(texts[recording] ?? 'null') as unknown;
      for (const { at, value, moves } of edits) {
        const places = membersOf(object);
        const [holder, key] = places[at % Math.max(1, places.length)] ?? [{}, ''];
        const [other, from] = places[(at + moves * 7) % Math.max(1, places.length)] ?? [holder, key];
        if (moves > 0) holder[key] = structuredClone(other[from]);
        else if (value === undefined) Reflect.deleteProperty(holder, key);
        else holder[key] = structuredClone(value);
      }
      // What was taken out of a list leaves a null, as there are no holes in JSON.
      return JSON.parse(JSON.stringify(object)) as unknown;
    });
}

type Holder = Record<string, unknown>;

function membersOf(value: unknown): (readonly [holder: Holder, key: string])[] {
  if (typeof value !== 'object' || value === null) return [];
  const holder = value as Holder;
  return Object.keys(holder).flatMap((key) => [[holder, key] as const, ...membersOf(holder[key])]);
}

function apply(edit: Edit, words: string[]): void {
  const at = edit.at % Math.max(1, words.length);
  if (edit.kind === 'replace') words[at] = edit.word;
  else if (edit.kind === 'insert') words.splice(at, 0, edit.word);
  else if (edit.kind === 'remove') words.splice(at, 1);
  else if (edit.kind === 'double') words.splice(at, 0, words[at] ?? '');
  else [words[at], words[at + 2]] = [words[at + 2] ?? '', words[at] ?? ''];
}
