"""The issuer's public keys, found through its discovery document and kept for a while.

Keys are fetched when a token asks for one, by one caller at a time, and at most once in 30 s whatever tokens ask for:
a stranger who invents `kid`s costs the issuer two small requests in 30 s from each worker, and good tokens nothing.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from kataven.identity import strict
from kataven.identity.discovery import fetch_document
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.fetch import FetchFailed
from kataven.identity.jwk import VerificationKey, read_key_set

FRESH_SECONDS = 300
"""A key that the issuer withdraws is accepted this long at most, while the issuer can be reached."""
USABLE_SECONDS = 3600
"""And this long while it can't. Tokens end by themselves meanwhile, and an issuer that is down makes no new ones."""
COOLDOWN_SECONDS = 30
"""Between the starts of two fetches, whether the first succeeded or not."""
FETCH_SECONDS = 5.0
"""For discovery document and key set together: the longest that a request can wait for the issuer."""

_log = logging.getLogger(__name__)


class Fetcher(Protocol):
    """Something that fetches a document."""

    def get(self, url: str, *, timeout_seconds: float) -> bytes:
        """The document, bounded in size, or FetchFailed within `timeout_seconds` overall. Follows no redirect."""


@dataclass(frozen=True, slots=True)
class _KeySet:
    keys: Mapping[str, VerificationKey]
    fetched_at: float


@dataclass(slots=True)
class JwksCounts:
    """What happened since the start, for metrics."""

    fetched: int = 0
    failed: int = 0
    served_stale: int = 0
    """Keys given out past `FRESH_SECONDS` because the issuer could not be asked again."""


class JwksClient:
    """The keys of one issuer. Threads share it; nothing is fetched before the first token asks for a key.

    `clock` is monotonic, in seconds. With `allow_loopback_http`, which is for development, the issuer may be reached by
    plain HTTP on a loopback address. Raises ValueError for an issuer that is no such URL.
    """

    def __init__(
        self,
        issuer: str,
        fetcher: Fetcher,
        *,
        allow_loopback_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not is_trustworthy_url(issuer, allow_loopback_http=allow_loopback_http) or "?" in issuer:
            raise ValueError("the issuer must be an https URL without query or fragment")
        self.counts = JwksCounts()
        self._issuer = issuer
        self._fetcher = fetcher
        self._allow_loopback_http = allow_loopback_http
        self._clock = clock
        self._lock = threading.Lock()
        self._key_set: _KeySet | None = None  # replaced whole, so that it can be read without the lock
        self._fetch_under_way: threading.Event | None = None
        self._last_fetch_at = -math.inf
        self._last_fetch_succeeded = False

    def key(self, kid: str) -> VerificationKey | None:
        """The issuer's usable key of this name, or None if it has none.

        A name that is not known, or a key set older than `FRESH_SECONDS`, makes it ask the issuer first. Raises
        VerifierUnavailable when the answer can't be told: no key set younger than `USABLE_SECONDS`, or a name that
        is not in it while the issuer did not answer, which is what a rotation during an outage looks like.
        """
        key_set = self._key_set
        if key_set is None or kid not in key_set.keys or self._age(key_set) >= FRESH_SECONDS:
            known = key_set is not None and kid in key_set.keys and self._age(key_set) < USABLE_SECONDS
            self._fetch_once(wait=not known)
            key_set = self._key_set
        if key_set is None or self._age(key_set) >= USABLE_SECONDS:
            raise self._unavailable()
        key = key_set.keys.get(kid)
        if key is None and not self._last_fetch_succeeded:
            raise self._unavailable()
        if self._age(key_set) >= FRESH_SECONDS:
            # Let through although the issuer can't confirm it: an outage there must not sign everybody out here.
            with self._lock:
                self.counts.served_stale += 1
        return key

    def _fetch_once(self, *, wait: bool) -> None:
        """Fetch, unless somebody else is at it (then wait for them, if told to) or it was tried a moment ago."""
        with self._lock:
            under_way = self._fetch_under_way
            if under_way is None:
                if self._clock() - self._last_fetch_at < COOLDOWN_SECONDS:
                    return
                self._last_fetch_at = self._clock()
                self._last_fetch_succeeded = False
                done = self._fetch_under_way = threading.Event()
        if under_way is not None:
            if wait:
                under_way.wait(FETCH_SECONDS)
            return
        try:
            self._fetch()
        finally:
            with self._lock:
                self._fetch_under_way = None
            done.set()

    def _fetch(self) -> None:
        try:
            keys = self._download()
        except (FetchFailed, ValueError) as error:
            self.counts.failed += 1
            _log.warning("the issuer's keys could not be fetched: %s", error)
            return
        self.counts.fetched += 1
        self._key_set = _KeySet(keys, self._clock())
        self._last_fetch_succeeded = True

    def _download(self) -> dict[str, VerificationKey]:
        """Raises FetchFailed, or ValueError for documents that can't be used."""
        deadline = self._clock() + FETCH_SECONDS
        jwks_uri = fetch_document(self._issuer, self._fetcher, timeout_seconds=FETCH_SECONDS).get("jwks_uri")
        if not isinstance(jwks_uri, str) or not self._trusts(jwks_uri):
            raise ValueError("`jwks_uri` is not an https URL")
        remaining = max(deadline - self._clock(), 0.0)
        return read_key_set(strict.json_object(self._fetcher.get(jwks_uri, timeout_seconds=remaining)))

    def _trusts(self, url: str) -> bool:
        return is_trustworthy_url(url, allow_loopback_http=self._allow_loopback_http)

    def _age(self, key_set: _KeySet) -> float:
        return self._clock() - key_set.fetched_at

    def _unavailable(self) -> VerifierUnavailable:
        wait_seconds = self._last_fetch_at + COOLDOWN_SECONDS - self._clock()
        return VerifierUnavailable(
            "The token issuer's keys can't be fetched right now.", retry_after_seconds=max(1, math.ceil(wait_seconds))
        )


def is_trustworthy_url(url: str, *, allow_loopback_http: bool) -> bool:
    """Whether keys may be fetched from here: https, or http on a loopback address if that is allowed."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        return False
    # `@`, a backslash or a blank is where two readers of one URL find two hosts in it.
    if not host or not url.isascii() or not url.isprintable() or any(sign in url for sign in "@\\ #"):
        return False
    return parts.scheme == "https" or (allow_loopback_http and parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
