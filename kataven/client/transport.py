"""Builds HTTP requests and interprets HTTP responses, without I/O. Both clients use this module."""

from __future__ import annotations

import functools
import logging
import math
import re
import ssl
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx2

from kataven import __version__
from kataven.client.api_requests import ApiRequest, ApiResponse
from kataven.client.errors import (
    ConnectionFailed,
    FieldProblem,
    KatavenError,
    Problem,
    RequestTimedOut,
    UnexpectedResponse,
    error_for,
)
from kataven.client.options import DEFAULT_BASE_URL, Options

Result = TypeVar("Result")

USER_AGENT = f"kataven-python/{__version__}"
CONNECT_TIMEOUT_SECONDS = 5.0

_BASE_URL_HINT = f"Check `base_url`: it must be the API's URL including the path, such as {DEFAULT_BASE_URL}."
_HUB_TITLE = b"Kataven Hub</title>"
_log = logging.getLogger("kataven.client")
_SCOPE = re.compile(r'\bscope="([a-z0-9:-]{1,100})"')
_HTML_RESPONSE = f"The response is a web page, so it does not come from the API. {_BASE_URL_HINT}"


class Bearer(httpx2.Auth):
    """Adds the key to each request when it is sent. The HTTP client and its default headers never contain it."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._options.api_key}"
        yield request


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """A result, or the error to raise.

    The clients raise it outside any `except`, so that it has no cause or context that holds a request and its key.
    """

    result: Result | None = None
    error: KatavenError | None = None


def http_options(options: Options) -> dict[str, Any]:
    """Arguments for `httpx2.Client` and `httpx2.AsyncClient`."""
    return {
        "auth": Bearer(options),
        "timeout": httpx2.Timeout(
            options.timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, options.timeout_seconds)
        ),
        "headers": {"User-Agent": USER_AGENT, "Accept": "application/json, application/problem+json"},
        "follow_redirects": False,
        "trust_env": options.encrypted,
        "verify": _tls_context(),
    }


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """The TLS context that all clients of the process share, because loading one takes longer than a request."""
    return httpx2.create_ssl_context()


def request_options(options: Options, request: ApiRequest[Any]) -> dict[str, Any]:
    """Arguments for the `request` method of both httpx2 clients."""
    named = {"If-Match": request.if_match, "Idempotency-Key": request.idempotency_key}
    headers = {name: value for name, value in named.items() if value is not None}
    sent: dict[str, Any] = {"method": request.method, "url": f"{options.base_url}{request.path}", "headers": headers}
    if request.query:
        sent["params"] = dict(request.query)
    if request.body is not None:
        sent["json"] = dict(request.body)
    return sent


def request_error(error: httpx2.RequestError) -> KatavenError:
    """The SDK's error for a failed request. It drops the httpx2 error, which holds the request and with it the key."""
    if isinstance(error, httpx2.DecodingError):
        return UnexpectedResponse("Could not decode the response body.")
    if isinstance(error, httpx2.TimeoutException):
        return RequestTimedOut("The API did not respond within the timeout.")
    return ConnectionFailed(f"The connection to the API failed ({type(error).__name__}).")


class ExpiryWarning:
    """Logs once, as a warning, that the client's API key expires soon."""

    def __init__(self) -> None:
        self._logged = False

    def check(self, response: httpx2.Response) -> None:
        seconds = response.headers.get("Kataven-Key-Expires-In", "")
        if self._logged or not re.fullmatch(r"[0-9]{1,9}", seconds):
            return
        self._logged = True
        _log.warning("kataven: the API key expires in %d days; create a new one and replace it", int(seconds) // 86_400)


def outcome(options: Options, request: ApiRequest[Result], response: httpx2.Response) -> Outcome[Result]:
    """The result of a response, or its error."""
    if _is_hub(response):
        return Outcome(error=UnexpectedResponse(f"`base_url` points to the Hub, not to the API. {_BASE_URL_HINT}"))
    if response.is_error:
        return Outcome(error=error_for(_problem(options, response)))
    if not response.is_success:
        return Outcome(
            error=UnexpectedResponse(f"The API returned {response.status_code}. The SDK does not follow redirects.")
        )
    try:
        return Outcome(
            result=request.read(ApiResponse(_body(response), response.headers.get("ETag"), _next_cursor(response)))
        )
    except UnexpectedResponse as error:
        return Outcome(error=error)


def _is_hub(response: httpx2.Response) -> bool:
    """Whether this is a page of the Hub, whose host is easily mistaken for the API's. API redirects never match."""
    return _is_html(response) and _HUB_TITLE in response.content[:4096]


def _is_html(response: httpx2.Response) -> bool:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html"


def _body(response: httpx2.Response) -> Any:
    if response.status_code == 204:
        return None
    body = _json(response)
    if body is None:
        raise UnexpectedResponse(
            f"The response ({response.status_code}) is not JSON, so it does not come from the API. {_BASE_URL_HINT}"
        )
    return body


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):  # not JSON, not UTF-8, an integer that is too long, nesting that is too deep
        return None


def _next_cursor(response: httpx2.Response) -> str | None:
    """The cursor in `Link: <…>; rel="next"`. The rest of the URL is ignored, so no response can redirect the key."""
    url = response.links.get("next", {}).get("url")
    if url is None:
        return None
    found = parse_qs(urlsplit(url).query).get("cursor")
    return found[0] if found else None


def _problem(options: Options, response: httpx2.Response) -> Problem:
    raw = _json(response)
    problem: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    errors = problem.get("errors")

    def text(value: Any, otherwise: str) -> str:
        # A proxy in between may echo a request's headers.
        return value.replace(options.api_key, "[redacted]") if isinstance(value, str) else otherwise

    return Problem(
        status=response.status_code,
        code=text(problem.get("code"), f"http_{response.status_code}"),
        detail=text(
            problem.get("detail"), _HTML_RESPONSE if _is_html(response) else "The response does not include a reason."
        ),
        request_id=text(problem.get("request_id"), "") or text(response.headers.get("X-Request-ID"), "") or None,
        errors=tuple(
            FieldProblem(text(item.get("field"), ""), text(item.get("message"), ""))
            for item in (errors if isinstance(errors, list) else [])
            if isinstance(item, Mapping)
        ),
        retry_after=_retry_after(response.headers.get("Retry-After")),
        scope=_missing_scope(response.headers.get("WWW-Authenticate", "")),
    )


def _missing_scope(challenge: str) -> str | None:
    """The scope in `WWW-Authenticate: Bearer …, error="insufficient_scope", scope="agents:write"` (RFC 6750)."""
    found = _SCOPE.search(challenge) if "insufficient_scope" in challenge else None
    return found and found[1]


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        seconds = float(value)
        return seconds if math.isfinite(seconds) else None
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
