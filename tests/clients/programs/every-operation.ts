// Calls every operation of the customers' document with openapi-fetch. It is compiled, not run.
import createClient from 'openapi-fetch';

import type { paths } from './schema.js';

const client = createClient<paths>({ baseUrl: 'https://api.example.com', headers: { Authorization: 'Bearer …' } });
const jwt = { header: { 'X-Account-ID': 'acme' } };
const agent = { path: { agent_id: 'a' } };
const key = { path: { key_id: 'k' } };
const person = { path: { person_id: '1f1c0f40-9a3e-8000-8000-000000000000' } };

type Refused = { error?: { code: string; status: number; detail: string; errors?: { field: string }[] } };
type Answered<Data> = Refused & { data?: Data; response: Response };

/** The data of a response. Its parameter type requires that each error has the type of a problem. */
function read<Data>(result: Answered<Data>): Data | undefined {
  if (result.error) throw new Error(`${result.error.code}: ${result.error.errors?.[0]?.field ?? result.error.detail}`);
  return result.data;
}

export async function everyOperation(): Promise<unknown[]> {
  const agents = read(await client.GET('/v1/agents', { params: { query: { limit: 10 } } }));
  const keys = read(
    await client.GET('/v1/api-keys', { params: { query: { status: 'paused', unused_for: 90, expires_within: 14, q: 'CI' } } }),
  );
  const widgetKeys = read(await client.GET('/v1/widget-keys', { params: { query: { cursor: 'c' } } }));
  const events = read(await client.GET('/v1/audit-events', { params: { ...jwt, query: { action: 'agent.created' } } }));
  const created = read(await client.POST('/v1/agents', { body: { name: '生产环境' } }));
  const issued = read(
    await client.POST('/v1/api-keys', {
      params: jwt,
      body: {
        name: 'CI',
        expiry: '90d',
        scopes: ['agents:read', 'widget-sessions:write'],
        allowed_addresses: ['192.0.2.0/24'],
        limits: { per_minute: 30 },
      },
    }),
  );
  const widgetKey = read(await client.POST('/v1/widget-keys', { body: { name: 'Site', domain_allowlist: ['acme.com'] } }));
  const unused = read(await client.POST('/v1/widget-keys', { body: { name: 'Unused' } }));
  const guest = read(await client.POST('/v1/widget/auth/guest', { body: { client_key: widgetKey?.key ?? '' } }));
  return [
    agents?.map((one) => one.name),
    keys?.map((one) => one.hint),
    widgetKeys?.map((one) => one.domain_allowlist),
    events?.map((one) => one.actor),
    created?.status,
    issued?.key,
    unused?.snippet,
    read(await client.GET('/v1/agents/{agent_id}', { params: agent }))?.voice_provider,
    read(
      await client.PATCH('/v1/agents/{agent_id}', {
        params: { ...agent, header: { 'If-Match': '"tag"' } },
        body: { status: 'active', description: null },
      }),
    )?.updated_at,
    read(await client.DELETE('/v1/agents/{agent_id}', { params: agent })),
    read(await client.GET('/v1/agents/{agent_id}/widget-settings', { params: agent }))?.auth_mode,
    read(
      await client.PATCH('/v1/agents/{agent_id}/widget-settings', { params: agent, body: { widget_enabled: true } }),
    )?.widget_enabled,
    read(await client.POST('/v1/api-keys/{key_id}/rotate', { params: { ...key, ...jwt }, body: {} }))?.key,
    read(
      await client.PATCH('/v1/api-keys/{key_id}/former-secret', {
        params: { ...key, ...jwt },
        body: { ends_in_seconds: 0 },
      }),
    )?.former_secrets[0]?.late_uses,
    read(
      await client.PATCH('/v1/api-keys/{key_id}', { params: { ...key, ...jwt }, body: { disabled: true } }),
    )?.receipt?.workers,
    read(
      await client.PATCH('/v1/api-keys/{key_id}', { params: { ...key, ...jwt }, body: { scopes: null, paused: true } }),
    )?.scopes,
    read(
      await client.POST('/v1/api-keys/bulk', { params: jwt, body: { action: 'pause', ids: ['k'] } }),
    )?.results.map((one) => one.outcome),
    read(await client.DELETE('/v1/api-keys/{key_id}', { params: { ...key, ...jwt } }))?.outcome,
    read(
      await client.GET('/v1/usage', { params: { query: { interval: 'hour', group_by: 'route', start: '2026-01-01T00:00:00Z' } } }),
    )?.series.map((one) => one.points[0]?.calls),
    read(await client.GET('/v1/requests', { params: { query: { outcome: 'limited', code: 'rate_limited' } } }))?.map(
      (one) => one.limits[0]?.left,
    ),
    read(await client.GET('/v1/requests/{request}', { params: { path: { request: '0123456789abcdef' } } }))?.steps.map(
      (one) => one.result,
    ),
    read(await client.GET('/v1/api-keys/{key_id}/usage', { params: { ...key, query: { hours: 48 } } }))?.calls.refused,
    read(await client.POST('/v1/api-keys/{key_id}/revoke-preview', { params: { ...key, ...jwt } }))?.in_use,
    read(await client.GET('/v1/receipts/{receipt_id}', { params: { path: { receipt_id: 'r' }, ...jwt } }))?.times[0]
      ?.forgotten_ms,
    read(await client.GET('/v1/people', { params: jwt }))?.map((one) => one.block?.reason),
    read(await client.POST('/v1/people/{person_id}/end-sessions', { params: { ...person, ...jwt } }))?.receipt.ms,
    read(
      await client.PUT('/v1/people/{person_id}/block', {
        params: { ...person, ...jwt, query: { confirm: 'true' } },
        body: { reason: 'left' },
      }),
    )?.block?.created_by,
    read(await client.DELETE('/v1/people/{person_id}/block', { params: { ...person, ...jwt } }))?.last_seen_at,
    read(await client.GET('/v1/widget-keys/{key_id}', { params: key }))?.agent_id,
    read(await client.PATCH('/v1/widget-keys/{key_id}', { params: key, body: { disabled: true } }))?.receipt?.ms,
    read(await client.DELETE('/v1/widget-keys/{key_id}', { params: key }))?.receipt.acknowledged,
    read(await client.GET('/v1/widget-settings'))?.theme,
    read(await client.PATCH('/v1/widget-settings', { body: { theme: 'dark', title: null } }))?.title,
    read(await client.GET('/v1/me'))?.limits.per_minute.remaining,
    read(await client.GET('/v1/verify', { params: { query: { cost: 0 } } }))?.key_id,
    read(await client.GET('/v1/widget/config', { params: { query: { client_key: 'pk' } } }))?.branding.position,
    guest?.visitor_token,
    read(await client.POST('/v1/widget/auth/user-token', { body: { external_user_id: 'u' } }))?.user_token,
    read(
      await client.POST('/v1/widget/auth/exchange', { body: { client_key: 'pk', user_token: 'ut' } }),
    )?.refresh_token,
    read(await client.POST('/v1/widget/auth/refresh', { body: { refresh_token: 'rt' } }))?.expires_in,
    read(await client.GET('/v1/verify', { params: { query: { scope: 'reports:read' } } }))?.scopes,
    read(await client.GET('/v1/widget/jwks.json'))?.keys[0]?.kid,
  ];
}
