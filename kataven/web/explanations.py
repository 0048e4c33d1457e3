"""The explanation of each problem code and how to fix it, for the page that a problem's `type` leads to."""

EXPLANATIONS = {
    "malformed_token": "The bearer token is neither an API key nor a JWT, or one of its characters is missing or "
    "changed. Copy the complete token again. The API rejected it without a lookup.",
    "missing_account": "A JWT can grant access to several accounts. Specify the account in `X-Account-ID`, for example "
    "`X-Account-ID: acme`.",
    "invalid_account": "`X-Account-ID` is not a valid account name. Account names have 1 to 63 characters of "
    "`a-z 0-9 _ -` and start with a letter or a digit.",
    "invalid_request": "The body, the query string or a header is invalid. `errors` lists each invalid field and what "
    "is wrong with it, up to 50 fields.",
    "malformed_request": "The request is not well-formed HTTP: for example a header line without a colon, an invalid "
    "chunk, or a body that ends too early. The server closes the connection.",
    "expiry_exceeds_policy": "The requested expiry exceeds the account's policy. Choose one of the values of `expiry` "
    "that `detail` lists.",
    "missing_credential": "The request has no credential. Send `Authorization: Bearer …` with an API key or a JWT.",
    "not_a_credential": "A widget key (`pk_live_…`) is public and does not grant access to the API. Use an API key or "
    "a JWT.",
    "invalid_credential": "The credential is not recognized: the API key is unknown or was removed, the signature is "
    "invalid, or the issuer or the audience is wrong.",
    "expired_credential": "The credential has expired. Create a new API key, or sign in again.",
    "session_ended": "Your sessions were ended after this token was issued: by an owner or admin, by an operator, or "
    "by the identity provider. Sign in again to get a new token.",
    "reserved_account": "`kataven-admin` is reserved for operators and has no API resources.",
    "account_mismatch": "The credential is valid, but does not grant access to the requested account.",
    "revoked_credential": "The API key was revoked. A revoked key can't be restored. Create a new one.",
    "rotated_credential": "The secret of this API key was rotated, and its grace period has ended. Use the key's new "
    "secret. The key shows how often, when and from where the former secret was used.",
    "paused_credential": "The API key is paused. A user with the role owner or admin can resume it, in the Hub or with "
    "`PATCH /v1/api-keys/{id}` and `paused: false`.",
    "credential_not_yet_valid": "The API key was created with a `not_before` that has not been reached.",
    "address_not_allowed": "The API key has `allowed_addresses` or `denied_addresses`, and the client's address does "
    "not match. `detail` states the address that the API sees. If it is that of a proxy, the operator must set "
    "`KATAVEN_TRUSTED_PROXIES`.",
    "browser_use": "The request has an `Origin` or `Sec-Fetch-Site` header, so a browser sent the API key, and every "
    "visitor of the page can read it. Revoke the key, and call the API from your server. If the caller is not a web "
    "page, create a key with `from_browsers: true`.",
    "insufficient_scope": "The API key does not have the scope that `WWW-Authenticate` names. Create a key with this "
    "scope: the scopes of a key can only be reduced.",
    "account_suspended": "The account is suspended. Contact us, or the operator of this installation.",
    "access_blocked": "An owner or admin blocked this user in the account. The block remains until it is lifted, "
    "whatever the token says.",
    "forbidden": "The caller is not allowed to perform this operation: the role is insufficient, or the operation does "
    "not accept API keys.",
    "agent_missing": "The widget key is not pinned to an agent, so the page must specify one: `data-agent` in the "
    "script tag, `agent_id` in the request.",
    "unknown_widget_key": "The widget key does not exist, or was removed. Create a widget key, and paste its snippet "
    "into the page.",
    "widget_key_disabled": "The widget key is disabled, or was disabled after the visitor session started. A key that "
    "is enabled again accepts new visitor sessions only.",
    "origin_refused": "The page's origin is not in the widget key's `domain_allowlist`, or the request does not state "
    "its origin (`Origin`, otherwise `Referer`; `null` is never accepted). Add the page's domain to the list.",
    "wrong_agent": "The widget key is pinned to one agent, and the request specifies another. Omit `agent_id`, or use "
    "a widget key without a pinned agent.",
    "unknown_agent": "The agent does not exist in the account of this widget key, or was deleted.",
    "agent_not_active": "Only agents whose `status` is `active` accept visitors.",
    "widget_off": "`widget_enabled` is false in the agent's widget settings.",
    "visitor_kind_forbidden": "`auth_mode` in the agent's widget settings does not allow this type of visitor: "
    "`guest` or `user`.",
    "user_token_unknown": "The user token is not recognized: it was never issued, or its record was lost. The API "
    "rejects unknown tokens. Request a new one from your server.",
    "user_token_expired": "A user token is valid for five minutes. Request a new one from your server.",
    "user_token_used": "A user token can be used once. If your page did not use it, another client has started a "
    "session as this user.",
    "user_token_of_another_account": "The user token was created in one account and sent with the widget key of "
    "another. It remains valid for its own account.",
    "refresh_token_unknown": "The refresh token is not recognized, or its visitor session has ended: after two hours "
    "without a refresh, or after a day in total. Start a new session.",
    "refresh_token_reused": "A refresh token can be used once. This one was used before, so two clients hold tokens of "
    "the same visitor session. The session has ended for both. Start a new session.",
    "minting_key_ended": "The API key that created this user token was revoked, was removed or has expired. All "
    "visitor sessions that were created with it have ended.",
    "widget_not_configured": "This installation has no key to sign visitor tokens. The operator must set "
    "`KATAVEN_WIDGET_SIGNING_KEYS`.",
    "not_found": "The resource does not exist in this account, or no resource exists at this path.",
    "method_not_allowed": "The path does not support this method. `Allow` lists the supported methods.",
    "request_timeout": "The request did not arrive in time: its headers and its body each have 10 seconds. The server "
    "closes the connection. Send the request again.",
    "conflict": "The request is valid, but the current state of the resource does not allow it. `detail` names the "
    "state. Fetch the resource again and change it, or change your request.",
    "idempotency_mismatch": "The `Idempotency-Key` was used within 24 hours for a request with another body or path. "
    "Nothing was changed. Use a new key for each request, and repeat a request without changes.",
    "idempotency_in_progress": "Another request with the same `Idempotency-Key` is in progress. Repeat the request "
    "after `Retry-After` seconds: it then returns the response to the first request.",
    "idempotency_secret_expired": "The first request with this `Idempotency-Key` succeeded. Its response had a secret, "
    "which is not stored and is returned again for ten minutes only. `detail` names the key. If you don't have the "
    "secret, delete the key or rotate it, with a new `Idempotency-Key`.",
    "precondition_failed": "The resource changed after you fetched it, so its ETag no longer matches `If-Match`. Your "
    "update was not applied. Fetch it again and retry.",
    "payload_too_large": "The body exceeds the operation's limit of 8 KiB to 1 MiB, which `detail` states. The API did "
    "not parse it.",
    "uri_too_long": "The request line exceeds 8,190 bytes.",
    "unsupported_media_type": "The body is not JSON. Send JSON with `Content-Type: application/json`.",
    "expectation_failed": "The only supported expectation is `Expect: 100-continue`.",
    "rate_limited": "The request exceeds a rate limit, which `detail` names. Wait for `Retry-After` seconds. Rejected "
    "requests don't count toward any limit.",
    "too_many_visits": "The widget key, its account or the installation has reached its maximum number of visitor "
    "sessions. Existing sessions continue. Retry after `Retry-After` seconds, when sessions expire.",
    "headers_too_large": "The request line and all headers together exceed 64 KiB, or the request has more than 100 "
    "headers.",
    "internal_error": "Something went wrong on our side. Contact us with the `request_id`.",
    "unsupported_transfer_coding": "The only supported transfer coding is `chunked`.",
    "schema_mismatch": "The account's database is being migrated to another version. Retry after `Retry-After` "
    "seconds.",
    "gateway_misconfigured": "The gateway in front of this API calls `/v1/verify` with parameters that don't exist or "
    "have a wrong value. `errors` names them. Only the operator of the gateway can fix this.",
    "unavailable": "A dependency of this request is unavailable, or the server is overloaded. Retry after "
    "`Retry-After` seconds. Other accounts may not be affected.",
}
