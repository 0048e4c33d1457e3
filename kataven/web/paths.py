"""Maps the deprecated aliases `/api/v1/X` and `/hub-api/api/v1/X` to the canonical path `/v1/X`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from flask import request

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

HUB_PREFIX = "/hub-api"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
REFERENCE = frozenset({"/docs", "/docs/errors", "/docs/style.css", "/docs/script.js", "/v1/openapi.json"})
"""The page that a problem's `type` links to, and what that page links to. Served by every host that returns
problems."""
SECURITY_TXT = "/.well-known/security.txt"
"""Served by every host, because a reporter requests it from the host that is affected (RFC 9116, section 3)."""
VERIFY = "/v1/verify"
"""Served by every host, because most gateways pass the `Host` of their client, who could otherwise choose the app."""
_SERVED_BY_API = PROBES | REFERENCE | {SECURITY_TXT}
REQUESTED = "kataven.requested_path"
"""Key in the WSGI environment of the path that the client requested."""


def canonical(path: str) -> str:
    """The canonical path of an alias. Returns any other path unchanged."""
    if path.startswith("/hub-api/api/"):
        path = path[len(HUB_PREFIX) :]
    if path.startswith("/api/v1/"):
        return path[len("/api") :]
    return path


def _with_one_slash(path: str) -> str:
    """The router ignores additional slashes at the start of a path, so decisions before it must ignore them as well."""
    return "/" + path.lstrip("/") if path.startswith("//") else path


class Aliases:
    """WSGI middleware that rewrites an alias to its canonical path before routing."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        requested = _with_one_slash(environ.get("PATH_INFO", ""))
        environ[REQUESTED] = requested
        environ["PATH_INFO"] = canonical(requested)
        return self._app(environ, start_response)


class HubPaths:
    """WSGI middleware of the Hub: dispatches `/hub-api`, the API reference, the probes, `security.txt` and the requests
    of gateways to the API, the rest to the pages."""

    def __init__(self, api: WsgiApp, pages: WsgiApp) -> None:
        self._api = api
        self._pages = pages

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(f"{HUB_PREFIX}/") or path in _SERVED_BY_API or _is_of_gateway(path):
            return self._api(environ, start_response)
        # `GET http://host HTTP/1.1` has no path, and the router would redirect to `/` at the host that the client sent.
        if not path:
            environ["PATH_INFO"] = "/"
        return self._pages(environ, start_response)


def _is_of_gateway(path: str) -> bool:
    path = canonical(_with_one_slash(path))
    return path == VERIFY or path.startswith(f"{VERIFY}/")


def requested_path() -> str:
    """The path that the client requested, alias or not, quoted for a URL."""
    path = str(request.environ.get(REQUESTED, request.environ["PATH_INFO"]))
    # Exactly one leading slash: a path that starts with two would name a host (RFC 3986, section 4.2).
    return quote("/" + path.lstrip("/"), encoding="latin-1")  # PEP 3333: PATH_INFO has one character per byte


def canonical_path_if_alias() -> str | None:
    """The canonical path if the client requested an alias, quoted for a URL; otherwise None."""
    path: str = request.environ["PATH_INFO"]
    if request.environ.get(REQUESTED, path) == path:
        return None
    return quote(path.encode("latin-1"))  # PEP 3333: PATH_INFO has one character per byte
