"""One canonical path for a resource, and two aliases that mean the same: `/v1/X`, `/api/v1/X`, `/hub-api/api/v1/X`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from flask import request

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

HUB_PREFIX = "/hub-api"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
REFERENCE = frozenset({"/docs", "/docs/errors", "/docs/style.css", "/v1/openapi.json"})
"""What a problem's `type` leads to, and what is linked to from there: at every host that answers with problems."""
_ASKED = "kataven.asked_path"


def canonical(path: str) -> str:
    """The path that routes are declared under; any other path is given back as it is."""
    if path.startswith("/hub-api/api/"):
        path = path[len(HUB_PREFIX) :]
    if path.startswith("/api/v1/"):
        return path[len("/api") :]
    return path


class Aliases:
    """WSGI middleware: rewrites an alias to its canonical path before routing."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = environ.get("PATH_INFO", "")
        environ[_ASKED] = asked
        environ["PATH_INFO"] = canonical(asked)
        return self._app(environ, start_response)


class HubPaths:
    """WSGI middleware of the Hub: the API under `/hub-api`, its reference, what load balancers ask for, and pages."""

    def __init__(self, api: WsgiApp, pages: WsgiApp) -> None:
        self._api = api
        self._pages = pages

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(f"{HUB_PREFIX}/") or path in PROBES or path in REFERENCE:
            return self._api(environ, start_response)
        if not path:  # `GET http://host HTTP/1.1`: the router would redirect to the slash, at whatever host that says
            environ["PATH_INFO"] = "/"
        return self._pages(environ, start_response)


def asked_path() -> str:
    """The path that the client asked for, quoted for a URL: for links that lead back to where it came from."""
    path = str(request.environ.get(_ASKED, request.environ["PATH_INFO"]))
    # One slash, since two at the beginning would name a host (RFC 3986, section 4.2).
    return quote("/" + path.lstrip("/"), encoding="latin-1")  # PEP 3333: the path's bytes, each as one character


def canonical_instead() -> str | None:
    """The path that the client had better asked for, quoted for a URL; None if it did."""
    path: str = request.environ["PATH_INFO"]
    if request.environ.get(_ASKED, path) == path:
        return None
    return quote(path.encode("latin-1"))  # PEP 3333: the path's bytes, each as one character
