"""Reasons for failed sign-ins: a code for log and metric, a message for the user, and advice for the administrator.

`/help/sign-in` lists them all, and so does docs/zitadel.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kataven.hub.discovery import DiscoveryProblem
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
    """The texts of the page."""

    user: str
    admin: str | None = None
    """What to change, and where. None if the failure doesn't indicate a wrong configuration."""


_AGAIN = "You are not signed in. You can try again."
_NOT_USABLE = "The identity provider confirmed your identity, but the Hub can't use the tokens that it sent."
_REDIRECT = "The redirect URI of the application must be KATAVEN_HUB_URL followed by /auth/callback."
_ALGORITHMS = (
    "Its signature algorithm is not accepted. The provider must sign with RS256, PS256, ES256 or EdDSA, and not with "
    "RS384, RS512, ES384 or ES512. At Zitadel: choose the instance's web key; at Keycloak: the client's signature "
    "algorithms."
)
_CLOCKS = "Its times don't fit. Compare the clocks of the Hub's host and of the provider."
_IN_THE_LOG = "The Hub's log contains the provider's error description. Search for the page's request id."

MESSAGES: dict[Reason, Message] = {
    Reason.NOT_BEGUN: Message("This sign-in expired, was started in another browser, or was tried before."),
    Reason.STATE: Message("This sign-in was started elsewhere, or a later one replaced it."),
    Reason.ISSUER: Message(
        "The response came from an unexpected identity provider.",
        "KATAVEN_OIDC_ISSUER must be what the provider says in `iss`, to the letter. At Zitadel each domain of an "
        "instance is an issuer of its own: use the one that people sign in at.",
    ),
    Reason.DENIED: Message(_AGAIN),
    Reason.REFUSED: Message("The identity provider rejected the sign-in request.", _IN_THE_LOG),
    Reason.NO_CODE: Message(
        _AGAIN, "The provider sent neither a code nor an error. The Hub uses the authorization code flow."
    ),
    Reason.TOKENS_REFUSED: Message(
        "The identity provider did not confirm this sign-in. You can try again.",
        f"Enable the grant types “authorization code” and “refresh token” for the Hub's application. {_IN_THE_LOG}",
    ),
    Reason.CLIENT_REFUSED: Message(
        "The identity provider did not accept the Hub's client credentials.",
        "Compare KATAVEN_HUB_CLIENT_ID and KATAVEN_HUB_CLIENT_SECRET with the application there. With a secret, the "
        "application's method must be Basic; without one, it must be none (PKCE).",
    ),
    Reason.TOKEN_MISSING: Message(
        _NOT_USABLE, "The provider sent no ID token or no access token. KATAVEN_HUB_SCOPES must contain `openid`."
    ),
    Reason.ID_TOKEN: Message(
        _NOT_USABLE,
        "The ID token was refused. It must be signed with RS256, PS256, ES256 or EdDSA by a key of the provider's key "
        "set, and name KATAVEN_HUB_CLIENT_ID in `aud`. The Hub's log names the failed check. Search for the page's "
        "request id.",
    ),
    Reason.NONCE: Message("The response belongs to another sign-in. You can try again."),
    Reason.AT_HASH: Message(_NOT_USABLE, "The `at_hash` of the ID token doesn't match the access token."),
    Reason.OPAQUE_ACCESS_TOKEN: Message(
        _NOT_USABLE,
        "The access token is opaque, and the API verifies JWTs. Set the token type of the Hub's application to JWT. At"
        " Zitadel: the application's “Token settings”, “Auth token type”: JWT instead of Bearer token. At Auth0: set "
        "the tenant's “Default Audience” to the API's identifier.",
    ),
    Reason.ACCESS_TOKEN_TOO_LONG: Message(
        "You have roles in so many organisations that your access token is too long. Your administrator can limit it "
        "to one account at a time.",
        "The access token is longer than 8 KiB, for example because it lists roles in many organisations. At Zitadel, "
        "add `urn:zitadel:iam:org:roles:id:{org_id}` to KATAVEN_HUB_SCOPES as it stands: it limits the roles to those "
        "in the account's organisation. To use another account, people sign out and in again. At other providers, "
        "leave out groups and roles that are not Kataven's.",
    ),
    Reason.ACCESS_TOKEN: Message(
        _NOT_USABLE,
        "The API would refuse the access token. Its `aud` must contain KATAVEN_OIDC_AUDIENCE, and its algorithm must "
        "be RS256, PS256, ES256 or EdDSA. The Hub's log names the failed check. Search for the page's request id.",
    ),
    Reason.OTHER_PERSON: Message(
        _NOT_USABLE,
        "The ID token and the access token have different subjects (`sub`). At Okta, change the claim `sub` of access "
        "tokens in the authorization server to `(user != null) ? user.id : app.clientId`.",
    ),
}

