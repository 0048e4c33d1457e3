"""Requests that create can be repeated with the header `Idempotency-Key`: see `kataven.account.idempotency`.

The handler passes two functions: one that creates in a transaction and returns the representation without a secret,
and one that makes the response of it. A repeated request calls only the second.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from flask import Request, Response

from kataven.account import idempotency
from kataven.account.errors import IdempotencyInProgress, SecretExpired
from kataven.account.idempotency import NONCE_BYTES, Attempt, Kept, Raced
from kataven.identity.issuer import IssuedKey, Seed, UnknownPepper, framed
from kataven.identity.token import TokenKind
from kataven.tenancy.serving.session import TenantSession
from kataven.web.problems import FieldError, InvalidRequest
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, dump_json

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
PATTERN = "^[\\x20-\\x7e]{1,255}$"
RETRY_AFTER_SECONDS = 1
_KEY = re.compile(PATTERN)

Json = dict[str, Any]


def read_attempt(
    request: Request, caller: str, operation: str, path: Mapping[str, Any], body: Input | None
) -> Attempt | None:
    """The idempotency key of a request; None without the header. Raises InvalidRequest."""
    header = request.headers.get(HEADER)
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise InvalidRequest([FieldError(HEADER, "must be 1 to 255 printable ASCII characters, such as a random UUID")])
    # The parsed body: spaces and the order of names make no difference, and fields that the server sets are ignored.
    fields = {} if body is None else body.model_dump(mode="json", exclude_unset=True)
    sent = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return Attempt.of(caller, operation, header, framed(*(str(value).encode() for value in path.values()), sent))


def create_once(
    context: RequestContext, create: Callable[[TenantSession], Json], respond: Callable[[Json], Response]
) -> Response:
    """Create in a transaction, unless the request is repeated. Raises what `create` raises, and the errors of
    `idempotency.find`."""
    return _once(context, None, lambda session, _: create(session), lambda created, _: respond(created))


def issue_once(
    context: RequestContext,
    kind: TokenKind,
    create: Callable[[TenantSession, IssuedKey], Json],
    respond: Callable[[Json, str], Response],
) -> Response:
    """The same for what has a secret. Raises SecretExpired too."""

    def with_key(session: TenantSession, issued: IssuedKey | None) -> Json:
        assert issued is not None  # noqa: S101  `_once` issues a key for a kind
        return create(session, issued)

    def with_secret(created: Json, secret: str | None) -> Response:
        if secret is None:
            raise SecretExpired(created["id"], created["name"], created["hint"])
        return respond(created, secret)

    return _once(context, kind, with_key, with_secret)


def _once(
    context: RequestContext,
    kind: TokenKind | None,
    create: Callable[[TenantSession, IssuedKey | None], Json],
    respond: Callable[[Json, str | None], Response],
) -> Response:
    try:
        return _try_once(context, kind, create, respond)
    except Raced:
        pass
    try:
        return _try_once(context, kind, create, respond)  # finds the row of the other request
    except Raced:
        raise IdempotencyInProgress from None


def _try_once(
    context: RequestContext,
    kind: TokenKind | None,
    create: Callable[[TenantSession, IssuedKey | None], Json],
    respond: Callable[[Json, str | None], Response],
) -> Response:
    attempt, issued = context.attempt, None
    if kind is not None:  # before the transaction, because it may call the auth-service
        issued = _issue(context, kind, attempt)
    with context.writing() as session:
        kept = None if attempt is None else idempotency.find(session, attempt)
        if kept is None:
            created = create(session, issued)
            if attempt is not None:
                idempotency.keep(session, attempt, dump_json(created).decode(), issued)
    if kept is None or attempt is None:
        return respond(created, None if issued is None else issued.text)
    response = respond(orjson.loads(kept.representation), _secret_again(context, kind, attempt, kept))
    response.headers[REPLAYED] = "true"
    return response


def _issue(context: RequestContext, kind: TokenKind, attempt: Attempt | None) -> IssuedKey:
    """A new key. Widget keys are public and can be shown again, so they have a seed that is stored."""
    if kind is TokenKind.WIDGET_KEY:
        return issue_widget_key(context, None if attempt is None else attempt.stored_seed())
    return context.services.issuer.issue(kind, context.account.account, None if attempt is None else attempt.seed())


def issue_widget_key(context: RequestContext, seed: Seed | None = None) -> IssuedKey:
    """A new widget key with its seed."""
    seed = seed or Seed(secrets.token_bytes(NONCE_BYTES))
    issued = context.services.issuer.issue(TokenKind.WIDGET_KEY, context.account.account, seed)
    return replace(issued, seed=seed.data)


def _secret_again(context: RequestContext, kind: TokenKind | None, attempt: Attempt, kept: Kept) -> str | None:
    if kind is None or kept.nonce is None or kept.pepper_id is None:
        return None
    seed_of = attempt.stored_seed if kind is TokenKind.WIDGET_KEY else attempt.seed
    try:
        issued = context.services.issuer.issue(kind, context.account.account, seed_of(kept.nonce, kept.pepper_id))
    except UnknownPepper:
        return None
    # An auth-service of an older release ignores the seed, and returns a key that was never stored.
    return issued.text if issued.hash.digest == kept.key_hash else None
