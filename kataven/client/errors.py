"""What can go wrong, as a family. No error holds the API key: not in its text, its attributes or its causes.

KatavenError
├── ConfigurationError        raised before anything is sent: no key, or a URL that a key must not be sent to
├── ArgumentError             raised before anything is sent: what the API can't be asked; a ValueError too
│   └── IdError                   raised for an id that is no UUID
├── ClientClosedError         raised before anything is sent: the client was closed
├── ConnectionFailed          raised when there was no answer
│   └── RequestTimedOut       raised when there was none in time; a write may have happened
├── UnexpectedAnswer          raised when what answered was not the API, or not one that this version understands
└── ApiError                  raised when the API said no: `code`, `detail`, `status`, `request_id`
    ├── InvalidRequestError       400: `errors` names each field
    ├── AuthenticationError       401, and 400 for a key with a typing error
    ├── PermissionDeniedError     403
    ├── NotFoundError             404
    ├── ConflictError             409: the current state of the resource does not allow the request
    ├── PreconditionFailedError   412: somebody else changed it since its `etag` was read
    ├── RateLimitError            429: `retry_after`
    └── ServerError               5xx
        └── UnavailableError      503: `retry_after`
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field of a request that does not fit, and what would."""

    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the API said (RFC 9457). Program against `code`: the list is at `/docs/errors` of the API."""

    status: int
    code: str
    detail: str
    request_id: str | None = None
    errors: tuple[FieldProblem, ...] = ()
    retry_after: float | None = None
    """Seconds."""


class KatavenError(Exception):
    """Everything that this package raises on purpose."""


class ConfigurationError(KatavenError):
    """The client can't be made like this; nothing was sent."""


class ArgumentError(KatavenError, ValueError):
    """This can't be asked; nothing was sent. The text says what would be right."""


class IdError(ArgumentError):
    """An id is a UUID, and this is none; nothing was sent."""


class ClientClosedError(KatavenError):
    """The client was closed; nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            "This client was closed. Make another one, or make the call before the end of its `with` block."
        )


class ConnectionFailed(KatavenError):
    """No answer came. Whether a write happened is unknown."""


class RequestTimedOut(ConnectionFailed):
    """No answer came in time. Whether a write happened is unknown."""


class UnexpectedAnswer(KatavenError):
    """Something answered that is not the API, or speaks a version that this package does not know."""


class ApiError(KatavenError):
    """The API answered with a problem."""

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
        """Names the request in the API's logs: quote it when you ask about it."""
        return self.problem.request_id

    @property
    def errors(self) -> tuple[FieldProblem, ...]:
        return self.problem.errors

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before it makes sense to try again, if the API said so."""
        return self.problem.retry_after


class InvalidRequestError(ApiError):
    """The request does not fit; `errors` names each field."""


class AuthenticationError(ApiError):
    """The API key is missing, mistyped, unknown or expired."""


class PermissionDeniedError(ApiError):
    """The key is revoked, its account is closed, or API keys may not do this."""


class NotFoundError(ApiError):
    """There is no such thing in this account."""


class ConflictError(ApiError):
    """The current state of the resource does not allow the request. `detail` names the state."""


class PreconditionFailedError(ApiError):
    """It was changed since its `etag` was read. Read it again, and decide anew."""


class RateLimitError(ApiError):
    """A limit is used up; `detail` says which. The refused request counted nowhere."""


class ServerError(ApiError):
    """Something went wrong on the API's side."""


class UnavailableError(ServerError):
    """Something that the API needs can't be reached right now."""


_BY_CODE: dict[str, type[ApiError]] = {
    "malformed_token": AuthenticationError,
    "missing_account": AuthenticationError,
    "invalid_account": AuthenticationError,
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
    """The member of the family that fits; ApiError itself for what this version has not heard of."""
    found = _BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status)
    if found is None:
        found = ServerError if problem.status >= 500 else ApiError
    return found(problem)
