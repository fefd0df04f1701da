import { needsDetails, parseFilters, type Filter } from '../rows/filter.ts';
import type { Row } from '../model.ts';
import { parseOrder } from './terminal/sort.ts';
import { columnsOf, csvHeader, csvLine, parseFields, pick, showsDetails } from './terminal/row-columns.ts';
import type { ScanResult } from './live-scan.ts';
import { layTable } from './terminal/table.ts';
import { footerLines, type View } from './view.ts';
import { UsageError } from '../common/errors.ts';

/** Options of `list`, as unparsed text. */
export interface ListChoice {
  readonly filters: readonly string[];
  readonly tcp?: boolean;
  readonly udp?: boolean;
  readonly listening?: boolean;
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly numeric?: boolean;
  readonly resolve?: boolean;
  readonly sort?: string;
  readonly fields?: string;
  readonly isWide: boolean;
  /** Whether the output has all fields. */
  readonly isComplete?: boolean;
}

/** One line per matching connection. The coverage line counts all sockets, because a filter by process hides those without one. */
export function listView(choice: ListChoice): View {
  const matches = matcherOf(choice);
  const order = choice.sort === undefined ? null : parseOrder(choice.sort);
  const fields = choice.fields === undefined ? null : parseFields(choice.fields);
  const { isWide, numeric: isNumeric = false } = choice;
  const columns = columnsOf({ isWide, isNumeric, fields });
  const filtersDetails = needsDetails(choice.filters);
  const readsDetails = fields ? showsDetails(fields) : isWide || choice.isComplete === true;
  const select = ({ rows, withDetails }: ScanResult): readonly Row[] => {
    const matching = (filtersDetails ? rows.map(withDetails) : rows).filter(matches);
    const shown = readsDetails && !filtersDetails ? matching.map(withDetails) : matching;
    return order ? shown.sort(order) : shown;
  };
  return {
    name: 'connections',
    hasHeading: true,
    draw: (result, display) => {
      const rows = select(result);
      const { title, lines, omitted } = layTable(columns, rows, display);
      return [
        { text: title, key: null },
        ...lines.map((text, i) => {
          const row = rows[i];
          return { text, key: () => keyOf(row), details: () => (row ? result.withDetails(row) : {}) };
        }),
        ...footerLines(result, omitted, display),
      ];
    },
    objects: (result) => select(result).map((row) => pick(row, fields)),
    csv: { header: csvHeader(fields), lines: (result) => select(result).map((row) => csvLine(row, fields)) },
  };
}

/** Combines the filters with the switches of ss. Throws UsageError if one is invalid. */
function matcherOf({ filters, tcp, udp, listening, ipv4, ipv6, numeric, resolve }: ListChoice): Filter {
  if (numeric && resolve) throw new UsageError('Cannot use --resolve with --numeric: they exclude each other');
  const matchesFilters = parseFilters(filters);
  const isOfTransport: Filter = ({ transport }) =>
    (tcp && transport === 'tcp') || (udp && transport === 'udp') || !(tcp || udp);
  const isOfFamily: Filter = ({ family }) => (ipv4 && family === 4) || (ipv6 && family === 6) || !(ipv4 || ipv6);
  return (row) =>
    matchesFilters(row) && isOfTransport(row) && isOfFamily(row) && (!listening || row.direction === 'listen');
}

function keyOf(row: Row | undefined): string {
  if (!row) return '';
  const { netns, transport, family, local_address, local_port, remote_address, remote_port, inode } = row;
  return [
    netns,
    transport,
    family,
    local_address,
    local_port,
    remote_address,
    remote_port,
    remote_port === null ? inode : '',
  ].join(' ');
}
