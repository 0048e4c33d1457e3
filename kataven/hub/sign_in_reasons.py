"""Reasons for failed sign-ins: a code for log and metric, a message for the user, and advice for the administrator.

`/help/sign-in` lists them all, and so does docs/zitadel.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kataven.identity.discovery import DiscoveryProblem
from kataven.identity.grants import RoleGap


class Reason(StrEnum):
    """The check that failed."""

    NOT_BEGUN = "not_begun"
    STATE = "state"
    ISSUER = "issuer"
    DENIED = "denied"
    REFUSED = "refused"
    NO_CODE = "no_code"
    TOKENS_REFUSED = "tokens_refused"
    CLIENT_REFUSED = "client_refused"
    TOKEN_MISSING = "token_missing"  # noqa: S105  a word
    ID_TOKEN = "id_token"  # noqa: S105  a word
    NONCE = "nonce"
    AT_HASH = "at_hash"
    OPAQUE_ACCESS_TOKEN = "opaque_access_token"  # noqa: S105  a word
    ACCESS_TOKEN_TOO_LONG = "access_token_too_long"  # noqa: S105  a word
    ACCESS_TOKEN = "access_token"  # noqa: S105  a word
    OTHER_PERSON = "other_person"


@dataclass(frozen=True, slots=True)
class Message:
    """The texts of the error page."""

    user: str
    admin: str | None = None
    """What to change, and where. None if the failure doesn't indicate a misconfiguration."""


_TRY_AGAIN = "You are not signed in. Try again."
_NOT_USABLE = (
    "The identity provider confirmed your identity, but the Hub can't use its tokens. Contact your administrator."
)
_REDIRECT = "The redirect URI of the application must be KATAVEN_HUB_URL followed by /auth/callback."
_ALGORITHMS = (
    "Its signature algorithm is not supported. The provider must sign with RS256, PS256, ES256 or EdDSA, and not with "
    "RS384, RS512, ES384 or ES512. In Zitadel, change the instance's web key. In Keycloak, change the client's "
    "signature algorithms."
)
_CLOCKS = "Compare the clocks of the Hub's host and of the provider."
_IN_THE_LOG = "The Hub's log contains the provider's error description, with the request ID of the failed sign-in."
_FAILED_CHECK = "The Hub's log names the failed check, with the request ID of the failed sign-in."

