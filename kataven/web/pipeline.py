"""The request pipeline, in the order in which the steps run.

    edge → credential → principal (cache, verifier) → account → access → limits → handler → response

On a cache hit no step opens a database connection. A malformed token requires no I/O.

The functions without arguments are hooks of Flask. They continue a request that `web.direct` has started.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter, time
from typing import Any

from flask import Flask, Request, Response, current_app, g, request

from kataven.identity import conditions
from kataven.identity.credential import ApiKeyCredential, parse_credential
from kataven.identity.errors import AccountMismatch, AddressNotAllowed, BrowserUse, Refused, RotatedCredential
from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.limiter import LimitExceeded
from kataven.ratelimit.policy import KeyLimits
from kataven.usage.agents import MAX_READ as MAX_AGENT
from kataven.usage.outcomes import RequestStep
from kataven.web import forward_auth, observe
from kataven.web.access import Access, Forbidden
from kataven.web.misplaced_keys import misplaced_key
from kataven.web.operation import Operation, operation_of
from kataven.web.request_context import AuthContext, RequestContext
from kataven.web.services import services

HUB = "kataven-hub"
"""The name of the Hub's application. Its requests are not usage of an account."""
STARTED = "kataven.started_request"
"""Key in the WSGI environment of the StartedRequest that Flask continues."""
_CONDITIONS = frozenset({AddressNotAllowed.code, BrowserUse.code})
"""Refusals of a key that is verified."""
EXPIRES_SOON_SECONDS = 14 * 24 * 3600.0
EXPIRES_IN = "Kataven-Key-Expires-In"
"""A header: the seconds until the API key expires."""


def install(app: Flask) -> None:
    """Run the pipeline for every request of `app`."""
    app.before_request(open_context)
    app.before_request(admit)
    app.before_request(limit)
    app.after_request(finish)
    app.teardown_request(observe.close_context)
    app.teardown_request(release)


@dataclass(frozen=True, slots=True)
class StartedRequest:
    """A request whose first steps have run outside Flask."""

    context: RequestContext
    error: Exception | None
    """What the last step raised. Flask's error handlers turn it into a response."""


def open_context() -> None:
    """The edge: sets the request id and the trusted client address."""
    environ = _request().environ
    started: StartedRequest | None = environ.get(STARTED)
    g.kataven = observe.open_context(services(), environ) if started is None else started.context


def admit() -> None:
    """Authenticate and authorize the request. Raises the errors in the order that docs/authentication.md lists."""
    environ = _request().environ
    started: StartedRequest | None = environ.pop(STARTED, None)
    if started is not None and started.error is not None:
        try:
            raise started.error
        finally:
            del started  # otherwise, the error and its traceback would keep each other in memory
    context: RequestContext = g.kataven
    operation = _declared_operation()
    if operation is not None and context.admitted is None:
        admit_to(context, operation, environ)


def admit_to(context: RequestContext, operation: Operation, environ: dict[str, Any]) -> None:
    """The same for an operation of the API."""
    access, scope = operation.access, operation.scope
    if operation.forward_auth:
        gateway = forward_auth.open_gateway_request(context, environ.get("QUERY_STRING", ""))
        if gateway.scope is not None:
            access, scope = replace(access, scoped=True), gateway.scope
    admit_caller(context, access, scope, environ)


def admit_as(access: Access) -> None:
    """The same for a route of another application, whose access is known. Raises the same errors."""
    admit_caller(g.kataven, access, None, _request().environ)


def admit_caller(context: RequestContext, access: Access, scope: str | None, environ: dict[str, Any]) -> None:
    """The same for any request. `scope` is that which an API key needs."""
    if access.public:
        # `operation` spends the address's budget after input validation, so that invalid input costs no lookup.
        return
    principal = _authenticate(context, environ)
    account = context.services.directory.find(principal.account)
    if account is None:
        raise AccountMismatch
    access.check(principal, scope)
    context.admitted = AuthContext(principal, account)
    if principal.kind is CredentialKind.API_KEY:
        context.services.last_used.record_use(principal.account, principal.id)
        if principal.completes_rotation is not None:
            former_id = principal.completes_rotation
            context.services.last_used.record_completion(principal.account, principal.id, former_id)
    else:
        context.services.people_seen.record(principal)


def limit() -> None:
    """Apply the limits of the account and the key, in one decision over all windows. Raises LimitExceeded."""
    context: RequestContext = g.kataven
    if context.admitted is not None and context.admitted.admission is None:
        limit_caller(context, context.admitted)


def limit_caller(context: RequestContext, admitted: AuthContext) -> None:
    """The same for the caller that was admitted."""
    principal = admitted.principal
    key_limits = KeyLimits(**principal.limits) if principal.limits else None
    key_id = principal.id if key_limits is not None else None
    try:
        admission = admitted.admission = context.services.limiter.admit(
            principal.account,
            admitted.account.limits,
            key_id,
            key_limits,
            cost=1 if context.gateway is None else context.gateway.cost,
        )
    except LimitExceeded as refusal:
        context.decision = refusal.decision
        raise
    context.decision = admission.decision


