// Drives the API with @kataven/client, installed from its tarball.
import assert from 'node:assert/strict';
import { inspect } from 'node:util';

import { type Agent, createClient, type Kataven, KatavenError, paginate, type ProblemCode, unwrap } from '@kataven/client';

const { KATAVEN_URL: baseUrl = '', KATAVEN_API_KEY: apiKey = '', LIMITED_KEY: limitedKey = '' } = process.env;
const { JWT: jwt = '', ACCOUNT: account = '' } = process.env;
const kataven: Kataven = createClient({ baseUrl });

async function refused(pending: Promise<unknown>): Promise<KatavenError> {
  const error = await pending.then(() => undefined, (reason: unknown) => reason);
  assert.ok(error instanceof KatavenError, inspect(error));
  return error;
}

// Create, list, get, update.
for (const name of ['First', '生产环境', 'Third']) {
  assert.equal((await unwrap(kataven.createAgent({ body: { name } }))).name, name);
}
const found: Agent[] = [];
for await (const agent of paginate((page) => kataven.listAgents({ query: { ...page, limit: 2 } }))) found.push(agent);
assert.deepEqual(found.map((agent) => agent.name), ['Third', '生产环境', 'First']);
const path = { agent_id: found[0]!.id };
const { data, error, response } = await kataven.getAgent({ path });
if (error) throw new Error(error.code);
assert.equal(data?.id, path.agent_id);
const headers = { 'If-Match': response?.headers.get('ETag') ?? '' };
assert.equal((await unwrap(kataven.updateAgent({ path, headers, body: { status: 'active' } }))).status, 'active');

// Errors.
const lost = await refused(unwrap(kataven.updateAgent({ path, headers, body: { status: 'paused' } })));
assert.deepEqual([lost.code, lost.status], ['precondition_failed' satisfies ProblemCode, 412]);
assert.ok(lost.requestId);
const absent = await refused(unwrap(kataven.getAgent({ path: { agent_id: crypto.randomUUID() } })));
assert.deepEqual([absent.code, absent.status], ['not_found', 404]);
const invalid = await refused(unwrap(kataven.createAgent({ body: { name: '' } })));
assert.deepEqual([invalid.code, invalid.errors.map((one) => one.field)], ['invalid_request', ['name']]);
const limitedClient = createClient({ baseUrl, apiKey: limitedKey });
await limitedClient.getMe();
const limited = await refused(unwrap(limitedClient.getMe()));
assert.deepEqual([limited.code, limited.status], ['rate_limited', 429]);
assert.ok(limited.retryAfter);
const unreachable = await refused(unwrap(createClient({ baseUrl: 'http://127.0.0.1:1' }).getMe()));
assert.deepEqual([unreachable.code, unreachable.status], [null, null]);

// A JWT names the account.
const user = createClient({ baseUrl, apiKey: jwt, account });
const key = await unwrap(user.createApiKey({ body: { name: 'CI', expiry: '30d' } }));
assert.match(key.key, /^sk_live_/);
const removed = await unwrap(user.deleteApiKey({ path: { key_id: key.id } }));
assert.equal(removed.outcome, 'removed');

// Retries: reads only, after the time that the API asks for.
function failing(times: number): { calls: () => number; fetch: typeof fetch } {
  let calls = 0;
  const send: typeof fetch = (input) => {
    calls += 1;
    if (calls > times) return fetch(input);
    return Promise.resolve(new Response('{}', { status: 503, headers: { 'Retry-After': '0.01' } }));
  };
  return { calls: () => calls, fetch: send };
}
const twice = failing(2);
assert.ok(await unwrap(createClient({ baseUrl, fetch: twice.fetch, retry: true }).getMe()));
assert.equal(twice.calls(), 3);
const never = failing(9);
assert.equal((await refused(unwrap(createClient({ baseUrl, fetch: never.fetch, retry: { attempts: 2 } }).getMe()))).status, 503);
assert.equal(never.calls(), 2);
const write = failing(1);
await refused(unwrap(createClient({ baseUrl, fetch: write.fetch, retry: true }).createAgent({ body: { name: 'x' } })));
assert.equal(write.calls(), 1);
const tooLong = failing(1);
await refused(unwrap(createClient({ baseUrl, fetch: tooLong.fetch, retry: { maxWaitMs: 1 } }).getMe()));
assert.equal(tooLong.calls(), 1);

// The key is in no object that a program would print.
assert.ok(!inspect([kataven, await kataven.getMe(), lost, unreachable], { depth: 20, showHidden: true }).includes(apiKey));

// A key is never sent unencrypted to another machine, and never to a redirect's target.
assert.throws(() => createClient({ baseUrl: 'http://api.example.com/v1' }), TypeError);
assert.throws(() => createClient({ baseUrl: 'https://user:pw@api.example.com' }), TypeError);
assert.throws(() => createClient({ apiKey: '', baseUrl }), TypeError);
assert.equal((await refused(unwrap(createClient({ baseUrl: process.env.REDIRECTING_URL }).getMe()))).status, null);

assert.equal((await kataven.deleteAgent({ path })).response?.status, 204);
console.log('@kataven/client: done');
