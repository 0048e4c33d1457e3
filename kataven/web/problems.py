"""Maps every exception to an RFC 9457 `application/problem+json` response; the only table of codes and statuses.

The message of a caught exception reaches the client only if its exception family is documented as written for callers.
An unexpected exception becomes a 500 with a generic message. The log has the traceback under the same request id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import orjson
from flask import Flask, Response, current_app, g, request
from flask_limiter import RateLimitExceeded
from sqlalchemy.exc import ProgrammingError
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as RouteNotFound

from kataven.account.errors import (
    ChangeLost,
    Conflict,
    ExpiryExceedsPolicy,
    IdempotencyInProgress,
    IdempotencyMismatch,
    NotFound,
    SecretExpired,
    TooManyIdempotencyKeys,
)
from kataven.account.key_store import MIGRATION_SECONDS
from kataven.identity import errors as identity
from kataven.ratelimit.limiter import LimitExceeded
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.tenancy.error_classification import is_about_schema
from kataven.tenancy.errors import SchemaMismatch, TenancyError, TenantUnavailable
from kataven.web.access import Forbidden, InsufficientScope
from kataven.web.nearby import Nearby
from kataven.web.server.errors import BrokenBody, SlowBody
from kataven.web.services import EXTENSION, Services, services
from kataven.widget.errors import OriginRefused, StoreUnavailable, TooManySessions, WidgetRefused

log = logging.getLogger(__name__)

DEFAULT_RETRY_AFTER_SECONDS = 1
MAX_PREFERENCES_LENGTH = 1_024
"""A longer `Accept` or `Accept-Encoding` header is ignored."""
MAX_IN_DETAIL = 10
"""How many fields `detail` names. `errors` lists every field error that was collected."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """An invalid field of the request, and a message that states what is accepted."""

    field: str
    message: str


class InvalidRequest(Exception):
    """Raised when the request fails validation (400). Names each invalid field."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        shown = [f"{error.field}: {error.message}" for error in errors[:MAX_IN_DETAIL]]
        if len(errors) > MAX_IN_DETAIL:
            shown.append(f"and {len(errors) - MAX_IN_DETAIL} more")
        super().__init__("The request is invalid: " + "; ".join(shown))
        self.errors = tuple(errors)


class GatewayMisconfigured(InvalidRequest):
    """Raised when the parameters of a request to `/v1/verify` are invalid (503): no client of the gateway can fix them,
    and the gateway must not accept any."""


class PublicHTTPException(HTTPException):
    """An HTTP exception whose description is written for callers. Descriptions of other HTTP exceptions come from
    Werkzeug and are never sent."""


class PreconditionFailed(Exception):
    """Raised when `If-Match` does not match the resource (412). The message is written for callers."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A status, a code and a title. Clients program against the code."""

    status: int
    code: str
    title: str


ProblemPage = Callable[[ProblemType, str, Mapping[str, str]], Response]
"""Renders the HTML page for a problem type, a detail and the headers that the response will have."""