_OF_ACCESS_TOKEN: dict[str, str] = {
    "audience": "The `aud` of the access token doesn't contain KATAVEN_OIDC_AUDIENCE. At Zitadel: "
    "KATAVEN_OIDC_AUDIENCE is the project's id, and KATAVEN_HUB_SCOPES contains "
    "`urn:zitadel:iam:org:project:id:<project id>:aud`. At Keycloak: add an Audience mapper to the client. At Auth0: "
    "set the tenant's “Default Audience”. At Okta: it is the audience of the authorization server.",
    "no_jti": "The access token has neither a `jti` nor the type `at+jwt`, so it can't be told from an ID token. At "
    "Auth0: set “JSON Web Token (JWT) Profile” of the API to RFC 9068.",
    "id_token": "The access token contains a claim of ID tokens, such as `nonce`. At Keycloak: remove the mapper "
    "“Nonce backwards compatible” from the client, or update to Keycloak 25.",
    "client_not_allowed": "The access token was issued to a client that is not in KATAVEN_OIDC_CLIENT_IDS. Add the "
    "Hub's client id, or leave the variable unset.",
    "issuer": "The `iss` of the access token is not KATAVEN_OIDC_ISSUER. At Okta: use the URL of a custom "
    "authorization server, such as https://<domain>/oauth2/default.",
    "algorithm": f"The access token can't be verified. {_ALGORITHMS}",
    "times": f"The access token can't be used. {_CLOCKS}",
    "expired_credential": f"The access token has expired already. {_CLOCKS}",
}

_OF_ID_TOKEN: dict[str, str] = {
    "algorithm": f"The ID token can't be verified. {_ALGORITHMS}",
    "audience": "The `aud` of the ID token doesn't contain KATAVEN_HUB_CLIENT_ID. It must be the client id that the "
    "provider shows for the Hub's application.",
    "times": f"The ID token can't be used. {_CLOCKS}",
    "expired_credential": f"The ID token has expired already. {_CLOCKS}",
}

OF_CHECKS: dict[Reason, dict[str, str]] = {Reason.ACCESS_TOKEN: _OF_ACCESS_TOKEN, Reason.ID_TOKEN: _OF_ID_TOKEN}
"""Advice by the failed check of a token (`Refused.rule`). It comes before that of the reason."""

OF_ERRORS: dict[str, str] = {
    "invalid_scope": "It doesn't support a requested scope. Compare KATAVEN_HUB_SCOPES with the scopes that the "
    "application may request.",
    "unauthorized_client": "The Hub's application may not use the authorization code grant. Enable it, with PKCE.",
    "unsupported_response_type": "The Hub's application needs the response type `code`.",
    "invalid_request": f"{_IN_THE_LOG} {_REDIRECT} Pushed authorization requests must not be required.",
    "invalid_grant": f"The code expired or was used before. If every sign-in fails like this: {_REDIRECT}",
    "server_error": f"It reported an internal error. {_IN_THE_LOG}",
    "temporarily_unavailable": "It is overloaded. Try again later.",
}
"""Advice by the issuer's error code (RFC 6749, sections 4.1.2.1 and 5.2)."""

OF_ROLES: dict[RoleGap, str] = {
    RoleGap.NO_CLAIM: "Your access token contains none of the claims in KATAVEN_OIDC_ROLE_CLAIMS. At Zitadel: switch "
    "on “Assert Roles on Authentication” in the project and “Add user roles to the access token” in the application, "
    "and give the person a role in the project, in the account's organisation. At other providers: add the claim to "
    "access tokens.",
    RoleGap.NOT_READABLE: "Your access token contains no role that Kataven reads. A claim in KATAVEN_OIDC_ROLE_CLAIMS "
    'must be a JSON object such as {"owner": {"<organisation id>": "<domain>"}}, with the roles `owner`, `admin`, '
    "`member` or `operator`.",
    RoleGap.ELSEWHERE: "Your access token contains roles, but none in this account's organisation. At Zitadel: grant "
    "the project to that organisation and give the person a role there. `flask accounts show` prints the "
    "organisation's id.",
}
"""Advice for the administrator where a person has no role in an account."""

OF_DISCOVERY: dict[DiscoveryProblem, str] = {
    DiscoveryProblem.UNREACHABLE: "The Hub could not fetch /.well-known/openid-configuration of KATAVEN_OIDC_ISSUER. "
    "`flask oidc check`, run on the Hub's host, says why.",
    DiscoveryProblem.NO_DOCUMENT: "What KATAVEN_OIDC_ISSUER answers at /.well-known/openid-configuration is not JSON.",
    DiscoveryProblem.OTHER_ISSUER: "The discovery document names another issuer. KATAVEN_OIDC_ISSUER must equal its "
    "`issuer` to the letter: with the slash at the end at Auth0, with the realm's path at Keycloak, and at Zitadel "
    "with the domain at which people sign in.",
    DiscoveryProblem.NO_ENDPOINT: "The discovery document has no authorization or token endpoint with an https URL.",
}
"""Advice for the administrator where the issuer can't be used."""


def checklist() -> list[tuple[str, str, list[str]]]:
    """All that can go wrong with a sign-in: an anchor, the message, and the advice."""
    reasons: list[tuple[str, str, list[str]]] = []
    for reason, message in MESSAGES.items():
        advice = [message.admin] if message.admin else []
        advice += OF_CHECKS.get(reason, {}).values()
        if reason is Reason.REFUSED:
            advice += [f"`{error}`: {text}" for error, text in OF_ERRORS.items()]
        reasons.append((reason.value, message.user, advice))
    reasons += [(gap.value, "You have no role in this account.", [text]) for gap, text in OF_ROLES.items()]
    reasons += [(problem.value, "The sign-in service can't be used.", [text]) for problem, text in OF_DISCOVERY.items()]
    return reasons