MESSAGES: dict[Reason, Message] = {
    Reason.NOT_BEGUN: Message(
        "This sign-in expired, was started in another browser, or was already used. Start the sign-in again."
    ),
    Reason.STATE: Message(
        "This sign-in was started in another browser, or a later sign-in replaced it. Start the sign-in again."
    ),
    Reason.ISSUER: Message(
        "The response came from an unexpected identity provider. Contact your administrator.",
        "KATAVEN_OIDC_ISSUER must equal the provider's `iss` exactly. In Zitadel, each domain of an instance is a "
        "separate issuer. Use the domain where users sign in.",
    ),
    Reason.DENIED: Message(_TRY_AGAIN),
    Reason.REFUSED: Message(
        "The identity provider rejected the sign-in request. Contact your administrator.", _IN_THE_LOG
    ),
    Reason.NO_CODE: Message(
        _TRY_AGAIN, "The provider returned neither a code nor an error. The Hub requires the authorization code flow."
    ),
    Reason.TOKENS_REFUSED: Message(
        "The identity provider did not confirm this sign-in. Try again.",
        f"Enable the grant types “authorization code” and “refresh token” for the Hub's application. {_IN_THE_LOG}",
    ),
    Reason.CLIENT_REFUSED: Message(
        "The identity provider rejected the Hub's client credentials. Contact your administrator.",
        "Compare KATAVEN_HUB_CLIENT_ID and KATAVEN_HUB_CLIENT_SECRET with the application at the provider. With a "
        "secret, the application's authentication method must be Basic. Without a secret, it must be none (PKCE).",
    ),
    Reason.TOKEN_MISSING: Message(
        _NOT_USABLE, "The provider returned no ID token or no access token. KATAVEN_HUB_SCOPES must contain `openid`."
    ),
    Reason.ID_TOKEN: Message(
        _NOT_USABLE,
        "The ID token was rejected. It must be signed with RS256, PS256, ES256 or EdDSA by a key of the provider's key "
        f"set, and contain KATAVEN_HUB_CLIENT_ID in `aud`. {_FAILED_CHECK}",
    ),
    Reason.NONCE: Message("The response belongs to another sign-in. Start the sign-in again."),
    Reason.AT_HASH: Message(_NOT_USABLE, "The `at_hash` of the ID token doesn't match the access token."),
    Reason.OPAQUE_ACCESS_TOKEN: Message(
        _NOT_USABLE,
        "The access token is opaque, but the API requires JWTs. Set the token type of the Hub's application to JWT. In "
        "Zitadel, open the application's “Token settings” and set “Auth token type”: JWT instead of Bearer token. In "
        "Auth0, set the tenant's “Default Audience” to the API's identifier.",
    ),
    Reason.ACCESS_TOKEN_TOO_LONG: Message(
        "Your access token is too long because you have roles in many organisations. Ask your administrator to limit "
        "the token to one account at a time.",
        "The access token is longer than 8 KiB, for example because it lists roles in many organisations. In Zitadel, "
        "add `urn:zitadel:iam:org:roles:id:{org_id}` to KATAVEN_HUB_SCOPES exactly as written. It limits the roles to "
        "the account's organisation. To use another account, users sign out and sign in again. With other providers, "
        "remove groups and roles that Kataven doesn't use.",
    ),
    Reason.ACCESS_TOKEN: Message(
        _NOT_USABLE,
        "The API would reject the access token. Its `aud` must contain KATAVEN_OIDC_AUDIENCE, and its algorithm must "
        f"be RS256, PS256, ES256 or EdDSA. {_FAILED_CHECK}",
    ),
    Reason.OTHER_PERSON: Message(
        _NOT_USABLE,
        "The ID token and the access token have different subjects (`sub`). In Okta, change the claim `sub` of access "
        "tokens in the authorization server to `(user != null) ? user.id : app.clientId`.",
    ),
}

_OF_ACCESS_TOKEN: dict[str, str] = {
    "audience": "The `aud` of the access token doesn't contain KATAVEN_OIDC_AUDIENCE. In Zitadel, "
    "KATAVEN_OIDC_AUDIENCE is the project's id, and KATAVEN_HUB_SCOPES must contain "
    "`urn:zitadel:iam:org:project:id:<project id>:aud`. In Keycloak, add an Audience mapper to the client. In Auth0, "
    "set the tenant's “Default Audience”. In Okta, it is the audience of the authorization server.",
    "no_jti": "The access token has neither a `jti` nor the type `at+jwt`, so it can't be distinguished from an ID "
    "token. In Auth0, set the API's “JSON Web Token (JWT) Profile” to RFC 9068.",
    "not_at_jwt": "The access token does not have the type `at+jwt`, which KATAVEN_OIDC_ACCESS_TOKENS requires. In "
    "Auth0, set the API's “JSON Web Token (JWT) Profile” to RFC 9068. With Zitadel, unset the variable.",
    "id_token": "The access token contains a claim of ID tokens, such as `nonce`. In Keycloak, remove the mapper "
    "“Nonce backwards compatible” from the client, or upgrade to Keycloak 25.",
    "client_not_allowed": "The access token was issued to a client that is not in KATAVEN_OIDC_CLIENT_IDS. Add the "
    "Hub's client id, or unset the variable.",
    "issuer": "The `iss` of the access token is not KATAVEN_OIDC_ISSUER. In Okta, use the URL of a custom "
    "authorization server, such as https://<domain>/oauth2/default.",
    "algorithm": f"The access token can't be verified. {_ALGORITHMS}",
    "times": f"The access token's times are invalid. {_CLOCKS}",
    "expired_credential": f"The access token has already expired. {_CLOCKS}",
}

_OF_ID_TOKEN: dict[str, str] = {
    "algorithm": f"The ID token can't be verified. {_ALGORITHMS}",
    "audience": "The `aud` of the ID token doesn't contain KATAVEN_HUB_CLIENT_ID. Set it to the client id that the "
    "provider shows for the Hub's application.",
    "times": f"The ID token's times are invalid. {_CLOCKS}",
    "expired_credential": f"The ID token has already expired. {_CLOCKS}",
}

