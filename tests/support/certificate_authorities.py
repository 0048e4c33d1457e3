"""One TLS context for all HTTP clients of a pytest process that trust the machine's certificate authorities.

Reading the authorities takes 30 ms, more than a typical request here, and a client reads them even if it never uses
TLS. Processes of the product are not affected.
"""

from __future__ import annotations

import functools
import os
import ssl

import httpcore2

_read = httpcore2.default_ssl_context


def read_once() -> None:
    """Clients created from now on share a context, unless `SSL_CERT_FILE` or `SSL_CERT_DIR` have changed."""
    httpcore2.default_ssl_context = _shared


def _shared(*, _trust_env: bool = True) -> ssl.SSLContext:
    variables = ("SSL_CERT_FILE", "SSL_CERT_DIR") if _trust_env else ()
    return _context(_trust_env, *(os.environ.get(name) for name in variables))


@functools.cache
def _context(trust_env: bool, *_variables: str | None) -> ssl.SSLContext:
    return _read(_trust_env=trust_env)
