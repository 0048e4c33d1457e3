const LOCAL = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** The URL that the paths of the document are relative to. Throws a TypeError if a key must not be sent there. */
export function apiUrl(given: string): string {
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw new TypeError('`baseUrl` must be a URL like https://api.kataven.ai/v1.');
  }
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && LOCAL.test(url.hostname))) {
    throw new TypeError('`baseUrl` must be https, or http on this machine: otherwise the key is sent unencrypted.');
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new TypeError('`baseUrl` must not have a user, a query or a fragment.');
  }
  // The document's paths include /v1. The Python SDK's URL, in the same environment variable, ends with it.
  return `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`;
}
