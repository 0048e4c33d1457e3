"""Converts between identity's classes and protobuf messages. A decoded refusal has the class that was encoded."""

from __future__ import annotations

from collections.abc import Iterator

from kataven.authservice import auth_pb2 as pb
from kataven.identity import errors
from kataven.identity.conditions import AddressRules
from kataven.identity.credential import ApiKeyCredential, Credential, JwtCredential
from kataven.identity.issuer import IssuedKey, Seed
from kataven.identity.peppers import KeyHash
from kataven.identity.principal import CredentialKind, Principal, Role
from kataven.identity.token import TokenKind

SERVICE = "kataven.auth.v1.Auth"
VERIFY, ISSUE, CANDIDATES = "Verify", "Issue", "Candidates"

_KINDS = {
    CredentialKind.API_KEY: pb.CREDENTIAL_KIND_API_KEY,
    CredentialKind.JWT: pb.CREDENTIAL_KIND_JWT,
}
_TOKEN_KINDS = {
    TokenKind.API_KEY: pb.TOKEN_KIND_API_KEY,
    TokenKind.WIDGET_KEY: pb.TOKEN_KIND_WIDGET_KEY,
}


class UnknownMessage(ValueError):
    """Raised for a message that cannot be interpreted, for example from another version."""


def _subclasses(root: type[errors.Refused]) -> Iterator[type[errors.Refused]]:
    for refusal in root.__subclasses__():
        yield refusal
        yield from _subclasses(refusal)


REFUSALS = {refusal.code: refusal for refusal in _subclasses(errors.Refused)}
"""Every refusal by its code."""

UNAVAILABLE = {kind.code: kind for kind in (errors.VerifierUnavailable, errors.AccountOutOfStep)}
"""The errors for an unavailable verifier, by code."""


def credential_out(credential: Credential, account_version: bytes = b"") -> pb.VerifyRequest:
    kind = CredentialKind.API_KEY if isinstance(credential, ApiKeyCredential) else CredentialKind.JWT
    return pb.VerifyRequest(
        kind=_KINDS[kind], token=credential.token, account=credential.account, account_version=account_version
    )


def credential_in(request: pb.VerifyRequest) -> Credential:
    """Raises UnknownMessage."""
    if request.kind == pb.CREDENTIAL_KIND_API_KEY:
        return ApiKeyCredential(request.token, request.account)
    if request.kind == pb.CREDENTIAL_KIND_JWT:
        return JwtCredential(request.token, request.account)
    raise UnknownMessage("unknown kind of credential")


def principal_out(principal: Principal) -> pb.VerifyResponse:
    message = pb.Principal(
        kind=_KINDS[principal.kind],
        account=principal.account,
        id=principal.id,
        name=principal.name,
        role=principal.role,
        expires_at=principal.expires_at,
        limits=principal.limits,
        from_browsers=principal.from_browsers,
        completes_rotation=principal.completes_rotation or "",
        person=principal.person,
    )
    if principal.scopes is None and principal.addresses is None:
        return pb.VerifyResponse(principal=message)
    if principal.scopes is not None:
        message.scopes.names.extend(sorted(principal.scopes))
        message.scopes.SetInParent()
    if principal.addresses is not None:
        message.allowed_addresses.extend(principal.addresses.allowed)
        message.denied_addresses.extend(principal.addresses.denied)
    return pb.VerifyResponse(restricted_principal=message)


def refusal_out(refusal: errors.Refused) -> pb.VerifyResponse:
    secret_id = refusal.secret_id if isinstance(refusal, errors.RotatedCredential) else None
    return pb.VerifyResponse(
        refusal=pb.Refusal(
            code=refusal.code, detail=str(refusal), secret_id=secret_id or "", caller=refusal.caller or ""
        )
    )


def unavailable_out(error: errors.VerifierUnavailable) -> pb.VerifyResponse:
    return pb.VerifyResponse(
        unavailable=pb.Unavailable(detail=str(error), retry_after_seconds=error.retry_after_seconds, code=error.code)
    )


def principal_in(response: pb.VerifyResponse) -> Principal:
    """The principal in the response. Raises the refusal, VerifierUnavailable, or UnknownMessage."""
    outcome = response.WhichOneof("outcome")
    if outcome == "refusal":
        refusal = REFUSALS.get(response.refusal.code)
        if refusal is None:
            raise UnknownMessage("unknown code of a refusal")
        if refusal is errors.RotatedCredential:
            raise errors.RotatedCredential(
                response.refusal.detail,
                caller=response.refusal.caller or None,
                secret_id=response.refusal.secret_id or None,
            )
        raise refusal(response.refusal.detail, caller=response.refusal.caller or None)
    if outcome == "unavailable":
        unavailable = response.unavailable
        kind = UNAVAILABLE.get(unavailable.code, errors.VerifierUnavailable)
        raise kind(unavailable.detail, retry_after_seconds=unavailable.retry_after_seconds)
    if outcome == "principal":
        return _principal(response.principal)
    if outcome == "restricted_principal":
        return _principal(response.restricted_principal)
    raise UnknownMessage("no outcome")


def _principal(message: pb.Principal) -> Principal:
    kinds = {number: kind for kind, number in _KINDS.items()}
    if message.kind not in kinds or not message.account or not message.id:
        raise UnknownMessage("incomplete principal")
    try:
        role = Role(message.role) if message.HasField("role") else None
    except ValueError:
        raise UnknownMessage("unknown role") from None
    return Principal(
        kind=kinds[message.kind],
        account=message.account,
        id=message.id,
        name=message.name,
        role=role,
        expires_at=message.expires_at if message.HasField("expires_at") else None,
        limits=dict(message.limits) or None,
        scopes=frozenset(message.scopes.names) if message.HasField("scopes") else None,
        addresses=AddressRules.of(message.allowed_addresses, message.denied_addresses),
        from_browsers=message.from_browsers,
        completes_rotation=message.completes_rotation or None,
        person=message.person if message.HasField("person") else None,
    )


def token_kind_out(kind: TokenKind) -> pb.TokenKind:
    return _TOKEN_KINDS[kind]


def token_kind_in(number: int) -> TokenKind:
    """Raises UnknownMessage."""
    for kind, known in _TOKEN_KINDS.items():
        if known == number:
            return kind
    raise UnknownMessage("unknown kind of key")


def hash_out(stored: KeyHash) -> pb.KeyHash:
    return pb.KeyHash(pepper_id=stored.pepper_id, digest=stored.digest)


def hash_in(message: pb.KeyHash) -> KeyHash:
    return KeyHash(message.pepper_id, message.digest)


def issue_out(kind: TokenKind, account: str, seed: Seed | None) -> pb.IssueRequest:
    request = pb.IssueRequest(kind=token_kind_out(kind), account=account)
    if seed is not None:
        request.seed, request.pepper_id = seed.data, seed.pepper_id
    return request


def seed_in(request: pb.IssueRequest) -> Seed | None:
    return Seed(request.seed, request.pepper_id) if request.seed else None


def issued_out(issued: IssuedKey) -> pb.IssueResponse:
    return pb.IssueResponse(text=issued.text, hash=hash_out(issued.hash), hint=issued.hint)


def issued_in(message: pb.IssueResponse) -> IssuedKey:
    return IssuedKey(message.text, hash_in(message.hash), message.hint)
