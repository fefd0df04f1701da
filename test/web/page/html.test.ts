import fc from 'fast-check';
import { expect, test } from 'vitest';
import { escapeHtml, markup } from '../../../src/web/page/html.ts';

test.each([
  { name: 'escapes text', made: markup`<p>${'<b>&"\''}</p>`, text: '<p>&lt;b&gt;&amp;&quot;&#39;</p>' },
  { name: 'keeps markup', made: markup`<p>${markup`<b>${'<'}</b>`}</p>`, text: '<p><b>&lt;</b></p>' },
  { name: 'writes numbers', made: markup`${0}${-1.5}`, text: '0-1.5' },
  { name: 'writes nothing for null', made: markup`a${null}b`, text: 'ab' },
  {
    name: 'writes each item of a list',
    made: markup`${['<', markup`<br>`, 1, null, ['>']]}`,
    text: '&lt;<br>1&gt;',
  },
  { name: 'escapes text that looks like an entity', made: markup`${'&lt;'}`, text: '&amp;lt;' },
])('$name', ({ made, text }) => {
  expect(String(made)).toBe(text);
});

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };

test('escaped text cannot end content or an attribute, and decodes to the original', () => {
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
