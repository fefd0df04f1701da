import { createHash } from 'node:crypto';
import { ACCEPT_SCRIPT } from './accept-script.ts';
import { STYLE } from './style.ts';

/** The Content-Security-Policy of the page: the style sheet by its hash, and the inline icon. */
export const PAGE_POLICY =
  `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; img-src data:; ` +
  "frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** What the Content-Security-Policy of the page allows in addition to PAGE_POLICY. */
export const ACCEPT_POLICY = `script-src 'sha256-${createHash('sha256').update(ACCEPT_SCRIPT).digest('base64')}'; connect-src 'self'`;
