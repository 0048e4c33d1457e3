"""How a client is set up: the key, where it may be sent, how long to wait."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2

from kataven.client.errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.kataven.ai/v1"
DEFAULT_TIMEOUT_SECONDS = 30.0
API_KEY_VARIABLE = "KATAVEN_API_KEY"
BASE_URL_VARIABLE = "KATAVEN_BASE_URL"

_LAST_PART = 49
_API_KEY = re.compile(rf"sk_live_[a-z0-9][a-z0-9_-]{{0,62}}_[0-9A-Za-z]{{{_LAST_PART}}}")


@dataclass(frozen=True, slots=True)
class Options:
    """Checked, and complete."""

    api_key: str = field(repr=False)
    base_url: str
    timeout_seconds: float
    encrypted: bool
    """False over plain HTTP, on this machine: then no proxy of the environment is used, for it would see the key."""


def options(api_key: str | None, base_url: str | None, timeout_seconds: float) -> Options:
    """From arguments, else from the environment. Raises ConfigurationError, which never repeats the key."""
    if not is_number(timeout_seconds) or not 0 < timeout_seconds < math.inf:  # nor anything that is no number
        raise ConfigurationError("`timeout` must be a number of seconds above 0, such as 30.0; there is always one.")
    for name, given in (("api_key", api_key), ("base_url", base_url)):
        if not isinstance(given, str | None):
            raise ConfigurationError(f"`{name}` must be a string, or left out.")
    url = check_base_url(base_url)
    return Options(_key(api_key), url, timeout_seconds, _is_encrypted(url))


def is_number(given: object) -> bool:
    """Whether it can be compared with numbers; True and False are none."""
    return isinstance(given, int | float) and not isinstance(given, bool)


def check_base_url(given: str | None) -> str:
    """The API's URL, from the argument, else the environment, else production. Raises ConfigurationError."""
    url = (given or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL).rstrip("/")
    _is_encrypted(url)
    if not urlsplit(url).path:
        raise ConfigurationError(f"The base URL has no path: did you mean {url}/v1?")
    return url


def _key(given: str | None) -> str:
    key = (given if given is not None else os.environ.get(API_KEY_VARIABLE, "")).strip()
    if not key:
        raise ConfigurationError(f"There is no API key: set {API_KEY_VARIABLE}, or pass `api_key`.")
    if key.startswith("pk_live_"):
        raise ConfigurationError("This is a widget key (pk_live_…), which opens nothing. Use an API key (sk_live_…).")
    if not _API_KEY.fullmatch(key):
        raise ConfigurationError(_what_is_wrong(key))
    return key


def _what_is_wrong(key: str) -> str:
    """With a text that is no API key. Repeats nothing of it."""
    if key[0] in "\"'`<" or key[-1] in "\"'`>":
        return "The API key is in quotes or brackets: leave them out."
    last = key.rpartition("_")[2]
    if key.startswith("sk_live_") and key.count("_") > 2 and len(last) < _LAST_PART and (not last or last.isalnum()):
        return f"The API key was cut short: its last part has {len(last)} of {_LAST_PART} characters. Copy it again."
    return f"This is no API key: it should look like sk_live_<account>_<{_LAST_PART} letters and digits>."


def _is_encrypted(url: str) -> bool:
    """Whether the key travels encrypted. Raises ConfigurationError where it would not, but for this machine."""
    try:
        parts = urlsplit(url)
        host, _, _ = parts.hostname, parts.port, httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        raise ConfigurationError(f"The base URL is not one: use something like {DEFAULT_BASE_URL}.") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(
            f"The base URL takes no user, query or fragment: use something like {DEFAULT_BASE_URL}."
        )
    if parts.scheme == "https" and host:
        return True
    if parts.scheme == "http" and host and _is_this_machine(host):
        return False
    raise ConfigurationError(
        "The base URL must be https, or the key could be read on its way (http: this machine only)."
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
