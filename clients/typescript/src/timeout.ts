/** A `fetch` whose requests end after `timeoutMs`. */
export function withTimeout(send: typeof globalThis.fetch, timeoutMs: number): typeof globalThis.fetch {
  if (!(timeoutMs > 0)) {
    throw new TypeError('`timeoutMs` must be greater than 0.');
  }
  return (input, init) => {
    const request = new Request(input, init);
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeoutMs)]);
    return send(new Request(request, { signal }));
  };
}