def _authenticate(context: RequestContext, environ: dict[str, Any]) -> Principal:
    if context.gateway is not None:
        credential = forward_auth.parse(context.gateway, environ)
    else:
        credential = parse_credential(
            environ.get("HTTP_AUTHORIZATION"),
            environ.get("HTTP_X_ACCOUNT_ID"),
            misplaced=misplaced_key(environ, environ.get("QUERY_STRING", "")),
        )
    context.named = credential.account
    outcome = "unavailable"
    try:
        principal = context.known = context.services.verifier.verify(credential)
        if principal.kind is CredentialKind.API_KEY:
            _check_conditions(context, principal, environ)
        outcome = "accepted"
    except Refused as refusal:
        outcome = refusal.code  # `lookups` counts the lookups separately
        if refusal.caller is not None:
            is_key = isinstance(credential, ApiKeyCredential)
            of = CredentialKind.API_KEY if is_key else CredentialKind.JWT
            context.refused = (credential.account, refusal.caller, of)
        if isinstance(refusal, RotatedCredential) and refusal.secret_id is not None:
            context.services.last_used.record_late_use(credential.account, refusal.secret_id, context.address)
        raise
    except LimitExceeded:
        outcome = "rate_limited"
        raise
    finally:
        kind = "api_key" if isinstance(credential, ApiKeyCredential) else "jwt"
        context.services.metrics.record_verification(kind, outcome)
    return principal


def finish(response: Response) -> Response:
    """Set the headers that every response has, and write the access log line."""
    context: RequestContext = g.kataven
    found = _request()
    for name, value in response_headers(context):
        response.headers[name] = value
    if found.url_rule is not None and current_app.name != HUB:
        record_usage(context, found.environ, found.method, found.url_rule.rule, response.status_code)
    return observe.finish(context, found, response)


def response_headers(context: RequestContext) -> Iterator[tuple[str, str]]:
    """The headers about the caller: when its API key expires, and what is left of its limits."""
    admitted = context.admitted
    if admitted is None:
        return
    expires_in = _expires_in(admitted.principal)
    if expires_in is not None:
        yield EXPIRES_IN, expires_in
    if admitted.admission is not None:
        yield from admitted.admission.headers()


def record_usage(context: RequestContext, environ: dict[str, Any], method: str, route: str, status: int) -> None:
    """Record the request in memory for the usage of its account, if the account is known."""
    usage = context.services.usage
    caller = context.known or context.refused
    if usage is None or caller is None:
        return
    usage.record(
        (
            time(),
            perf_counter() - context.started,
            caller,
            method,
            route,
            status,
            context.problem,
            _deciding_step(context),
            context.address,
            environ.get("HTTP_USER_AGENT", "")[:MAX_AGENT],
            context.request_id,
            context.decision,
        )
    )


def _deciding_step(context: RequestContext) -> RequestStep:
    if context.admitted is None:
        if context.known is None or context.problem in _CONDITIONS:
            return RequestStep.PRINCIPAL
        return RequestStep.ACCOUNT if context.problem == AccountMismatch.code else RequestStep.ACCESS
    if context.admitted.admission is None:
        return RequestStep.LIMITS
    return RequestStep.RESPONSE if context.problem is None else RequestStep.HANDLER


def _expires_in(principal: Principal) -> str | None:
    """How long an API key is still valid, from two weeks before it expires."""
    if principal.kind is not CredentialKind.API_KEY or principal.expires_at is None:
        return None
    left = principal.expires_at - time()
    return str(max(0, int(left))) if left < EXPIRES_SOON_SECONDS else None


def release(_error: BaseException | None) -> None:
    """Release the in-flight slot. Does not wait for Redis."""
    context: RequestContext | None = g.get("kataven")
    if context is not None:
        release_slot(context)


def release_slot(context: RequestContext) -> None:
    """The same for any request."""
    if context.admitted is not None and context.admitted.admission is not None:
        context.admitted.admission.release()


def _request() -> Request:
    """The request behind Flask's proxy, for functions that read it often: each access through the proxy is as expensive
    as the access itself."""
    return request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # the proxy's own, documented way


def _check_conditions(context: RequestContext, principal: Principal, environ: dict[str, Any]) -> None:
    """Raises AddressNotAllowed or BrowserUse."""
    is_browser = "HTTP_ORIGIN" in environ or "HTTP_SEC_FETCH_SITE" in environ
    try:
        conditions.check(
            principal.addresses, context.address, from_browsers=principal.from_browsers, is_browser=is_browser
        )
    except BrowserUse:
        context.services.last_used.record_browser_use(principal.account, principal.id)
        raise


def _declared_operation() -> Operation | None:
    """The matched route's operation; None if no route matched, so that 404 and 405 require no credential."""
    if request.routing_exception is not None or request.method == "OPTIONS":
        return None
    operation = operation_of(current_app.view_functions.get(request.endpoint or ""))
    if operation is None:
        raise Forbidden("This route declares no access, so all requests are rejected.")
    return operation
