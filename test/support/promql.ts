import { parser } from '@prometheus-io/lezer-promql';

/** One selector of an expression: `metric{label="value"}`. */
export interface Selector {
  readonly metric: string;
  readonly matchers: ReadonlyMap<string, string>;
}

/** The metrics and labels in a PromQL expression. */
export interface Promql {
  /** The pieces of it that are no PromQL. */
  readonly errors: readonly string[];
  readonly selectors: readonly Selector[];
  /** The labels of `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`. */
  readonly groupings: readonly string[];
  /** The labels of `by` alone. */
  readonly by: readonly string[];
  /** The functions around each metric, outermost first, as "rate metric". */
  readonly calls: readonly string[];
}

/** Takes an expression apart; the variables of Grafana must have been replaced. */
export function parsePromql(expr: string): Promql {
  const errors: string[] = [];
  const selectors: { metric: string; matchers: Map<string, string> }[] = [];
  const groupings: string[] = [];
  const by: string[] = [];
  const calls: string[] = [];
  const open: string[] = [];
  let matched = '';
  let isBy = false;
  parser.parse(expr).iterate({
    enter: ({ name, from, to, type }) => {
      const text = expr.slice(from, to);
      if (type.isError) errors.push(`${expr.slice(Math.max(0, from - 20), from)}⟨${text}⟩`);
      open.push(name);
      const parent = open.at(-2);
      if (name === 'AggregateModifier') isBy = text.startsWith('by');
      if (name === 'MatchingModifierClause') isBy = false;
      if (name === 'VectorSelector') selectors.push({ metric: '', matchers: new Map() });
      const selector = selectors.at(-1);
      if (name === 'Identifier' && parent === 'VectorSelector' && selector) {
        selector.metric = text;
        const rounds = open.filter((node) => /^[A-Z]\w*$/.test(node) && FUNCTIONS.has(node));
        calls.push([...rounds, text].join(' '));
      }
      if (name === 'LabelName' && parent === 'GroupingLabels') {
        groupings.push(text);
        if (isBy) by.push(text);
      }
      if (name === 'LabelName' && parent === 'UnquotedLabelMatcher') matched = text;
      if (name === 'StringLiteral' && parent === 'UnquotedLabelMatcher')
        selector?.matchers.set(matched, text.slice(1, -1));
      if (name === 'FunctionCall') open[open.length - 1] = CALLS.get(/^\w+/.exec(text)?.[0] ?? '') ?? name;
    },
    leave: () => {
      open.pop();
    },
  });
  const named = selectors.flatMap(({ metric, matchers }) => {
    const { __name__: names = metric, ...others } = Object.fromEntries(matchers);
    return names.split('|').map((name) => ({ metric: name, matchers: new Map(Object.entries(others)) }));
  });
  return { errors, selectors: named, groupings, by, calls };
}

const CALLS = new Map([
  ['rate', 'Rate'],
  ['irate', 'Irate'],
  ['increase', 'Increase'],
]);
const FUNCTIONS: ReadonlySet<string> = new Set(CALLS.values());
