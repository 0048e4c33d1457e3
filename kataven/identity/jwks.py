"""Fetches the issuer's public keys through its discovery document, and caches them.

Keys are fetched when a token needs one, by one thread at a time, and at most once in 30 s. Unauthenticated callers that
send invented `kid`s therefore cause at most two small requests in 30 s per worker, and do not delay valid tokens.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kataven.identity import strict
from kataven.identity.discovery import fetch_document
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.fetch import FetchFailed
from kataven.identity.jwk import VerificationKey, read_key_set
from kataven.identity.trustworthy_url import is_trustworthy_url

FRESH_SECONDS = 300
"""How long a key that the issuer withdraws is accepted at most, while the issuer is reachable."""
USABLE_SECONDS = 3600
"""The same while the issuer is unreachable. Tokens expire in that time, and the issuer issues no new ones."""
COOLDOWN_SECONDS = 30
"""The minimum time between the starts of two fetches, whether the first succeeded or not."""
FETCH_SECONDS = 5.0
"""The timeout for discovery document and key set together: the longest time that a request waits for the issuer."""

_log = logging.getLogger(__name__)


class Fetcher(Protocol):
    """Fetches a document."""

    def get(self, url: str, *, timeout_seconds: float) -> bytes:
        """The document, limited in size. Raises FetchFailed within `timeout_seconds` overall. Follows no redirects."""


@dataclass(frozen=True, slots=True)
class _KeySet:
    keys: Mapping[str, VerificationKey]
    fetched_at: float


@dataclass(slots=True)
class JwksCounts:
    """Counters since the start, for metrics."""

    fetched: int = 0
    failed: int = 0
    served_stale: int = 0
    """Keys used after `FRESH_SECONDS` because the issuer was unreachable."""


@dataclass(frozen=True, slots=True)
class JwksStatus:
    """The result of the fetches so far. Ages are in seconds."""

    attempted_ago: float | None
    """Since the start of the last fetch; None before the first."""
    succeeded_ago: float | None
    """Since the last successful fetch; None before the first."""
    failure: str | None
    """Why the last completed fetch failed, for operators; None if it succeeded."""

    @property
    def usable(self) -> bool:
        """Whether JWTs are verified with the fetched keys."""
        return self.succeeded_ago is not None and self.succeeded_ago < USABLE_SECONDS


class JwksClient:
    """The keys of one issuer. Thread-safe; nothing is fetched before the first token needs a key.

    `clock` is monotonic, in seconds. `allow_loopback_http`, for development, allows plain HTTP on a loopback address.
    Raises ValueError if the issuer's URL is not allowed.
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
        self._key_set: _KeySet | None = None  # only replaced as a whole, so that it can be read without the lock
        self._fetch_in_progress: threading.Event | None = None
        self._last_fetch_at = -math.inf
        self._last_fetch_succeeded = False
        self._failure: str | None = None

    def status(self) -> JwksStatus:
        """The result of the fetches so far, without a fetch."""
        key_set = self._key_set
        attempted_at = self._last_fetch_at
        return JwksStatus(
            None if attempted_at == -math.inf else self._clock() - attempted_at,
            None if key_set is None else self._age(key_set),
            self._failure,
        )

    def key(self, kid: str) -> VerificationKey | None:
        """The issuer's usable key with this id, or None if it has none.

        If the id is unknown or the key set is older than `FRESH_SECONDS`, the keys are fetched first. Raises
        VerifierUnavailable if this cannot be determined: no key set is younger than `USABLE_SECONDS`, or the id is
        unknown and the issuer did not respond, as with a key rotation during an outage.
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
            # Accepted although the issuer cannot confirm it: an outage of the issuer must not reject every user.
            with self._lock:
                self.counts.served_stale += 1
        return key

    def _fetch_once(self, *, wait: bool) -> None:
        """Fetch, unless another thread is fetching (then wait for it if `wait`) or the last fetch was too recent."""
        with self._lock:
            in_progress = self._fetch_in_progress
            if in_progress is None:
                if self._clock() - self._last_fetch_at < COOLDOWN_SECONDS:
                    return
                self._last_fetch_at = self._clock()
                self._last_fetch_succeeded = False
                done = self._fetch_in_progress = threading.Event()
        if in_progress is not None:
            if wait:
                in_progress.wait(FETCH_SECONDS)
            return
        try:
            self._fetch()
        finally:
            with self._lock:
                self._fetch_in_progress = None
            done.set()

    def _fetch(self) -> None:
        try:
            keys = self._download()
        except (FetchFailed, ValueError) as error:
            self.counts.failed += 1
            self._failure = str(error)
            _log.warning("the OIDC issuer's keys could not be fetched: %s", error)
            return
        self.counts.fetched += 1
        self._key_set = _KeySet(keys, self._clock())
        self._failure = None
        self._last_fetch_succeeded = True

    def _download(self) -> dict[str, VerificationKey]:
        """Raises FetchFailed, or ValueError for unusable documents."""
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
            "The signing keys of the token issuer are unavailable. Retry later.",
            retry_after_seconds=max(1, math.ceil(wait_seconds)),
        )