OF_CHECKS: dict[Reason, dict[str, str]] = {Reason.ACCESS_TOKEN: _OF_ACCESS_TOKEN, Reason.ID_TOKEN: _OF_ID_TOKEN}
"""Advice by the failed check of a token (`Refused.rule`). It takes precedence over the advice of the reason."""

OF_ERRORS: dict[str, str] = {
    "invalid_scope": "The provider doesn't support a requested scope. Compare KATAVEN_HUB_SCOPES with the scopes that "
    "the application may request.",
    "unauthorized_client": "The Hub's application may not use the authorization code grant. Enable it, with PKCE.",
    "unsupported_response_type": "Enable the response type `code` for the Hub's application.",
    "invalid_request": f"{_IN_THE_LOG} {_REDIRECT} Pushed authorization requests must not be required.",
    "invalid_grant": f"The code expired or was already used. If every sign-in fails with this error: {_REDIRECT}",
    "server_error": f"The provider reported an internal error. {_IN_THE_LOG}",
    "temporarily_unavailable": "The provider is overloaded. Try again later.",
}
"""Advice by the issuer's error code (RFC 6749, sections 4.1.2.1 and 5.2)."""

OF_ROLES: dict[RoleGap, str] = {
    RoleGap.NO_CLAIM: "The access token contains none of the claims in KATAVEN_OIDC_ROLE_CLAIMS. In Zitadel, enable "
    "“Assert Roles on Authentication” in the project and “Add user roles to the access token” in the application, and "
    "give the user a role in the project, in the account's organisation. With other providers, add the claim to access "
    "tokens.",
    RoleGap.NOT_READABLE: "The access token contains no role that Kataven can read. A claim in "
    'KATAVEN_OIDC_ROLE_CLAIMS must be a JSON object such as {"owner": {"<organisation id>": "<domain>"}}, with the '
    "roles `owner`, `admin`, `member` or `operator`.",
    RoleGap.ELSEWHERE: "The access token contains roles, but none in this account's organisation. In Zitadel, grant "
    "the project to that organisation and give the user a role there. `flask accounts show` prints the organisation's "
    "id.",
}
"""Advice for the administrator if a user has no role in an account."""

OF_DISCOVERY: dict[DiscoveryProblem, str] = {
    DiscoveryProblem.UNREACHABLE: "The Hub could not fetch /.well-known/openid-configuration of KATAVEN_OIDC_ISSUER. "
    "Run `flask oidc check` on the Hub's host to see the cause.",
    DiscoveryProblem.NO_DOCUMENT: "The document at KATAVEN_OIDC_ISSUER/.well-known/openid-configuration is not JSON.",
    DiscoveryProblem.OTHER_ISSUER: "The discovery document names another issuer. KATAVEN_OIDC_ISSUER must equal its "
    "`issuer` exactly: with the slash at the end at Auth0, with the realm's path at Keycloak, and at Zitadel with the "
    "domain where users sign in.",
    DiscoveryProblem.NO_ENDPOINT: "The discovery document has no authorization or token endpoint with an https URL.",
}
"""Advice for the administrator if the issuer's discovery document can't be used."""


def checklist() -> list[tuple[str, str, list[str]]]:
    """All reasons for a failed sign-in: the anchor, the message, and the advice."""
    reasons: list[tuple[str, str, list[str]]] = []
    for reason, message in MESSAGES.items():
        advice = [message.admin] if message.admin else []
        advice += OF_CHECKS.get(reason, {}).values()
        if reason is Reason.REFUSED:
            advice += [f"`{error}`: {text}" for error, text in OF_ERRORS.items()]
        reasons.append((reason.value, message.user, advice))
    reasons += [(gap.value, "You have no role in this account.", [text]) for gap, text in OF_ROLES.items()]
    reasons += [
        (problem.value, "The identity provider can't be used.", [text]) for problem, text in OF_DISCOVERY.items()
    ]
    return reasons
