// A third-party OpenID Connect provider, configured like those of customers.
//
// Prints one line of JSON with the address of its control server, and exits when its standard input closes. `POST /issuers`
// on that server starts an issuer with the given shape on a separate port; see tests/support/independent_issuer.py.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { generateKeyPair, exportJWK, decodeJwt, decodeProtectedHeader, importJWK, SignJWT } from "jose";
import Provider from "oidc-provider";

const RESOURCE = "urn:kataven:api";
const ROLES_OF_ONE = /^urn:zitadel:iam:org:roles:id:(.+)$/;
const PROVIDERS = new Map();

// The provider's console warnings concern production use.
for (const level of ["info", "warn"]) console[level] = () => {};

const KEYS = await Promise.all(
  [["RS256", "rsa"], ["ES256", "p256"], ["ES384", "p384"], ["EdDSA", "ed"]].map(async ([alg, kid]) => {
    const { privateKey } = await generateKeyPair(alg, { extractable: true });
    return { ...(await exportJWK(privateKey)), kid, use: "sig" }; // no `alg`: the RSA key signs RS256, PS256 and RS512
  }),
);

async function resign(token, change) {
  const header = decodeProtectedHeader(token);
  const key = await importJWK(KEYS.find(({ kid }) => kid === header.kid), header.alg);
  return new SignJWT({ ...decodeJwt(token), ...change }).setProtectedHeader(header).sign(key);
}

// An access token as the provider signs it, without a sign-in for each of many users.
async function accessToken(issuer, sub) {
  const { shape } = PROVIDERS.get(issuer);
  const now = Math.floor(Date.now() / 1000);
  const claims = { ...claimsFor(shape, []), iss: issuer, sub, aud: shape.audience, client_id: shape.client_id,
                   iat: now, exp: now + shape.lifetime_seconds, jti: randomUUID() };
  const key = await importJWK(KEYS.find(({ kid }) => kid === "rsa"), shape.access_algorithm);
  return new SignJWT(claims).setProtectedHeader({ alg: shape.access_algorithm, kid: "rsa", typ: shape.access_type }).sign(key);
}

// Any token with the provider's key, such as a security event token.
async function signed(issuer, typ, claims) {
  const { shape } = PROVIDERS.get(issuer);
  const key = await importJWK(KEYS.find(({ kid }) => kid === "rsa"), shape.access_algorithm);
  return new SignJWT(claims).setProtectedHeader({ alg: shape.access_algorithm, kid: "rsa", typ }).sign(key);
}

// An opaque access token. The provider introspects only these: it does not store JWTs.
async function opaqueToken(issuer, sub) {
  const { provider, shape } = PROVIDERS.get(issuer);
  const client = await provider.Client.find(shape.client_id);
  const token = new provider.AccessToken({ accountId: sub, client, scope: "openid" });
  return token.save();
}

// The user's session ends at the provider: the token is not active any more.
async function revokeToken(issuer, token) {
  const { provider } = PROVIDERS.get(issuer);
  await (await provider.AccessToken.find(token)).destroy();
}

// Resolves when the client has confirmed that the user is signed out.
async function signOut(issuer, sub) {
  const { provider, shape } = PROVIDERS.get(issuer);
  const client = await provider.Client.find(shape.client_id);
  await client.backchannelLogout(sub, undefined);
}

function claimsFor(shape, scopes) {
  const only = scopes.map((scope) => ROLES_OF_ONE.exec(scope)?.[1]).find(Boolean);
  if (!only) return shape.access_claims;
  const inOrganisation = ([, organisations]) => only in organisations;
  const limited = (roles) =>
    Object.entries(roles).filter(inOrganisation).map(([role, organisations]) => [role, { [only]: organisations[only] }]);
  const claims = { ...shape.access_claims };
  for (const name of Object.keys(claims).filter((name) => name.endsWith(":roles"))) {
    claims[name] = Object.fromEntries(limited(claims[name]));
    if (Object.keys(claims[name]).length === 0) delete claims[name];
  }
  return claims;
}

