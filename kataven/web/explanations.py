"""What each error code means, and what to do about it: for the page that a problem's `type` leads to."""

EXPLANATIONS = {
    "malformed_token": "The bearer token is neither an API key nor a JWT, or a character of it was lost or changed. "
    "Copy it again, whole. Nothing was looked up.",
    "missing_account": "A JWT can reach several accounts, so say which one: `X-Account-ID: acme`.",
    "invalid_account": "`X-Account-ID` holds no account's name. Names are 1 to 63 of `a-z 0-9 _ -` and begin with a "
    "letter or a digit.",
    "invalid_request": "The body, the query or a header does not fit. `errors` names each field and says what is wrong "
    "with it, 50 at most.",
    "malformed_request": "The request is not well-formed HTTP: a header line without a colon, a broken chunk, a body "
    "that ends too early. The connection is closed.",
    "expiry_exceeds_policy": "The account lets keys live only so long. Choose one of the expiries that the text names.",
    "missing_credential": "Send `Authorization: Bearer …` with an API key or a JWT.",
    "not_a_credential": "A widget key (`pk_live_…`) is public and opens nothing. Use an API key or a JWT.",
    "invalid_credential": "Nobody we know issued this credential: an unknown or removed key, a bad signature, another "
    "issuer or audience.",
    "expired_credential": "The credential was good and has reached its end. Mint a new key, or sign in again.",
    "reserved_account": "`kataven-admin` belongs to the operators and has no API resources.",
    "account_mismatch": "The credential is good, but not for the account that was asked for.",
    "revoked_credential": "Somebody ended this key. It stays ended: mint a new one.",
    "account_suspended": "The account is closed for now. Ask us, or whoever runs this installation.",
    "forbidden": "The caller may not do this: the role is too low, or API keys are not let in here.",
    "agent_missing": "The widget key is not pinned to an agent, so the page has to name one: `data-agent` in the "
    "script tag, `agent_id` in the request.",
    "unknown_widget_key": "Nobody made this widget key, or it was removed. Make one, and paste its snippet.",
    "widget_key_disabled": "Somebody disabled the widget key, now or since the visit began. Enabled again, it serves "
    "new visits.",
    "origin_refused": "The page is not on the widget key's `domain_allowlist`, or the request does not say which page "
    "it comes from (`Origin`, else `Referer`; `null` never counts). Add the page's domain to the list.",
    "wrong_agent": "The widget key is pinned to one agent, and another was asked for.",
    "unknown_agent": "The account of this widget key has no such agent, or it was deleted.",
    "agent_not_active": "Only agents whose `status` is `active` take visitors.",
    "widget_off": "`widget_enabled` is false in the agent's widget settings.",
    "visitor_kind_forbidden": "`auth_mode` in the agent's widget settings does not take this kind of visitor: `guest` "
    "or `user`.",
    "user_token_unknown": "We know of no such user token: it was never issued, or we have forgotten it. Nobody is let "
    "in then. Let your server ask for a new one.",
    "user_token_expired": "A user token is good for five minutes. Let your server ask for a new one.",
    "user_token_used": "A user token is good once. If it was not you who used it, somebody else has come in as this "
    "user.",
    "user_token_of_another_account": "The user token was made for one account and shown with another's widget key. It "
    "stays good for its own.",
    "refresh_token_unknown": "We know of no such visit, or it is over: two hours without a refresh, or a day in all. "
    "Begin a new one.",
    "refresh_token_reused": "A refresh token is good once. This one was used before, so two parties hold tokens of the "
    "same visit, and the visit is over for both.",
    "minting_key_ended": "The API key whose server vouched for this user was revoked, has expired or was removed; so "
    "all visits that it vouched for end.",
    "widget_not_configured": "This installation has no key to sign visitor tokens with. Its operator has to set "
    "`KATAVEN_WIDGET_SIGNING_KEYS`.",
    "not_found": "There is no such thing in this account, or nothing at this path.",
    "method_not_allowed": "This path exists, and answers other methods: see `Allow`.",
    "request_timeout": "The request did not arrive in time: its head and its body have 10 seconds each. The connection "
    "is closed. Send the request again.",
    "precondition_failed": "It was changed since the ETag in `If-Match` was given out. Nothing was done: read it "
    "again and decide anew.",
    "payload_too_large": "The body is over the operation's limit, which the text names: 8 KiB to 1 MiB. Nothing of it "
    "was parsed.",
    "uri_too_long": "Request lines are at most 8,190 bytes.",
    "unsupported_media_type": "Send JSON, with `Content-Type: application/json`.",
    "expectation_failed": "The only expectation that is met is `Expect: 100-continue`.",
    "rate_limited": "One of the limits is used up; the text says which. Wait for `Retry-After` seconds. The refused "
    "request counted nowhere.",
    "too_many_visits": "The widget key, its account or the installation has as many visits as may be kept at a time. "
    "Visits that have begun go on. Try again after `Retry-After` seconds, when the next ones end.",
    "headers_too_large": "The request line and all headers together are at most 64 KiB, in at most 100 headers.",
    "internal_error": "Our fault. Tell us the `request_id`.",
    "unsupported_transfer_coding": "The only transfer coding that is taken is `chunked`.",
    "schema_mismatch": "The account's database is being brought to another version. Try again soon.",
    "unavailable": "Something that this request needs can't be reached. Try again after `Retry-After` seconds; other "
    "accounts may be well.",
}
