import { existsSync } from 'node:fs';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';

const EXECUTABLE = '/usr/bin/chromium';
/** No sandbox, because the tests run as root, and no connection to other hosts. */
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Says why no browser can be started here; null where one can. */
export function whyNoChromium(): string | null {
  return existsSync(EXECUTABLE) ? null : `${EXECUTABLE} is not installed`;
}

/** An open page, the browser's complaints (console, errors, failed requests), and its requests. */
export interface Opened {
  readonly page: Page;
  readonly complaints: string[];
  readonly requests: string[];
}

/** Debian's Chromium, without a window. */
export class Chromium {
  readonly #browser: Browser;

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  static async start(): Promise<Chromium> {
    return new Chromium(await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS }));
  }

  /** Loads a page in a context of its own, which the caller closes. */
  async open(url: string, options: BrowserContextOptions): Promise<Opened> {
    const page = await (await this.#browser.newContext(options)).newPage();
    const complaints: string[] = [];
    const requests: string[] = [];
    page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('requestfailed', (request) => complaints.push(`failed: ${request.url()}`));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(url, { waitUntil: 'load' });
    return { page, complaints, requests };
  }

  async close(): Promise<void> {
    await this.#browser.close();
  }
}
