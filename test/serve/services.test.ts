import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { expect, it } from 'vitest';
import { RepeatLimiter } from '../../src/common/log.ts';
import { parseConfig } from '../../src/config/config.ts';
import { openServices } from '../../src/serve/services.ts';

function openFiles(folder: string): string[] {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return links.filter((link) => link.startsWith(folder));
}

it('closes the store if another service cannot be opened', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-services-'));
  try {
    const log = pino({ level: 'silent' });
    const rules = (): never => {
      throw new Error('no rules');
    };
    const config = parseConfig({ 'storage.path': folder }, {});
    const opening = openServices(config, { version: '0', rules, failures: new RepeatLimiter(log), log });
    await expect(opening).rejects.toThrow('no rules');
    expect(openFiles(folder)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