PROBLEM_TYPES: dict[str, ProblemType] = {
    kind.code: kind
    for kind in (
        ProblemType(400, "malformed_token", "Malformed token"),
        ProblemType(400, "missing_account", "Account not specified"),
        ProblemType(400, "invalid_account", "Invalid account name"),
        ProblemType(400, "invalid_request", "Invalid request"),
        ProblemType(400, "malformed_request", "Malformed request"),
        ProblemType(400, "expiry_exceeds_policy", "Expiry exceeds the account's policy"),
        ProblemType(401, "missing_credential", "Credential missing"),
        ProblemType(401, "not_a_credential", "Not a credential"),
        ProblemType(401, "invalid_credential", "Invalid credential"),
        ProblemType(401, "expired_credential", "Credential expired"),
        ProblemType(401, "session_ended", "Session ended"),
        ProblemType(403, "reserved_account", "Reserved account"),
        ProblemType(403, "account_mismatch", "Account mismatch"),
        ProblemType(403, "revoked_credential", "Credential revoked"),
        ProblemType(403, "rotated_credential", "Secret rotated"),
        ProblemType(403, "paused_credential", "Credential paused"),
        ProblemType(403, "credential_not_yet_valid", "Credential not valid yet"),
        ProblemType(403, "address_not_allowed", "Address not allowed"),
        ProblemType(403, "browser_use", "API key sent by a browser"),
        ProblemType(403, "insufficient_scope", "Scope missing"),
        ProblemType(403, "account_suspended", "Account suspended"),
        ProblemType(403, "access_blocked", "Access blocked"),
        ProblemType(403, "forbidden", "Access denied"),
        ProblemType(400, "agent_missing", "Agent not specified"),
        ProblemType(403, "unknown_widget_key", "Unknown widget key"),
        ProblemType(403, "widget_key_disabled", "Widget key disabled"),
        ProblemType(403, "origin_refused", "Origin not allowed"),
        ProblemType(403, "wrong_agent", "Agent not allowed"),
        ProblemType(403, "agent_not_active", "Agent not active"),
        ProblemType(403, "widget_off", "Widget disabled"),
        ProblemType(403, "visitor_kind_forbidden", "Visitor type not allowed"),
        ProblemType(403, "user_token_unknown", "Unknown user token"),
        ProblemType(403, "user_token_expired", "User token expired"),
        ProblemType(403, "user_token_used", "User token already used"),
        ProblemType(403, "user_token_of_another_account", "User token belongs to another account"),
        ProblemType(403, "refresh_token_unknown", "Unknown refresh token"),
        ProblemType(403, "refresh_token_reused", "Refresh token already used"),
        ProblemType(403, "minting_key_ended", "Issuing API key no longer valid"),
        ProblemType(404, "unknown_agent", "Unknown agent"),
        ProblemType(404, "not_found", "Not found"),
        ProblemType(405, "method_not_allowed", "Method not allowed"),
        ProblemType(408, "request_timeout", "Request timeout"),
        ProblemType(409, "conflict", "Conflict"),
        ProblemType(409, "idempotency_mismatch", "Idempotency key used for another request"),
        ProblemType(409, "idempotency_in_progress", "Request in progress"),
        ProblemType(409, "idempotency_secret_expired", "Secret no longer available"),
        ProblemType(412, "precondition_failed", "Precondition failed"),
        ProblemType(413, "payload_too_large", "Payload too large"),
        ProblemType(414, "uri_too_long", "URI too long"),
        ProblemType(415, "unsupported_media_type", "Unsupported media type"),
        ProblemType(417, "expectation_failed", "Expectation failed"),
        ProblemType(429, "rate_limited", "Too many requests"),
        ProblemType(429, "too_many_visits", "Too many visitor sessions"),
        ProblemType(431, "headers_too_large", "Headers too large"),
        ProblemType(500, "internal_error", "Internal error"),
        ProblemType(501, "unsupported_transfer_coding", "Unsupported transfer coding"),
        ProblemType(503, "schema_mismatch", "Schema mismatch"),
        ProblemType(503, "widget_not_configured", "Widget not configured"),
        ProblemType(503, "gateway_misconfigured", "Gateway misconfigured"),
        ProblemType(503, "unavailable", "Service unavailable"),
    )
}
"""Every problem code. `explanations.py` has the explanation that the page behind a problem's `type` shows."""

FORWARD_AUTH_STATUSES = frozenset({401, 403, 429, 503})
"""The statuses of problems that a gateway understands: see `forward_auth`."""
_FORWARD_AUTH = {"malformed_token": 401, "missing_account": 403, "invalid_account": 403}
"""The statuses of problems at `/v1/verify`, where they differ. All others become 503, so that the gateway refuses."""

