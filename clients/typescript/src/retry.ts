export interface RetryOptions {
  /** The number of attempts, including the first. Default: 3. */
  attempts?: number | undefined;
  /** The longest wait. If the API asks for a longer one, its response is returned at once. Default: 60,000. */
  maxWaitMs?: number | undefined;
}

const TEMPORARY = new Set([429, 502, 503, 504]);

/**
 * A `fetch` that repeats reads, and requests with an `Idempotency-Key`, which were refused temporarily or received no
 * response. Other writes are sent once: a lost response does not show whether the write was applied.
 */
export function withRetries(send: typeof globalThis.fetch, options: RetryOptions): typeof globalThis.fetch {
  const { attempts = 3, maxWaitMs = 60_000 } = options;
  return async (input, init) => {
    const request = new Request(input, init);
    const repeatable =
      request.method === 'GET' || request.method === 'HEAD' || request.headers.has('Idempotency-Key');
    for (let attempt = 1; ; attempt += 1) {
      const last = !repeatable || attempt >= attempts;
      let waitMs = 500 * 2 ** (attempt - 1);
      try {
        const response = await send(last ? request : request.clone());
        if (last || !isTemporary(response)) return response;
        const seconds = Number(response.headers.get('Retry-After'));
        if (seconds > 0) waitMs = seconds * 1_000;
        if (waitMs > maxWaitMs) return response;
        await response.body?.cancel();
      } catch (error) {
        if (last || request.signal.aborted || waitMs > maxWaitMs) throw error;
      }
      // Up to a tenth more, so that clients that were refused together do not retry together.
      await sleep(waitMs * (1 + Math.random() / 10), request.signal);
    }
  };
}

/** A 409 with `Retry-After`: another request with the same idempotency key is in progress. */
function isTemporary(response: Response): boolean {
  return TEMPORARY.has(response.status) || (response.status === 409 && response.headers.has('Retry-After'));
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}
