"""Between calls and HTTP, without doing any I/O: what is sent, and what an answer means. Both clients use it."""

from __future__ import annotations

import functools
import math
import ssl
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx2

from kataven import __version__
from kataven.client.api_requests import Answer, ApiRequest
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

_API_URL = f"Check `base_url`: it is the API's URL with its path, as in {DEFAULT_BASE_URL}."
_HUB_TITLE = b"Kataven Hub</title>"
_UNKNOWN_PAGE = f"A web page answered, so it was not the API. {_API_URL}"


class Bearer(httpx2.Auth):
    """Puts the key on each request as it leaves; the client itself and its default headers never hold it."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._options.api_key}"
        yield request


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """A result, or the error to raise: outside any `except`, so that it has no cause that holds a request."""

    result: Result | None = None
    error: KatavenError | None = None


def http_options(options: Options) -> dict[str, Any]:
    """For either kind of httpx2 client."""
    return {
        "auth": Bearer(options),
        "timeout": httpx2.Timeout(
            options.timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, options.timeout_seconds)
        ),
        "headers": {"User-Agent": USER_AGENT, "Accept": "application/json, application/problem+json"},
        "follow_redirects": False,
        "trust_env": options.encrypted,
        "verify": _trust(),
    }


@functools.cache
def _trust() -> ssl.SSLContext:
    """Read once for all clients of the process: it takes longer to load than a request does to be answered."""
    return httpx2.create_ssl_context()


def request_options(options: Options, call: ApiRequest[Any]) -> dict[str, Any]:
    """For either kind of httpx2 client's `request`."""
    headers = {} if call.if_match is None else {"If-Match": call.if_match}
    sent: dict[str, Any] = {"method": call.method, "url": f"{options.base_url}{call.path}", "headers": headers}
    if call.query:
        sent["params"] = dict(call.query)
    if call.body is not None:
        sent["json"] = dict(call.body)
    return sent


def no_answer(error: httpx2.RequestError) -> KatavenError:
    """Without the error it came from: that one holds the request, and the request holds the key."""
    if isinstance(error, httpx2.DecodingError):
        return UnexpectedResponse("The answer's bytes are not what its headers say.")
    if isinstance(error, httpx2.TimeoutException):
        return RequestTimedOut("The API did not answer in time.")
    return ConnectionFailed(f"The API can't be reached ({type(error).__name__}).")


def outcome(options: Options, call: ApiRequest[Result], response: httpx2.Response) -> Outcome[Result]:
    """What an answer means."""
    if _is_hub(response):
        return Outcome(error=UnexpectedResponse(f"`base_url` leads to the Hub, not to the API. {_API_URL}"))
    if response.is_error:
        return Outcome(error=error_for(_problem(options, response)))
    if not response.is_success:
        return Outcome(
            error=UnexpectedResponse(f"The API answered {response.status_code}; redirects are not followed.")
        )
    try:
        return Outcome(result=call.read(Answer(_body(response), response.headers.get("ETag"), _next_cursor(response))))
    except UnexpectedResponse as error:
        return Outcome(error=error)


def _is_hub(response: httpx2.Response) -> bool:
    """Whether it is a page of the Hub, whose host is easily taken for the API's. Redirects of the API are none."""
    return _is_page(response) and _HUB_TITLE in response.content[:4096]


def _is_page(response: httpx2.Response) -> bool:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html"


def _body(response: httpx2.Response) -> Any:
    if response.status_code == 204:
        return None
    body = _json(response)
    if body is None:
        raise UnexpectedResponse(f"The answer ({response.status_code}) is not JSON, so it is not the API's. {_API_URL}")
    return body


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):  # no JSON, no text, numbers without end, lists without bottom
        return None


def _next_cursor(response: httpx2.Response) -> str | None:
    """From `Link: <…>; rel="next"`. Only its cursor is used, so that no answer can send the key anywhere else."""
    url = response.links.get("next", {}).get("url")
    if url is None:
        return None
    found = parse_qs(urlsplit(url).query).get("cursor")
    return found[0] if found else None


def _problem(options: Options, response: httpx2.Response) -> Problem:
    raw = _json(response)
    said: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    errors = said.get("errors")

    def text(value: Any, otherwise: str) -> str:
        # Whatever stands in between may echo a request's headers.
        return value.replace(options.api_key, "[redacted]") if isinstance(value, str) else otherwise

    return Problem(
        status=response.status_code,
        code=text(said.get("code"), f"http_{response.status_code}"),
        detail=text(said.get("detail"), _UNKNOWN_PAGE if _is_page(response) else "The answer does not say why."),
        request_id=text(said.get("request_id"), "") or text(response.headers.get("X-Request-ID"), "") or None,
        errors=tuple(
            FieldProblem(text(item.get("field"), ""), text(item.get("message"), ""))
            for item in (errors if isinstance(errors, list) else [])
            if isinstance(item, Mapping)
        ),
        retry_after=_retry_after(response.headers.get("Retry-After")),
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of the header (RFC 9110, section 10.2.3)."""
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
