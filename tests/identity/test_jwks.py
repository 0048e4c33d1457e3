"""The issuer's keys: how often they are fetched, what is accepted, and the behaviour during an outage of the issuer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kataven.identity import jwks
from kataven.identity.errors import InvalidCredential, VerifierUnavailable
from kataven.identity.fetch import FetchFailed
from kataven.identity.jwks import (
    COOLDOWN_SECONDS,
    FETCH_SECONDS,
    FRESH_SECONDS,
    RETRY_SECONDS,
    USABLE_SECONDS,
    JwksClient,
)
from kataven.identity.jwt import JwtVerifier
from tests.support.clock import Clock
from tests.support.jose import as_json, ec_signer, ed_signer
from tests.support.key_server import DISCOVERY_URL, ISSUER, JWKS_URL, KeyServer, good_claims

OLD, NEW = ec_signer("old"), ed_signer("new")


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def server() -> KeyServer:
    return KeyServer(OLD.jwk())


@pytest.fixture
def client(server: KeyServer, clock: Clock) -> JwksClient:
    return JwksClient(ISSUER, server, clock=clock)


def test_nothing_is_fetched_before_a_key_is_requested(client: JwksClient, server: KeyServer) -> None:
    assert server.asked == []


def test_keys_are_fetched_once_and_cached(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    for _ in range(5):
        assert client.key("old") is not None
        clock.advance(FRESH_SECONDS / 5 - 1)
    assert server.asked == [DISCOVERY_URL, JWKS_URL]
    assert client.counts.fetched == 1


def test_rotated_key_is_found_by_another_fetch(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    client.key("old")
    clock.advance(COOLDOWN_SECONDS)
    server.publish(OLD.jwk(), NEW.jwk())
    assert client.key("new") is not None
    assert client.key("old") is not None
    assert server.fetches == 2


def test_unknown_key_ids_cause_at_most_one_fetch_in_thirty_seconds(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    client.key("old")
    for number in range(COOLDOWN_SECONDS):
        assert client.key(f"invented-{number}") is None
        assert server.attempts == 1
        clock.advance(1)
    assert client.key("invented") is None
    assert server.attempts == 2


def test_a_failed_fetch_without_usable_keys_is_repeated_after_one_second_then_less_often(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    server.down = True
    for attempt, seconds in enumerate((1, 2, 4, 8, 16, COOLDOWN_SECONDS, COOLDOWN_SECONDS), start=1):
        for _ in range(3):
            with pytest.raises(VerifierUnavailable) as refusal:
                client.key("old")
            assert (server.attempts, refusal.value.retry_after_seconds) == (attempt, seconds)
        clock.advance(seconds - 0.5)
        with pytest.raises(VerifierUnavailable) as refusal:
            client.key("old")
        assert (server.attempts, refusal.value.retry_after_seconds) == (attempt, 1)
        clock.advance(0.5)
    server.down = False
    assert client.key("old") is not None


def test_a_slow_failure_is_not_repeated_soon(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    def time_out() -> None:
        clock.advance(FETCH_SECONDS)
        raise FetchFailed("no response")

    server.before_jwks = time_out
    with pytest.raises(VerifierUnavailable) as refusal:
        client.key("old")
    assert refusal.value.retry_after_seconds == COOLDOWN_SECONDS - FETCH_SECONDS


def test_a_failed_fetch_with_usable_keys_is_not_repeated_faster(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    assert client.key("old") is not None
    server.down = True
    clock.advance(COOLDOWN_SECONDS)
    attempts = server.attempts
    for _ in range(COOLDOWN_SECONDS):
        with pytest.raises(VerifierUnavailable):
            client.key("invented")
        clock.advance(1)
    assert server.attempts == attempts + 1


def test_issuer_that_recovers_is_used_again(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    server.down = True
    with pytest.raises(VerifierUnavailable):
        client.key("old")
    server.down = False
    clock.advance(RETRY_SECONDS)
    assert client.key("old") is not None


def test_cached_keys_are_used_for_a_limited_time_while_the_issuer_is_down(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    client.key("old")
    server.down = True
    clock.advance(USABLE_SECONDS - 1)
    assert client.key("old") is not None
    assert (client.counts.failed, client.counts.served_stale) == (1, 1)
    clock.advance(1)
    with pytest.raises(VerifierUnavailable):
        client.key("old")


def test_unknown_key_id_is_unavailable_and_not_invalid_while_the_issuer_is_down(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    client.key("old")
    clock.advance(COOLDOWN_SECONDS)
    server.down = True
    for _ in range(2):
        with pytest.raises(VerifierUnavailable):
            client.key("new")
    assert client.key("old") is not None


def test_withdrawn_key_is_rejected_after_the_cache_time(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    client.key("old")
    server.publish(NEW.jwk())
    clock.advance(FRESH_SECONDS)
    assert client.key("old") is None
    assert client.key("new") is not None


def test_withdrawn_key_is_rejected_after_an_earlier_fetch(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    client.key("old")
    server.publish(NEW.jwk())
    clock.advance(COOLDOWN_SECONDS)
    assert client.key("new") is not None
    assert client.key("old") is None


def test_key_that_becomes_unusable_is_rejected(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    client.key("old")
    server.publish(OLD.jwk(use="enc"), NEW.jwk())
    clock.advance(FRESH_SECONDS)
    assert client.key("old") is None


BAD_DISCOVERIES: dict[str, object] = {
    "another issuer": {"issuer": "https://evil.example", "jwks_uri": JWKS_URL},
    "the issuer with a slash": {"issuer": ISSUER + "/", "jwks_uri": JWKS_URL},
    "no issuer": {"jwks_uri": JWKS_URL},
    "no keys": {"issuer": ISSUER},
    "keys not a text": {"issuer": ISSUER, "jwks_uri": [JWKS_URL]},
    "keys over http": {"issuer": ISSUER, "jwks_uri": JWKS_URL.replace("https", "http")},
    "keys over http on loopback": {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1/keys"},
    "keys in a file": {"issuer": ISSUER, "jwks_uri": "file:///keys"},
    "keys in the text": {"issuer": ISSUER, "jwks_uri": "data:application/json,{}"},
    "keys at a relative place": {"issuer": ISSUER, "jwks_uri": "/oauth/v2/keys"},
    "not an object": [],
    "two issuers": b'{"issuer":"https://evil.example","issuer":"https://login.example","jwks_uri":"'
    + JWKS_URL.encode()
    + b'"}',
    "not JSON": b"<html>",
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("document", BAD_DISCOVERIES.values(), ids=BAD_DISCOVERIES)
def test_untrustworthy_discovery_document_is_rejected(client: JwksClient, server: KeyServer, document: object) -> None:
    server.documents[DISCOVERY_URL] = as_json(document)
    with pytest.raises(VerifierUnavailable):
        client.key("old")
    assert server.asked == [DISCOVERY_URL]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        {},
        {"keys": {}},
        {"keys": [{"kid": "old"}] * 101},
        b'{"keys":[],"keys":[]}',
        b"[" * 100_000,
    ],
    ids=["empty", "html", "a list", "no keys", "keys no list", "too many", "twice", "nested"],
)
def test_invalid_key_set_does_not_replace_the_cached_one(
    client: JwksClient, server: KeyServer, clock: Clock, document: object
) -> None:
    client.key("old")
    server.answer_jwks(document)
    clock.advance(FRESH_SECONDS)
    assert client.key("old") is not None
    assert client.counts.failed == 1


def test_empty_key_set_is_used(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    client.key("old")
    server.publish()
    clock.advance(FRESH_SECONDS)
    assert client.key("old") is None


def test_both_documents_share_one_deadline(client: JwksClient, server: KeyServer, clock: Clock) -> None:
    class Slow(KeyServer):
        def get(self, url: str, *, timeout_seconds: float) -> bytes:
            document = super().get(url, timeout_seconds=timeout_seconds)
            clock.advance(4.0)
            return document

    slow = Slow(OLD.jwk())
    assert JwksClient(ISSUER, slow, clock=clock).key("old") is not None
    assert slow.timeouts == [FETCH_SECONDS, FETCH_SECONDS - 4.0]


def test_trailing_slash_of_the_issuer_is_not_repeated(clock: Clock) -> None:
    server = KeyServer(OLD.jwk())
    server.discovery(issuer=f"{ISSUER}/", jwks_uri=JWKS_URL)
    assert JwksClient(f"{ISSUER}/", server, clock=clock).key("old") is not None
    assert server.asked[0] == DISCOVERY_URL


@pytest.mark.parametrize(
    ("url", "in_development", "in_production"),
    [
        ("https://login.example", True, True),
        ("https://login.example:8443/path", True, True),
        ("http://127.0.0.1:9000", True, False),
        ("http://127.1.2.3:9000", True, False),
        ("http://localhost:9000", True, False),
        ("http://[::1]:9000", True, False),
        ("http://login.example", False, False),
        ("http://127.0.0.1.evil.example", False, False),
        ("http://localhost.evil.example", False, False),
        ("http://127.0.0.1@evil.example", False, False),
        ("http://evil.example\\@127.0.0.1", False, False),
        ("http://0.0.0.0:9000", False, False),
        ("https://user@login.example", False, False),
        ("https://login.example#fragment", False, False),
        ("https://login.example?query", False, False),
        ("https://login.example:port", False, False),
        ("https://login.example:99999", False, False),
        ("https://login.example/\n", False, False),
        ("https:///path", False, False),
        ("ftp://login.example", False, False),
        ("login.example", False, False),
        ("", False, False),
    ],
)
def test_issuer_is_reached_over_https_or_on_loopback_in_development(
    server: KeyServer, url: str, in_development: bool, in_production: bool
) -> None:
    for allowed, accepted in ((True, in_development), (False, in_production)):
        if accepted:
            JwksClient(url, server, allow_loopback_http=allowed)
        else:
            with pytest.raises(ValueError, match="https"):
                JwksClient(url, server, allow_loopback_http=allowed)


class Gate:
    """Blocks a KeyServer during a fetch until it is opened."""

    def __init__(self, server: KeyServer) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        server.before_jwks = self._pass

    def _pass(self) -> None:
        self.reached.set()
        assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()


def test_many_callers_share_one_fetch(client: JwksClient, server: KeyServer) -> None:
    gate = Gate(server)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(client.key, "old")
        assert gate.reached.wait(60)
        others = [threads.submit(client.key, "old") for _ in range(7)]
        gate.open()
        assert all(caller.result() is not None for caller in (first, *others))
    assert server.attempts == 1


def test_request_with_a_cached_key_does_not_wait_for_a_fetch(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    client.key("old")
    clock.advance(FRESH_SECONDS)
    gate = Gate(server)
    with ThreadPoolExecutor(1) as threads:
        fetching = threads.submit(client.key, "new")
        assert gate.reached.wait(60)
        assert client.key("old") is not None  # returned while the fetch hangs
        assert not fetching.done()
        gate.open()
        assert fetching.result() is None


def test_waiting_for_a_concurrent_fetch_has_a_deadline(
    client: JwksClient, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.01)
    gate = Gate(server)
    with ThreadPoolExecutor(1) as threads:
        fetching = threads.submit(client.key, "old")
        assert gate.reached.wait(60)
        with pytest.raises(VerifierUnavailable):
            client.key("old")
        gate.open()
        assert fetching.result() is not None


def test_unexpected_error_in_a_fetch_does_not_block_the_next_one(
    client: JwksClient, server: KeyServer, clock: Clock
) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    server.before_jwks = fail
    with pytest.raises(RuntimeError):
        client.key("old")
    server.before_jwks = lambda: None
    clock.advance(COOLDOWN_SECONDS)
    assert client.key("old") is not None


def test_failures_are_logged_for_the_operator(
    client: JwksClient, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.down = True
    with pytest.raises(VerifierUnavailable):
        client.key("old")
    assert "could not be fetched" in caplog.text


def test_complete_rotation(server: KeyServer, client: JwksClient, clock: Clock) -> None:
    """Old tokens remain valid while both keys are published; after the old key is withdrawn, they are rejected."""
    now = Clock()
    verifier = JwtVerifier(client, ISSUER, "kataven", now)
    claims: dict[str, Any] = good_claims(now.now)
    assert verifier.claims(OLD.token(claims)).subject == "alice"
    server.publish(OLD.jwk(), NEW.jwk())
    clock.advance(COOLDOWN_SECONDS)
    assert verifier.claims(NEW.token(claims)).subject == "alice"
    assert verifier.claims(OLD.token(claims)).subject == "alice"
    server.publish(NEW.jwk())
    clock.advance(FRESH_SECONDS)
    assert verifier.claims(NEW.token(claims)).subject == "alice"
    with pytest.raises(InvalidCredential):
        verifier.claims(OLD.token(claims))


def test_replaced_key_with_the_same_id_is_used_after_the_cache_time(
    server: KeyServer, client: JwksClient, clock: Clock
) -> None:
    now = Clock()
    verifier = JwtVerifier(client, ISSUER, "kataven", now)
    replaced = ec_signer("replacement").named("old")
    assert verifier.claims(OLD.token(good_claims(now.now))).subject == "alice"
    server.publish(replaced.jwk())
    with pytest.raises(InvalidCredential):
        verifier.claims(replaced.token(good_claims(now.now)))
    clock.advance(FRESH_SECONDS)
    assert verifier.claims(replaced.token(good_claims(now.now))).subject == "alice"


def test_fetch_failures_do_not_reach_the_caller(client: JwksClient, server: KeyServer) -> None:
    server.down = True
    with pytest.raises(VerifierUnavailable) as refusal:
        client.key("old")
    assert not isinstance(refusal.value.__cause__, FetchFailed)
    assert ISSUER not in str(refusal.value)
