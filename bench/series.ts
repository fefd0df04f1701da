/** `npm run bench:series`: the tables of docs/fleet.md, series of a simulated node by pods and families. */
import { seriesTables } from '../test/support/series-table.ts';

process.stdout.write(seriesTables());
