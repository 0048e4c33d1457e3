"""The path of a request: who is calling, which account, may they, how much. Read it from top to bottom.

    edge → credential → who (cache, verifier) → which database → may they → how much → handler → answer

Nothing in here opens a database connection on a cache hit, and a token that is not well-formed costs no I/O at all.
"""

from __future__ import annotations

from flask import Flask, Request, Response, current_app, g, request

from kataven.identity.credential import ApiKeyCredential, parse_credential
from kataven.identity.errors import AccountMismatch, Refused
from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.limiter import LimitExceeded
from kataven.ratelimit.policy import KeyLimits
from kataven.web import observe
from kataven.web.access import Access, Forbidden
from kataven.web.operation import operation_of
from kataven.web.request_context import AuthContext, RequestContext


def install(app: Flask) -> None:
    """Put every request of `app` on this path."""
    app.before_request(open_context)
    app.before_request(admit)
    app.before_request(limit)
    app.after_request(finish)
    app.teardown_request(observe.close_context)
    app.teardown_request(release)


def open_context() -> None:
    """The edge: a request id and a believable client address."""
    g.context = observe.open_context(_request())


def admit() -> None:
    """Who is calling, and may they? Raises one of the refusals in the order that docs/authentication.md lists."""
    access = _declared()
    if access is None:
        return
    context: RequestContext = g.context
    if access.public:
        return  # the budget of the address is spent once the input is read, so that junk costs no look-up: `operation`
    principal = _who(context)
    account = context.services.directory.find(principal.account)
    if account is None:
        raise AccountMismatch
    context.known = principal
    access.check(principal)
    context.admitted = AuthContext(principal, account)
    if principal.kind is CredentialKind.API_KEY:
        context.services.last_used.record_use(principal.account, principal.id)


def limit() -> None:
    """How much: one decision over every window of the account and the key. Raises LimitExceeded."""
    context: RequestContext = g.context
    if context.admitted is None:
        return
    principal = context.principal
    key_limits = KeyLimits(**principal.limits) if principal.limits else None
    key_id = principal.id if key_limits is not None else None
    context.admitted.admission = context.services.limiter.admit(
        principal.account, context.account.limits, key_id, key_limits
    )


def _who(context: RequestContext) -> Principal:
    headers = request.headers
    credential = parse_credential(
        headers.get("Authorization"), headers.get("X-Account-ID"), in_x_api_key="X-API-Key" in headers
    )
    context.named = credential.account
    outcome = "unavailable"
    try:
        principal = context.services.verifier.verify(credential)
        outcome = "accepted"
    except Refused as refusal:
        outcome = refusal.code  # what had to be looked up to find that out is counted in `lookups`
        raise
    except LimitExceeded:
        outcome = "rate_limited"
        raise
    finally:
        kind = "api_key" if isinstance(credential, ApiKeyCredential) else "jwt"
        context.services.metrics.verifications.labels(kind, outcome).inc()
    return principal


def finish(response: Response) -> Response:
    """The headers that every answer carries, and its line in the log."""
    context: RequestContext = g.context
    if context.admitted is not None and context.admitted.admission is not None:
        for name, value in context.admitted.admission.headers():
            response.headers[name] = value
    return observe.finish(context, _request(), response)


def release(_error: BaseException | None) -> None:
    """Give the in-flight slot back. Nothing waits for it."""
    context: RequestContext | None = g.get("context")
    if context is not None and context.admitted is not None and context.admitted.admission is not None:
        context.admitted.admission.release()


def _request() -> Request:
    """The request itself, for who reads it many times: each look through Flask's proxy costs as much as the look."""
    return request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # the proxy's own, documented way


def _declared() -> Access | None:
    """What the matched route asks for; None where no route matched, so that 404 and 405 are answered to anybody."""
    if request.routing_exception is not None or request.method == "OPTIONS":
        return None
    operation = operation_of(current_app.view_functions.get(request.endpoint or ""))
    if operation is None:
        raise Forbidden("This route declares no access, so nobody has it.")
    return operation.access
