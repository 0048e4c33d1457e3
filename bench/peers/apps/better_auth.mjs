// Better Auth with its API-key plugin, and an HTTP server of Node.js that lists the agents.
//
//     node better_auth.mjs prepare     create the tables, a user and a key, and print the key
//     node better_auth.mjs serve
//
// BENCH_MODE is the plugin's storage, `database` or `redis` (secondary storage), or the same with `deferUpdates`:
// `deferred` or `redis-deferred`.

import { createServer } from "node:http";
import { apiKey } from "@better-auth/api-key";
import { redisStorage } from "@better-auth/redis-storage";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { Redis } from "ioredis";
import pg from "pg";

const { BENCH_MODE, BENCH_DATABASE, BENCH_LIMITS, BENCH_SECRET, PORT } = process.env;
const COLUMNS =
  "id, name, description, category, status, system_prompt, greeting_message, greeting_mode, llm_model, voice_provider, " +
  "voice_id, auth_mode, ringing_enabled, background_audio_enabled, background_audio_volume, noise_suppression_enabled, " +
  "widget_enabled, widget_auth_mode, created_at, updated_at, created_by";
const AGENTS = { name: "agents", text: `SELECT ${COLUMNS} FROM agents ORDER BY created_at DESC, id DESC LIMIT 50` };

const pool = new pg.Pool({ connectionString: BENCH_DATABASE });
const socket = new URL(BENCH_LIMITS);
const redis =
  BENCH_MODE.startsWith("redis")
    ? new Redis({ path: socket.pathname, db: Number(socket.searchParams.get("db")) })
    : undefined;
const auth = betterAuth({
  database: pool,
  secret: BENCH_SECRET,
  baseURL: "http://127.0.0.1",
  emailAndPassword: { enabled: true },
  logger: { level: "error" },
  telemetry: { enabled: false },
  ...(redis && { secondaryStorage: redisStorage({ client: redis }) }),
  advanced: { backgroundTasks: { handler: (work) => void work } },
  plugins: [
    apiKey({
      storage: redis ? "secondary-storage" : "database",
      deferUpdates: BENCH_MODE.endsWith("deferred"),
      rateLimit: { enabled: true, timeWindow: 60_000, maxRequests: 1_000_000 },
    }),
  ],
});

if (process.argv[2] === "prepare") {
  await (await getMigrations(auth.options)).runMigrations();
  const { user } = await auth.api.signUpEmail({
    body: { name: "Bench", email: `${BENCH_MODE}@example.com`, password: BENCH_SECRET },
  });
  console.log((await auth.api.createApiKey({ body: { userId: user.id } })).key);
  process.exit();
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(error);
    send(response, 500, { error: "internal" });
  });
});
server.keepAliveTimeout = 600_000; // a connection is idle while the other systems are measured
server.listen(Number(PORT), "127.0.0.1");

async function handle(request, response) {
  const key = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const verified = await auth.api.verifyApiKey({ body: { key } });
  if (!verified.valid) {
    return send(response, verified.error.code === "RATE_LIMITED" ? 429 : 401, { error: verified.error.code });
  }
  // The plugin sends no header. These are the counts that it returns.
  const { rateLimitMax, requestCount, rateLimitTimeWindow } = verified.key;
  response.setHeader("X-RateLimit-Limit", rateLimitMax);
  response.setHeader("X-RateLimit-Remaining", rateLimitMax - requestCount);
  response.setHeader("X-RateLimit-Reset", rateLimitTimeWindow / 1000);
  if (request.url === "/v1/verify") {
    return send(response, 200, { account: verified.key.referenceId });
  }
  return send(response, 200, (await pool.query(AGENTS)).rows);
}

function send(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}
