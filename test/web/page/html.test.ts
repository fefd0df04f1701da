import fc from 'fast-check';
import { expect, test } from 'vitest';
import { escapeHtml, markup } from '../../../src/web/page/html.ts';

test.each([
  { name: 'text is escaped', made: markup`<p>${'<b>&"\''}</p>`, text: '<p>&lt;b&gt;&amp;&quot;&#39;</p>' },
  { name: 'markup is not', made: markup`<p>${markup`<b>${'<'}</b>`}</p>`, text: '<p><b>&lt;</b></p>' },
  { name: 'a number is written', made: markup`${0}${-1.5}`, text: '0-1.5' },
  { name: 'null is nothing', made: markup`a${null}b`, text: 'ab' },
  {
    name: 'a list is its parts, each for itself',
    made: markup`${['<', markup`<br>`, 1, null, ['>']]}`,
    text: '&lt;<br>1&gt;',
  },
  { name: 'text that looks like an entity stays what it was', made: markup`${'&lt;'}`, text: '&amp;lt;' },
])('$name', ({ made, text }) => {
  expect(String(made)).toBe(text);
});

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };

test('escaped text has nothing that could end a text or an attribute, and reads as it was', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom(...Array.from('<>&"\'/=a;')) })),
      (text) => {
        const escaped = escapeHtml(text);
        expect(escaped).not.toMatch(/[<>"']|&(?!(amp|lt|gt|quot|#39);)/);
        expect(escaped.replace(/&([^;]+);/g, (_, name: string) => ENTITIES[name] ?? '')).toBe(text);
      },
    ),
  );
});
