import { KatavenError, type Result } from './errors.js';

/**
 * Every item of a list, page by page:
 *
 *     for await (const agent of paginate((page) => kataven.listAgents({ query: { ...page, limit: 200 } }))) …
 *
 * Throws KatavenError if a request fails.
 */
export async function* paginate<Item>(
  list: (page: { cursor?: string }) => Promise<Result<Item[]>>,
): AsyncGenerator<Item, void, undefined> {
  let page: { cursor?: string } = {};
  for (;;) {
    let result: Result<Item[]>;
    try {
      result = await list(page);
    } catch (error) {
      throw new KatavenError(error);
    }
    if (!result.response?.ok || result.data === undefined) {
      throw new KatavenError(result.error, result.response);
    }
    yield* result.data;
    const cursor = result.response.headers.get('X-Next-Cursor');
    if (cursor === null) return;
    page = { cursor };
  }
}