function configuration(shape, provider, login) {
  const scopes = shape.scopes.split(" ");
  return {
    jwks: { keys: KEYS },
    scopes,
    clients: [
      {
        client_id: shape.client_id,
        client_secret: shape.client_secret ?? undefined,
        token_endpoint_auth_method: shape.client_secret ? "client_secret_basic" : "none",
        redirect_uris: [shape.redirect_uri],
        post_logout_redirect_uris: [shape.post_logout_uri],
        grant_types: ["authorization_code", "refresh_token"],
        id_token_signed_response_alg: shape.id_algorithm,
        ...(shape.backchannel_logout_uri && { backchannel_logout_uri: shape.backchannel_logout_uri }),
      },
      ...shape.introspection_clients,
    ],
    // Its dispatcher refuses loopback addresses, where the Hub is.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], profile: ["name"], email: ["email"] },
    ttl: { AccessToken: shape.lifetime_seconds, IdToken: shape.lifetime_seconds, Grant: 86400, Session: 86400,
           Interaction: 3600, RefreshToken: 2592000 },
    cookies: { keys: ["not secret"] },
    interactions: { url: (_, interaction) => `${login}/sign-in/${interaction.uid}` },
    issueRefreshToken: async (_, client, code) =>
      client.grantTypeAllowed("refresh_token") && (shape.refreshes_without_consent || code.scopes.has("offline_access")),
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...shape.id_claims }) }),
    async loadExistingGrant(ctx) {
      const { client, session, params } = ctx.oidc;
      const grant = new (provider().Grant)({ clientId: client.clientId, accountId: session.accountId });
      const requested = params.scope.split(" ");
      const granted = shape.granted_scopes ? shape.granted_scopes.split(" ") : requested;
      const refused = requested.filter((scope) => !granted.includes(scope)).join(" ");
      grant.addOIDCScope(granted.join(" "));
      grant.addResourceScope(RESOURCE, granted.join(" "));
      if (refused) {
        grant.rejectOIDCScope(refused);
        grant.rejectResourceScope(RESOURCE, refused);
      }
      await grant.save();
      return grant;
    },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: { enabled: true },
      introspection: { enabled: shape.introspection_clients.length > 0 },
      backchannelLogout: { enabled: Boolean(shape.backchannel_logout_uri) },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: shape.requires_par },
      resourceIndicators: {
        enabled: shape.audience !== null,
        defaultResource: () => RESOURCE,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: shape.scopes,
          audience: RESOURCE,
          accessTokenFormat: "jwt",
          accessTokenTTL: shape.lifetime_seconds,
          jwt: { sign: { alg: shape.access_algorithm } },
        }),
      },
    },
    formats: {
      customizers: {
        jwt(ctx, _, parts) {
          const { AuthorizationCode: code, RefreshToken: refresh } = ctx.oidc.entities;
          const scopes = [...(code ?? refresh).scopes];
          parts.header = { typ: shape.access_type };
          Object.assign(parts.payload, { aud: shape.audience }, claimsFor(shape, scopes));
          for (const name of shape.access_omits) delete parts.payload[name];
        },
      },
    },
  };
}

async function issue(shape) {
  let handler = null;
  const server = createServer((request, response) => handler(request, response));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${server.address().port}${shape.path}`;
  const login = `http://${shape.login_host}:${control.address().port}`;
  let provider = null;
  provider = new Provider(issuer, configuration(shape, () => provider, login));
  provider.on("server_error", (_, error) => console.error(error));
  provider.use(async (ctx, next) => {
    if (shape.signs_out_elsewhere && ctx.path === "/session/end" && !ctx.query.confirmed) {
      const back = `${issuer}/session/end?${new URLSearchParams({ ...ctx.query, confirmed: "1" })}`;
      ctx.redirect(`${login}/sign-out?${new URLSearchParams({ back })}`);
      return;
    }
    await next();
    if (ctx.path === "/token" && ctx.body?.id_token) {
      ctx.body.id_token = await resign(ctx.body.id_token, shape.id_audience ? { aud: shape.id_audience } : {});
    }
  });
  const serve = provider.callback();
  const mounted = shape.path.replace(/\/$/, "");
  handler = (request, response) => {
    request.originalUrl = request.url;
    request.url = request.url.slice(mounted.length);
    serve(request, response);
  };
  PROVIDERS.set(issuer, { provider, shape });
  return { issuer };
}

// The login pages, on another host than the issuers.
async function signIn(uid) {
  for (const { provider, shape } of PROVIDERS.values()) {
    const interaction = await provider.Interaction.find(uid);
    if (!interaction) continue;
    interaction.result = { login: { accountId: shape.subject } };
    await interaction.save(interaction.exp - Math.floor(Date.now() / 1000));
    return interaction.returnTo;
  }
  return null;
}

const page = (response, html) => {
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
  response.end(`<!doctype html><html lang="en"><title>Independent issuer</title><body>${html}</body></html>`);
};

const json = (response, value) => {
  response.writeHead(200, { "Content-Type": "application/json" });
  response.end(JSON.stringify(value));
};

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const control = createServer(async (request, response) => {
  const url = new URL(request.url, "http://control");
  if (url.pathname === "/issuers") return json(response, await issue(JSON.parse(await body(request))));
  if (url.pathname === "/expired") {
    const now = Math.floor(Date.now() / 1000);
    return json(response, { token: await resign(await body(request), { iat: now - 7200, exp: now - 3600 }) });
  }
  if (url.pathname === "/signed") {
    const { issuer, typ, claims } = JSON.parse(await body(request));
    return json(response, { token: await signed(issuer, typ, claims) });
  }
  if (url.pathname === "/opaque-token") {
    const { issuer, sub } = JSON.parse(await body(request));
    return json(response, { token: await opaqueToken(issuer, sub) });
  }
  if (url.pathname === "/revoke-token") {
    const { issuer, token } = JSON.parse(await body(request));
    return json(response, { revoked: (await revokeToken(issuer, token)) ?? true });
  }
  if (url.pathname === "/access-token" || url.pathname === "/backchannel-logout") {
    const { issuer, sub } = JSON.parse(await body(request));
    if (url.pathname === "/access-token") return json(response, { token: await accessToken(issuer, sub) });
    try {
      await signOut(issuer, sub);
      return json(response, { confirmed: true });
    } catch (error) {
      return json(response, { confirmed: false, error: String(error) });
    }
  }
  if (url.pathname === "/sign-out") {
    const back = url.searchParams.get("back").replaceAll("&", "&amp;").replaceAll('"', "&quot;");
    return page(response, `<a id="confirm" href="${back}">Sign out here too</a>`);
  }
  if (request.method === "GET") return page(response, `<form method="post"><button id="sign-in">Sign in</button></form>`);
  response.writeHead(303, { Location: await signIn(url.pathname.split("/").at(-1)) }).end();
});
control.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ control: `http://127.0.0.1:${control.address().port}` })));
process.stdin.resume().on("end", () => process.exit());
