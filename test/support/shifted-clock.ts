/** Loaded before the program (`node --import`): its wall clock is off by the seconds that stand in the file TEST_CLOCK. */
import { readFileSync } from 'node:fs';

const file = process.env['TEST_CLOCK'] ?? '';
const now = Date.now;

Date.now = () => now() + Number(readFileSync(file, 'utf8')) * 1000;
