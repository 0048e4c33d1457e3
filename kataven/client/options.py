"""Reads and checks a client's configuration: the API key, the base URL and the timeout."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kataven.client.errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.kataven.ai/v1"
DEFAULT_TIMEOUT_SECONDS = 30.0
API_KEY_VARIABLE = "KATAVEN_API_KEY"
BASE_URL_VARIABLE = "KATAVEN_BASE_URL"

_SECRET_LENGTH = 49
_API_KEY = re.compile(rf"sk_live_[a-z0-9][a-z0-9_-]{{0,62}}_[0-9A-Za-z]{{{_SECRET_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Options:
    """The checked configuration of a client."""

    api_key: str = field(repr=False)
    base_url: str
    timeout_seconds: float
    encrypted: bool
    """False for plain HTTP on this machine. Proxies of the environment are then ignored: they would see the key."""


def options(api_key: str | None, base_url: str | None, timeout_seconds: float) -> Options:
    """Options from the arguments, else from the environment.

    Raises ConfigurationError if one is invalid. Its message never contains the key.
    """
    if not is_number(timeout_seconds) or not 0 < timeout_seconds < math.inf:
        raise ConfigurationError("`timeout` must be a number of seconds above 0, such as 30.0. It can't be disabled.")
    for name, value in (("api_key", api_key), ("base_url", base_url)):
        if not isinstance(value, str | None):
            raise ConfigurationError(f"`{name}` must be a string. Omit it to use the default.")
    url = check_base_url(base_url)
    return Options(_key(api_key), url, timeout_seconds, _is_encrypted(url))


def is_number(value: object) -> bool:
    """Whether the value is an int or a float; True and False don't count as numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_base_url(value: str | None) -> str:
    """The base URL from the argument, else the environment, else production.

    Raises ConfigurationError if the URL is invalid, would send the key unencrypted, or has no path.
    """
    url = (value or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL).rstrip("/")
    _is_encrypted(url)
    if not urlsplit(url).path:
        raise ConfigurationError(f"The base URL has no path. Did you mean {url}/v1?")
    return url


def _key(value: str | None) -> str:
    key = (value if value is not None else os.environ.get(API_KEY_VARIABLE, "")).strip()
    if not key:
        raise ConfigurationError(f"No API key provided. Set {API_KEY_VARIABLE}, or pass `api_key`.")
    if key.startswith("pk_live_"):
        raise ConfigurationError("This is a widget key (pk_live_…). The API requires an API key (sk_live_…).")
    if not _API_KEY.fullmatch(key):
        raise ConfigurationError(_malformed_key_message(key))
    return key


def _malformed_key_message(key: str) -> str:
    """A message that names what is wrong with a malformed key, without repeating any part of it."""
    if key[0] in "\"'`<" or key[-1] in "\"'`>":
        return "The API key is in quotes or brackets. Remove them."
    last = key.rpartition("_")[2]
    if (
        key.startswith("sk_live_")
        and key.count("_") > 2
        and len(last) < _SECRET_LENGTH
        and (not last or last.isalnum())
    ):
        return f"The API key is truncated: its last part has {len(last)} of {_SECRET_LENGTH} characters. Copy it again."
    return f"Invalid API key. The expected format is sk_live_<account>_<{_SECRET_LENGTH} letters and digits>."


def _is_encrypted(url: str) -> bool:
    """Whether requests to the URL are encrypted.

    Raises ConfigurationError if the URL is invalid, or not https and not on this machine.
    """
    import httpx2  # here, for the same reason as in `KatavenClient`

    try:
        parts = urlsplit(url)
        host, _, _ = parts.hostname, parts.port, httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        raise ConfigurationError(f"Invalid base URL. Use a URL such as {DEFAULT_BASE_URL}.") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            f"The base URL must not contain a user, query or fragment. Use a URL such as {DEFAULT_BASE_URL}."
        )
    if parts.scheme == "https" and host:
        return True
    if parts.scheme == "http" and host and is_this_machine(host):
        return False
    raise ConfigurationError(
        "The base URL must use https, because requests contain the API key. Only this machine may use http."
    )


def is_this_machine(host: str) -> bool:
    """Whether the host is `localhost` or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
