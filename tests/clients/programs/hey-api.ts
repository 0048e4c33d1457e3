// Drives the API with the client that @hey-api/openapi-ts generates without further configuration.
import assert from 'node:assert/strict';

import { createClient } from './hey-api/client';
import { createAgent, deleteAgent, getAgent, getMe, listAgents, updateAgent } from './hey-api/sdk.gen';
import type { Agent } from './hey-api/types.gen';

const { KATAVEN_URL: baseUrl = '', KATAVEN_API_KEY: key = '', LIMITED_KEY: limitedKey = '' } = process.env;
async function main(): Promise<void> {
  const client = createClient({ baseUrl, auth: key });

  for (const name of ['First', '生产环境', 'Third']) {
    const { data, error } = await createAgent({ client, body: { name } });
    if (error) throw new Error(error.code);
    assert.equal(data?.name, name);
  }

  const found: Agent[] = [];
  let cursor: string | undefined;
  do {
    const page = await listAgents({ client, query: { limit: 2, cursor } });
    if (page.error) throw new Error(page.error.code);
    found.push(...(page.data ?? []));
    cursor = page.response?.headers.get('X-Next-Cursor') ?? undefined;
  } while (cursor !== undefined);
  assert.deepEqual(found.map((agent) => agent.name), ['Third', '生产环境', 'First']);

  const path = { agent_id: found[0]!.id };
  const etag = (await getAgent({ client, path })).response?.headers.get('ETag') ?? '';
  const update = () => updateAgent({ client, path, headers: { 'If-Match': etag }, body: { status: 'active' } });
  assert.equal((await update()).data?.status, 'active');
  assert.equal((await update()).error?.code, 'precondition_failed');
  assert.equal((await getAgent({ client, path: { agent_id: crypto.randomUUID() } })).error?.code, 'not_found');
  const invalid = await createAgent({ client, body: { name: '' } });
  assert.equal(invalid.error?.code, 'invalid_request');
  assert.equal(invalid.error?.errors?.[0]?.field, 'name');

  const limitedClient = createClient({ baseUrl, auth: limitedKey });
  await getMe({ client: limitedClient });
  const limited = await getMe({ client: limitedClient });
  assert.equal(limited.error?.code, 'rate_limited');
  assert.equal((await deleteAgent({ client, path })).response?.status, 204);
  console.log('hey-api: done');
}

void main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
