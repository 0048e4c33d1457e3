/** What the generated code sends in place of the key. Results contain their request, and programs print results. */
export const PLACEHOLDER = '[redacted]';

/** A `fetch` that sends the key with requests that carry the placeholder. Public operations carry none. */
export function withKey(send: typeof globalThis.fetch, key: string): typeof globalThis.fetch {
  return (input, init) => {
    const request = new Request(input, init);
    if (request.headers.has('Authorization')) request.headers.set('Authorization', `Bearer ${key}`);
    return send(request);
  };
}