_BY_HTTP_STATUS = {
    400: "invalid_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}
_DETAILS = {
    "invalid_request": "The request could not be parsed as HTTP.",
    "unsupported_media_type": "Send the body as JSON, with `Content-Type: application/json`.",
    "internal_error": "Something went wrong on our side.",
}
"""Replaces the descriptions of Werkzeug's exceptions."""
NEARBY_EXTENSION = "kataven.nearby"
"""Key in an application's `extensions` of its Nearby, which suggests a documented path for an unknown one."""
PAGE_EXTENSION = "kataven.problem_page"
"""Key in an application's `extensions` of its ProblemPage, if it renders problems as HTML."""
EXPLAINED_AT_EXTENSION = "kataven.explained_at"
"""Key in an application's `extensions` of the URL of the API whose `/docs/errors` explains the problem codes. Missing:
the application serves that page itself."""

_CHALLENGE = 'Bearer realm="kataven"'


def install(app: Flask) -> None:
    """Return every error of `app` as a problem response, and count it. `app` must have its services attached."""
    attached: Services = app.extensions[EXTENSION]
    for code in PROBLEM_TYPES:
        attached.metrics.problems.labels(code)  # create the series at startup, so that the first problem is an increase
    install_own(app)
    app.register_error_handler(RateLimitExceeded, _rate_limited)
    app.register_error_handler(TenancyError, _tenancy)
    app.register_error_handler(ClientDisconnected, _broken_body)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def install_own(app: Flask) -> None:
    """Return the errors of these packages as problem responses, and leave all others to `app`, such as those of an
    application that embeds Kataven."""
    app.register_error_handler(identity.Refused, _refused)
    app.register_error_handler(identity.VerifierUnavailable, _verifier_unavailable)
    app.register_error_handler(Forbidden, lambda error: problem("forbidden", str(error)))
    app.register_error_handler(InsufficientScope, _insufficient_scope)
    app.register_error_handler(InvalidRequest, _invalid_request)
    app.register_error_handler(GatewayMisconfigured, _gateway_misconfigured)
    app.register_error_handler(PreconditionFailed, lambda error: problem("precondition_failed", str(error)))
    app.register_error_handler(Conflict, lambda error: problem("conflict", str(error)))
    app.register_error_handler(IdempotencyMismatch, lambda error: problem("idempotency_mismatch", str(error)))
    app.register_error_handler(SecretExpired, lambda error: problem("idempotency_secret_expired", str(error)))
    app.register_error_handler(IdempotencyInProgress, _idempotency_in_progress)
    app.register_error_handler(TooManyIdempotencyKeys, _too_many_idempotency_keys)
    app.register_error_handler(NotFound, lambda error: problem("not_found", str(error)))
    app.register_error_handler(ExpiryExceedsPolicy, _expiry_exceeds_policy)
    app.register_error_handler(LimitExceeded, _rate_limited)
    app.register_error_handler(SchemaMismatch, _tenancy)
    app.register_error_handler(TenantUnavailable, _tenancy)
    app.register_error_handler(RevocationUnconfirmed, _revocation_unconfirmed)
    app.register_error_handler(ChangeLost, _change_lost)
    app.register_error_handler(WidgetRefused, _widget_refused)
    app.register_error_handler(StoreUnavailable, _store_unavailable)
    app.register_error_handler(BrokenBody, _broken_body)
    app.register_error_handler(SlowBody, _slow_body)


def install_missing_tables(app: Flask) -> None:
    """Return 503 if a statement of an application needs tables that the account's database does not have yet."""
    app.register_error_handler(ProgrammingError, _missing_tables)


def status_of(code: str, *, forward_auth: bool) -> int:
    """The status of a problem, at an operation that gateways call or at another one."""
    status = PROBLEM_TYPES[code].status
    if not forward_auth or status in FORWARD_AUTH_STATUSES:
        return status
    return _FORWARD_AUTH.get(code, HTTPStatus.SERVICE_UNAVAILABLE)


def problem(
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for `code`: a JSON problem, or the line `code: detail` for clients that prefer `text/plain`.

    An application with an entry under `PAGE_EXTENSION`, such as the Hub, returns an HTML page instead.
    """
    kind = _problem_type(code)
    services().metrics.problems.labels(code).inc()
    g.kataven.problem = code
    page: ProblemPage | None = current_app.extensions.get(PAGE_EXTENSION)
    if page is not None:
        response = page(kind, detail, headers or {})
    else:
        response = _plain(code, detail) if _prefers_text() else _json(kind, detail, errors)
    response.status_code = kind.status
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(headers or {})
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers.setdefault("Retry-After", str(DEFAULT_RETRY_AFTER_SECONDS))
    return response


def _problem_type(code: str) -> ProblemType:
    """The problem type of `code` in the current request."""
    kind, context = PROBLEM_TYPES[code], g.kataven
    status = status_of(code, forward_auth=context.gateway is not None)
    return kind if status == kind.status else replace(kind, status=status)


def _json(kind: ProblemType, detail: str, errors: Sequence[FieldError]) -> Response:
    body: dict[str, Any] = {
        "type": f"{_documentation_host()}/docs/errors#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
        "request_id": g.kataven.request_id,
    }
    if errors:
        body["errors"] = [{"field": error.field, "message": error.message} for error in errors]
    return Response(orjson.dumps(body), content_type="application/problem+json")


def _documentation_host() -> str:
    """Empty, unless a relative reference would lead to another API: behind a gateway, or in an application."""
    if g.kataven.gateway is not None:
        return services().widget.public_url
    host: str = current_app.extensions.get(EXPLAINED_AT_EXTENSION, "")
    return host


def _plain(code: str, detail: str) -> Response:
    return Response(f"{code}: {' '.join(detail.split())}\n", content_type="text/plain; charset=utf-8")


def _prefers_text() -> bool:
    accept = request.headers.get("Accept", "")
    # Parsing a 64 KiB header would cost more than the rest of the response.
    if "text/plain" not in accept or len(accept) > MAX_PREFERENCES_LENGTH:
        return False
    offered = ["application/problem+json", "application/json", "text/plain"]
    return request.accept_mimetypes.best_match(offered) == "text/plain"


def _refused(error: identity.Refused) -> Response:
    headers = {}
    status = _problem_type(error.code).status
    if status == HTTPStatus.UNAUTHORIZED:
        # RFC 6750, section 3.1: no error code for a request without any credential.
        missing = isinstance(error, identity.MissingCredential)
        headers["WWW-Authenticate"] = _CHALLENGE if missing else f'{_CHALLENGE}, error="invalid_token"'
    errors = [FieldError(error.field, str(error))] if error.field and status == HTTPStatus.BAD_REQUEST else []
    return problem(error.code, str(error), errors, headers)


def _insufficient_scope(error: InsufficientScope) -> Response:
    challenge = f'{_CHALLENGE}, error="insufficient_scope"'  # RFC 6750, section 3.1
    if error.scope is not None:
        challenge += f', scope="{error.scope}"'
    return problem("insufficient_scope", str(error), headers={"WWW-Authenticate": challenge})


def _verifier_unavailable(error: identity.VerifierUnavailable) -> Response:
    return unavailable(str(error), error.retry_after_seconds, error.code)


def unavailable(
    detail: str, retry_after_seconds: float = DEFAULT_RETRY_AFTER_SECONDS, code: str = "unavailable"
) -> Response:
    """A 503 response with a `Retry-After` of at least one second."""
    return problem(code, detail, headers={"Retry-After": str(max(1, round(retry_after_seconds)))})


def _invalid_request(error: InvalidRequest) -> Response:
    return problem("invalid_request", str(error), error.errors)


def _gateway_misconfigured(error: GatewayMisconfigured) -> Response:
    shown = "; ".join(f"{found.field}: {found.message}" for found in error.errors[:MAX_IN_DETAIL])
    return problem(
        "gateway_misconfigured", f"The gateway calls /v1/verify with wrong parameters: {shown}", error.errors
    )


def _expiry_exceeds_policy(error: ExpiryExceedsPolicy) -> Response:
    return problem("expiry_exceeds_policy", str(error), [FieldError("expiry", str(error))])


def _idempotency_in_progress(error: IdempotencyInProgress) -> Response:
    return problem("idempotency_in_progress", str(error), headers={"Retry-After": str(DEFAULT_RETRY_AFTER_SECONDS)})


def _too_many_idempotency_keys(error: TooManyIdempotencyKeys) -> Response:
    return problem("rate_limited", str(error), headers={"Retry-After": "3600"})


def _rate_limited(error: RateLimitExceeded) -> Response:
    if isinstance(error, LimitExceeded):
        refused_by = error.decision.refused_by
        services().metrics.limited.labels(refused_by.quota.name if refused_by else "other").inc()
        return problem("rate_limited", error.detail, headers=dict(error.headers()))
    return problem("rate_limited", f"Rate limit exceeded: {error.description}.")


def _tenancy(error: TenancyError) -> Response:
    if isinstance(error, SchemaMismatch):
        return unavailable(str(error), MIGRATION_SECONDS, "schema_mismatch")
    if isinstance(error, TenantUnavailable):
        return unavailable(
            "The account's database is currently unavailable. Try again in a few seconds.", error.retry_after_seconds
        )
    return _unexpected(error)


def _missing_tables(error: ProgrammingError) -> Response:
    if not is_about_schema(error):
        raise error
    log.error("the account's database lacks tables of this application; upgrade its tables", exc_info=error)
    return unavailable(
        "The account's database is not ready for this application yet.", MIGRATION_SECONDS, "schema_mismatch"
    )


def _revocation_unconfirmed(_: RevocationUnconfirmed) -> Response:
    return unavailable(
        "The change was saved, but we couldn't confirm that every worker has applied it. Some may accept the "
        "credential for up to a minute. Retry to get a receipt."
    )


def _change_lost(_: ChangeLost) -> Response:
    log.error("the account's database lost a committed change; check its replication after the failover")
    return unavailable(
        "The account's database failed over and lost this change: nothing was changed. Send the request again."
    )


def _widget_refused(error: WidgetRefused) -> Response:
    counted = services().refused_origins
    if isinstance(error, OriginRefused) and error.page is not None and counted is not None:
        counted.record(error.page.account, error.page.widget_key_id, error.page.origin)
    if isinstance(error, TooManySessions):
        services().metrics.limited.labels(error.limit).inc()
        return problem(error.code, str(error), headers={"Retry-After": str(error.retry_after_seconds)})
    headers = {"Retry-After": "60"} if PROBLEM_TYPES[error.code].status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return problem(error.code, str(error), headers=headers)


def _store_unavailable(error: StoreUnavailable) -> Response:
    # Fail closed: without Redis, single use of a token can't be enforced.
    return unavailable(
        "Visitor sessions are currently unavailable. Try again in a few seconds.", error.retry_after_seconds
    )


def _broken_body(error: Exception) -> Response:
    # One line without a traceback: any client can cause this error, and must not be able to fill the log.
    log.warning("broken body", extra={"why": str(error) if isinstance(error, BrokenBody) else "NoMoreData"})
    return problem("malformed_request", "The request body is malformed or incomplete. The request was not processed.")


def _slow_body(_: SlowBody) -> Response:
    return problem(
        "request_timeout", "The request body did not arrive in time. The request was not processed. Send it again."
    )


def _http(error: HTTPException) -> Response:
    code = _BY_HTTP_STATUS.get(error.code or 500, "internal_error" if (error.code or 500) >= 500 else "invalid_request")
    headers = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"This path supports {headers['Allow']}."
    elif isinstance(error, RouteNotFound):
        nearby: Nearby | None = current_app.extensions.get(NEARBY_EXTENSION)
        meant = None if nearby is None else nearby.of(request.path)
        detail = "No resource exists at this path." + ("" if meant is None else f" Did you mean {meant}?")
    elif isinstance(error, PublicHTTPException):
        detail = str(error.description)
    elif code == "payload_too_large":
        limits = (request.max_content_length, request.max_form_memory_size)
        least = min((limit for limit in limits if limit is not None), default=0)
        detail = f"The request body must be at most {least // 1024} KiB."
    else:
        detail = _DETAILS.get(code) or PROBLEM_TYPES[code].title
    return problem(code, detail, headers=headers)


def _unexpected(error: Exception) -> Response:
    log.error("unforeseen", exc_info=error)
    return problem("internal_error", "Something went wrong on our side. Contact us with the request ID.")
