/** `npm run dashboards`: writes the files that Grafana imports. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { generated } from './generated.ts';

for (const [path, text] of generated()) {
  const file = new URL(path, import.meta.url);
  mkdirSync(new URL('.', file), { recursive: true });
  writeFileSync(file, text);
}
