"""The exceptions of the SDK. No error contains the API key: not in its message, its attributes or its causes.

KatavenError
├── ConfigurationError        raised before a request is sent: no key, or a URL that a key must not be sent to
├── ArgumentError             raised before a request is sent: an invalid argument; also a ValueError
│   └── IdError                   raised before a request is sent: an id that is not a UUID
├── ClientClosedError         raised before a request is sent: the client is closed
├── ConnectionFailed          raised when no response was received; a write may have been applied
│   └── RequestTimedOut       raised when no response was received in time; a write may have been applied
├── UnexpectedResponse        raised when the response does not come from the API, or this version can't parse it
└── ApiError                  raised when the API returns an error: `code`, `detail`, `status`, `request_id`
    ├── InvalidRequestError       400: `errors` names each field
    ├── AuthenticationError       401, and 400 for a malformed key
    ├── PermissionDeniedError     403
    │   ├── InsufficientScopeError    403: the API key doesn't have the scope `scope`
    │   ├── PausedKeyError            403: the API key is paused
    │   ├── AddressNotAllowedError    403: the API key can't be used from this address
    │   └── BrowserUseError           403: a browser sent the API key
    ├── NotFoundError             404
    ├── ConflictError             409: the current state of the resource does not allow the request
    ├── PreconditionFailedError   412: the resource changed after its `etag` was read
    ├── RateLimitError            429: `retry_after`
    └── ServerError               5xx
        └── UnavailableError      503: `retry_after`
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """An invalid field of a request. `message` says what the field accepts."""

    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error response of the API (RFC 9457). Handle errors by `code`; the API lists all codes at `/docs/errors`."""

    status: int
    code: str
    detail: str
    request_id: str | None = None
    errors: tuple[FieldProblem, ...] = ()
    retry_after: float | None = None
    """Seconds."""
    scope: str | None = None
    """The scope that the API key doesn't have."""


class KatavenError(Exception):
    """Base class of all errors that the SDK raises."""


class ConfigurationError(KatavenError):
    """The client's configuration is invalid. No request was sent."""


class ArgumentError(KatavenError, ValueError):
    """An argument is invalid; the message names it and the fix. No request was sent."""


class IdError(ArgumentError):
    """An id is not a UUID. No request was sent."""


class ClientClosedError(KatavenError):
    """The client is closed. No request was sent."""

    def __init__(self) -> None:
        super().__init__(
            "This client is closed. Create another client, or send the request before the `with` block ends."
        )


class ConnectionFailed(KatavenError):
    """No response was received. A write may or may not have been applied."""


class RequestTimedOut(ConnectionFailed):
    """No response was received within the timeout. A write may or may not have been applied."""


class UnexpectedResponse(KatavenError):
    """The response does not come from the API, or this version of the SDK can't parse it."""


class ApiError(KatavenError):
    """The API returned an error response. Handle it by `code`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        about = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.status} {self.code}: {self.detail}{about}"

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def detail(self) -> str:
        return self.problem.detail

    @property
    def request_id(self) -> str | None:
        """Identifies the request in the API's logs. Include it when you contact support."""
        return self.problem.request_id

    @property
    def errors(self) -> tuple[FieldProblem, ...]:
        return self.problem.errors

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before a retry, from the `Retry-After` header; None without one."""
        return self.problem.retry_after


class InvalidRequestError(ApiError):
    """The request is invalid; `errors` names each field."""


class AuthenticationError(ApiError):
    """The API key is missing, malformed, not recognized or expired."""


class PermissionDeniedError(ApiError):
    """The API key is revoked or paused, its account is suspended, or the key doesn't have this permission."""


class InsufficientScopeError(PermissionDeniedError):
    """The API key doesn't have the scope that this operation requires. Create a key with this scope."""

    @property
    def scope(self) -> str | None:
        """The missing scope, such as `agents:write`. None if the operation requires a key with full access."""
        return self.problem.scope


class PausedKeyError(PermissionDeniedError):
    """The API key is paused. A user with the role owner or admin can resume it."""


class AddressNotAllowedError(PermissionDeniedError):
    """The API key can't be used from this address. `detail` states the address that the API sees."""


class BrowserUseError(PermissionDeniedError):
    """The request has a header that browsers set, and the API key must not be sent by browsers."""


class NotFoundError(ApiError):
    """The resource doesn't exist in this account."""


class ConflictError(ApiError):
    """The current state of the resource does not allow the request. `detail` names the state."""


class PreconditionFailedError(ApiError):
    """The resource changed after you fetched it, so your update was not applied. Fetch it again and retry."""


class RateLimitError(ApiError):
    """A rate limit was exceeded; `detail` names it. The rejected request doesn't count toward any limit."""


class ServerError(ApiError):
    """The API failed to process the request."""


class UnavailableError(ServerError):
    """The API is temporarily unavailable."""


_BY_CODE: dict[str, type[ApiError]] = {
    "malformed_token": AuthenticationError,
    "missing_account": AuthenticationError,
    "invalid_account": AuthenticationError,
    "insufficient_scope": InsufficientScopeError,
    "paused_credential": PausedKeyError,
    "address_not_allowed": AddressNotAllowedError,
    "browser_use": BrowserUseError,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: InvalidRequestError,
    409: ConflictError,
    412: PreconditionFailedError,
    413: InvalidRequestError,
    414: InvalidRequestError,
    415: InvalidRequestError,
    417: InvalidRequestError,
    431: InvalidRequestError,
    429: RateLimitError,
    503: UnavailableError,
}


def error_for(problem: Problem) -> ApiError:
    """The error for a problem's code or status; ApiError itself if this version knows neither."""
    found = _BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status)
    if found is None:
        found = ServerError if problem.status >= 500 else ApiError
    return found(problem)
