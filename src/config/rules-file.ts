import type { Rules } from '../model.ts';
import { readRules } from './rules.ts';

/** The file of --config.file: the rules in use, and whether they are still those on disk. */
export class RulesFile {
  /** False while the file holds what cannot be used. */
  isCurrent = true;
  current: Rules;
  readonly #path: string;

  constructor(path: string, current: Rules) {
    this.#path = path;
    this.current = current;
  }

  /** Reads the file again. Gives why it cannot be used, and then the rules stay as they were; null where it can. */
  reload(): string | null {
    try {
      this.current = readRules(this.#path);
      this.isCurrent = true;
      return null;
    } catch (error) {
      this.isCurrent = false;
      return error instanceof Error ? error.message : String(error);
    }
  }
}
