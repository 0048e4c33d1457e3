"""How this process connects to the OIDC issuer: which certificate authorities it trusts, and through which proxy.

Environment variables such as `SSL_CERT_FILE` and `HTTPS_PROXY` are not read: they would change which server the signing
keys come from without a trace in the configuration.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROXY_EXAMPLE = "http://proxy.example.com:3128"


@dataclass(frozen=True, slots=True)
class IssuerConnection:
    """`authorities` is a PEM file with the only authorities that are trusted for the issuer; None for the system's."""

    authorities: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    """The URL of an HTTP proxy, which may contain a password. None connects directly."""

    def client_options(self) -> dict[str, Any]:
        """Options of every HTTP client that sends requests to the issuer. Raises OSError if the file can't be used."""
        options: dict[str, Any] = {"trust_env": False, "follow_redirects": False, "proxy": self.proxy}
        if self.authorities is not None:
            options["verify"] = _context(self.authorities)
        return options


def check_authorities(file: Path) -> Path:
    """The file, if it contains certificates of authorities. Raises ValueError with the correction."""
    try:
        _context(file)
    except ssl.SSLError:
        why = "it contains no usable PEM certificate"
    except OSError as error:
        why = f"{error.strerror}" if error.strerror else "it can't be read"
    except ValueError:
        why = "it is not a path"
    else:
        return file
    raise ValueError(
        f"is not a PEM file with the certificates of the issuer's authorities ({why}); set the path of a file that "
        "this process can read, or unset it to trust the authorities of the system"
    )


def check_proxy(url: str) -> str:
    """The URL, if it is that of an HTTP proxy. Raises ValueError with the correction, without the URL."""
    message = f"must be the http or https URL of a proxy without a path, as in {PROXY_EXAMPLE}"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(message)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        raise ValueError(message) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise ValueError(message)
    if parts.query or parts.fragment:
        raise ValueError(f"{message}; encode special characters of the password, such as %23 for a number sign")
    return url


@lru_cache(maxsize=4)
def _context(authorities: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authorities))
