/** The TypeScript client of the Kataven Hub API. */
import { createClient as createHttpClient } from './generated/client/index.js';
import { KatavenOperations } from './generated/sdk.gen.js';
import { apiUrl } from './baseUrl.js';
import { PLACEHOLDER, withKey } from './key.js';
import { type RetryOptions, withRetries } from './retry.js';
import { withTimeout } from './timeout.js';

export { KatavenError, unwrap } from './errors.js';
export { paginate } from './pages.js';
export type { RetryOptions } from './retry.js';
export type * from './generated/types.gen.js';
export type Kataven = KatavenOperations;

declare const process: { env: Record<string, string | undefined> } | undefined;

export interface KatavenOptions {
  /** An API key (`sk_live_…`) or an OIDC JWT. Default: the environment variable `KATAVEN_API_KEY`. */
  apiKey?: string | undefined;
  /** The account. Required with a JWT. With an API key, it must be the key's own account. */
  account?: string | undefined;
  /** The URL of the API. Default: `KATAVEN_BASE_URL`, otherwise `https://api.kataven.ai/v1`. */
  baseUrl?: string | undefined;
  /** Milliseconds for each attempt, including the body of the response. Default: 30,000. */
  timeoutMs?: number | undefined;
  /** Repeats reads that failed temporarily. Default: false. */
  retry?: boolean | RetryOptions | undefined;
  /** Replaces the global `fetch`, for example for a proxy or for tests. */
  fetch?: typeof globalThis.fetch | undefined;
}

/**
 * A client for one account. Each method returns `{ data, error, response }` and does not throw if the API refuses the
 * request; `unwrap` throws instead. Throws a TypeError if no key is configured or the key must not be sent to the URL.
 */
export function createClient(options: KatavenOptions = {}): Kataven {
  const env = typeof process === 'undefined' ? {} : process.env;
  const apiKey = options.apiKey ?? env.KATAVEN_API_KEY;
  if (!apiKey) {
    throw new TypeError('No API key: pass `apiKey`, or set KATAVEN_API_KEY.');
  }
  const send = withKey(options.fetch ?? globalThis.fetch, apiKey);
  const once = withTimeout(send, options.timeoutMs ?? 30_000);
  const retry = options.retry === true ? {} : options.retry;
  const client = createHttpClient({
    auth: PLACEHOLDER,
    baseUrl: apiUrl(options.baseUrl ?? env.KATAVEN_BASE_URL ?? 'https://api.kataven.ai/v1'),
    fetch: retry ? withRetries(once, retry) : once,
    headers: options.account === undefined ? {} : { 'X-Account-ID': options.account },
    redirect: 'error', // a redirect could send the key to another host
  });
  return new KatavenOperations({ client });
}
