"""The request pipeline, in the order in which the steps run.

    edge → credential → principal (cache, verifier) → account → access → limits → handler → response

On a cache hit no step opens a database connection. A malformed token requires no I/O.
"""

from __future__ import annotations

from flask import Flask, Request, Response, current_app, g, request

from kataven.identity.credential import ApiKeyCredential, parse_credential
from kataven.identity.errors import AccountMismatch, Refused
from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.limiter import LimitExceeded
from kataven.ratelimit.policy import KeyLimits
from kataven.web import forward_auth, observe
from kataven.web.access import Access, Forbidden
from kataven.web.operation import Operation, operation_of
from kataven.web.request_context import AuthContext, GatewayRequest, RequestContext


def install(app: Flask) -> None:
    """Run the pipeline for every request of `app`."""
    app.before_request(open_context)
    app.before_request(admit)
    app.before_request(limit)
    app.after_request(finish)
    app.teardown_request(observe.close_context)
    app.teardown_request(release)


def open_context() -> None:
    """The edge: sets the request id and the trusted client address."""
    g.kataven = observe.open_context(_request())


def admit() -> None:
    """Authenticate and authorize the request. Raises the errors in the order that docs/authentication.md lists."""
    operation = _declared_operation()
    if operation is None:
        return
    context: RequestContext = g.kataven
    if operation.forward_auth:
        context.gateway = GatewayRequest(nginx=forward_auth.is_nginx(request))  # for the error that follows, if any
        context.gateway = forward_auth.read_request(request)
    admit_as(operation.access)


def admit_as(access: Access) -> None:
    """The same for a route whose access is known. Raises the same errors."""
    context: RequestContext = g.kataven
    if access.public:
        # `operation` spends the address's budget after input validation, so that invalid input costs no lookup.
        return
    principal = _authenticate(context)
    account = context.services.directory.find(principal.account)
    if account is None:
        raise AccountMismatch
    context.known = principal
    access.check(principal)
    context.admitted = AuthContext(principal, account)
    if principal.kind is CredentialKind.API_KEY:
        context.services.last_used.record_use(principal.account, principal.id)
    else:
        context.services.people_seen.record(principal)


def limit() -> None:
    """Apply the limits of the account and the key, in one decision over all windows. Raises LimitExceeded."""
    context: RequestContext = g.kataven
    if context.admitted is None:
        return
    principal = context.principal
    key_limits = KeyLimits(**principal.limits) if principal.limits else None
    key_id = principal.id if key_limits is not None else None
    context.admitted.admission = context.services.limiter.admit(
        principal.account,
        context.account.limits,
        key_id,
        key_limits,
        cost=1 if context.gateway is None else context.gateway.cost,
    )


def _authenticate(context: RequestContext) -> Principal:
    headers = request.headers
    if context.gateway is not None:
        credential = forward_auth.parse(context.gateway, headers)
    else:
        credential = parse_credential(
            headers.get("Authorization"), headers.get("X-Account-ID"), in_x_api_key="X-API-Key" in headers
        )
    context.named = credential.account
    outcome = "unavailable"
    try:
        principal = context.services.verifier.verify(credential)
        outcome = "accepted"
    except Refused as refusal:
        outcome = refusal.code  # `lookups` counts the lookups separately
        raise
    except LimitExceeded:
        outcome = "rate_limited"
        raise
    finally:
        kind = "api_key" if isinstance(credential, ApiKeyCredential) else "jwt"
        context.services.metrics.verifications.labels(kind, outcome).inc()
    return principal


def finish(response: Response) -> Response:
    """Set the headers that every response has, and write the access log line."""
    context: RequestContext = g.kataven
    if context.admitted is not None and context.admitted.admission is not None:
        for name, value in context.admitted.admission.headers():
            response.headers[name] = value
    return observe.finish(context, _request(), response)


def release(_error: BaseException | None) -> None:
    """Release the in-flight slot. Does not wait for Redis."""
    context: RequestContext | None = g.get("kataven")
    if context is not None and context.admitted is not None and context.admitted.admission is not None:
        context.admitted.admission.release()


def _request() -> Request:
    """The request behind Flask's proxy, for functions that read it often: each access through the proxy is as expensive
    as the access itself."""
    return request._get_current_object()  # type: ignore[attr-defined,no-any-return]  # the proxy's own, documented way


def _declared_operation() -> Operation | None:
    """The matched route's operation; None if no route matched, so that 404 and 405 require no credential."""
    if request.routing_exception is not None or request.method == "OPTIONS":
        return None
    operation = operation_of(current_app.view_functions.get(request.endpoint or ""))
    if operation is None:
        raise Forbidden("This route declares no access, so all requests are rejected.")
    return operation
