// Drives the API with openapi-typescript and openapi-fetch.
import assert from 'node:assert/strict';

import createClient from 'openapi-fetch';

import type { components, paths } from './schema.js';

const { KATAVEN_URL: baseUrl = '', KATAVEN_API_KEY: key = '', LIMITED_KEY: limitedKey = '' } = process.env;
const as = (token: string) => createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const client = as(key);

for (const name of ['First', '生产环境', 'Third']) {
  const { data, error } = await client.POST('/v1/agents', { body: { name } });
  if (error) throw new Error(error.code);
  assert.equal(data.name, name);
  assert.equal(data.status, 'draft');
}

const found: components['schemas']['Agent'][] = [];
let cursor: string | null = null;
do {
  const query: { limit: number; cursor?: string } = cursor === null ? { limit: 2 } : { limit: 2, cursor };
  const { data, error, response } = await client.GET('/v1/agents', { params: { query } });
  if (error) throw new Error(error.code);
  found.push(...data);
  cursor = response.headers.get('X-Next-Cursor');
} while (cursor !== null);
assert.deepEqual(found.map((agent) => agent.name), ['Third', '生产环境', 'First']);

const path = { agent_id: found[0]!.id };
const read = await client.GET('/v1/agents/{agent_id}', { params: { path } });
const etag = read.response.headers.get('ETag') ?? '';
const update = (tag: string) =>
  client.PATCH('/v1/agents/{agent_id}', { params: { path, header: { 'If-Match': tag } }, body: { status: 'active' } });
assert.equal((await update(etag)).data?.status, 'active');
const lost = await update(etag);
assert.ok(lost.error);
assert.equal(lost.error.code, 'precondition_failed');
assert.equal(lost.error.status, 412);

const absent = await client.GET('/v1/agents/{agent_id}', { params: { path: { agent_id: crypto.randomUUID() } } });
assert.equal(absent.error?.code, 'not_found');
const invalid = await client.POST('/v1/agents', { body: { name: '' } });
assert.equal(invalid.error?.code, 'invalid_request');
assert.equal(invalid.error?.errors?.[0]?.field, 'name');

await as(limitedKey).GET('/v1/me');
const limited = await as(limitedKey).GET('/v1/me');
assert.equal(limited.error?.code, 'rate_limited');
assert.ok(Number(limited.response.headers.get('Retry-After')) > 0);
assert.equal((await client.DELETE('/v1/agents/{agent_id}', { params: { path } })).response.status, 204);
console.log('openapi-fetch: done');
