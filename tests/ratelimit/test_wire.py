"""The connections to Redis: what URLs mean, and what happens when Redis does not answer as it should."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Refusal, Unreachable, pack
from tests.ratelimit.conftest import PATIENT
from tests.ratelimit.proxy import Proxy

HASTY = RedisTimeouts(slow=0.01, answer=0.05, connect=0.5)
SOON_SLOW = RedisTimeouts(slow=0.01, answer=30, connect=5, slow_at_most=0.05)


@contextmanager
def wired(url: str, timeouts: RedisTimeouts = PATIENT) -> Iterator[RedisPool]:
    wire = RedisPool(url, timeouts)
    yield wire
    wire.close()


def ask(wire: RedisPool, *command: str | int) -> Any:
    return wire.call(pack(*command))


def report_usage(wire: RedisPool, *command: str | int) -> None:
    wire.send(pack(*command))


def test_unix_socket_and_tcp(redis_url: str) -> None:
    with wired(redis_url) as wire, Proxy(redis_url) as proxy, wired(proxy.url) as over_tcp:
        ask(wire, "SET", "a", 1)
        assert ask(over_tcp, "GET", "a") == b"1"


def test_database_of_the_url_is_selected(redis_url: str, client: redis.Redis) -> None:
    with wired(redis_url.replace("db=0", "db=3")) as wire:
        ask(wire, "SET", "a", 1)
    assert client.get("a") is None


def test_user_and_password_of_the_url_are_shown(redis_url: str, client: redis.Redis) -> None:
    client.acl_setuser("limits", enabled=True, passwords=["+p@ss"], keys=["*"], commands=["+get"])
    with Proxy(redis_url) as proxy:
        with wired(proxy.url.replace("//", "//limits:p%40ss@")) as wire:
            assert ask(wire, "GET", "a") is None
            with pytest.raises(Refusal, match="NOPERM"):
                ask(wire, "SET", "a", 1)
        with wired(proxy.url.replace("//", "//limits:wrong@")) as wire, pytest.raises(Refusal, match="WRONGPASS"):
            ask(wire, "GET", "a")
    client.acl_deluser("limits")


def test_error_of_redis_is_a_refusal_and_the_connection_goes_on(redis_url: str) -> None:
    with wired(redis_url) as wire:
        with pytest.raises(Refusal, match="unknown command"):
            ask(wire, "NONSENSE")
        assert ask(wire, "PING") == b"PONG"


def test_what_is_sent_without_waiting_is_done_before_the_next_call(redis_url: str) -> None:
    with wired(redis_url) as wire:
        for number in range(5):
            report_usage(wire, "SET", "a", number)
        report_usage(wire, "NONSENSE")
        assert ask(wire, "GET", "a") == b"4"
        assert ask(wire, "PING") == b"PONG"


def test_closing_waits_until_what_was_sent_is_done(redis_url: str, client: redis.Redis) -> None:
    wire = RedisPool(redis_url, PATIENT)
    for _ in range(1000):
        report_usage(wire, "INCR", "a")
    wire.close()
    assert client.get("a") == b"1000"


def test_after_closing_nothing_is_opened_again(redis_url: str) -> None:
    wire = RedisPool(redis_url)
    wire.close()
    with pytest.raises(Unreachable):
        ask(wire, "PING")
    with pytest.raises(Unreachable):
        report_usage(wire, "PING")


def test_connections_that_broke_while_idle_are_replaced(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, wired(proxy.url) as wire:
        assert ask(wire, "PING") == b"PONG"
        proxy.cut()
        assert ask(wire, "PING") == b"PONG"


def test_nobody_listening_is_unreachable(redis_url: str) -> None:
    with Proxy(redis_url) as proxy:
        pass
    with wired(proxy.url) as wire, pytest.raises(Unreachable, match="can't connect"):
        ask(wire, "PING")


def test_silent_redis_is_unreachable(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, wired(proxy.url, HASTY) as wire:
        proxy.be_silent()
        with pytest.raises(Unreachable, match="no answer"):
            ask(wire, "PING")


def test_slow_answer_is_waited_for_and_noticed(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, wired(proxy.url, SOON_SLOW) as wire:
        proxy.delay_seconds = 0.1
        assert ask(wire, "PING") == b"PONG"
        assert wire.slow_since is not None
        since = wire.slow_since
        assert ask(wire, "PING") == b"PONG"
        assert wire.slow_since == since


def test_redis_that_is_far_is_not_slow_and_is_when_it_takes_longer_than_ever(redis_url: str) -> None:
    timeouts = RedisTimeouts(slow=0.01, answer=30, connect=5, slow_at_most=30, times_lag=0)
    with Proxy(redis_url) as proxy, wired(proxy.url, timeouts) as wire:
        proxy.delay_seconds = 0.05
        assert ask(wire, "PING") == b"PONG"
        assert wire.slow_since is None
        slow_after = wire._latency.slow_after
        assert slow_after >= 0.15
        proxy.delay_seconds = slow_after + 0.1
        assert ask(wire, "PING") == b"PONG"
        assert wire.slow_since is not None


def test_redis_is_too_slow_when_every_answer_is_slow_for_a_while(redis_url: str) -> None:
    with wired(redis_url) as wire:
        ask(wire, "PING")
        wire.slow_since, wire._slow_answers = time.monotonic() - 1, 2
        assert not wire.too_slow
        wire._slow_answers = 3
        assert wire.too_slow
        wire._latency.overslept(10)  # it is this process that is late
        assert not wire.too_slow


def test_quick_answer_ends_a_slow_time(redis_url: str) -> None:
    with wired(redis_url) as wire:
        wire.slow_since = 1.0
        ask(wire, "PING")
        assert wire.slow_since is None


def test_what_does_not_speak_redis_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        wire = RedisPool(f"redis://127.0.0.1:{listener.getsockname()[1]}", PATIENT)
        with pytest.raises(Unreachable, match="Protocol error"):
            ask(wire, "PING")
        thread.join()


def test_threads_do_not_get_each_others_answers(redis_url: str) -> None:
    wrong: list[object] = []

    def converse(mine: int) -> None:
        for number in range(200):
            text = f"{mine}-{number}"
            if ask(wire, "ECHO", text) != text.encode():
                wrong.append(text)
            report_usage(wire, "ECHO", "not mine")

    with wired(redis_url) as wire:
        threads = [threading.Thread(target=converse, args=(mine,)) for mine in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "redis.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def tls_proxy(redis_url: str, certificate: Path) -> Iterator[Proxy]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with Proxy(redis_url, context) as proxy:
        yield proxy


def test_tls_with_a_certificate_that_is_trusted(tls_proxy: Proxy, certificate: Path) -> None:
    with wired(f"{tls_proxy.url}?ssl_ca_certs={certificate}") as wire:
        report_usage(wire, "SET", "a", 1)
        assert ask(wire, "GET", "a") == b"1"


def test_slow_answer_over_tls_is_waited_for(tls_proxy: Proxy, certificate: Path) -> None:
    with wired(f"{tls_proxy.url}?ssl_ca_certs={certificate}", SOON_SLOW) as wire:
        tls_proxy.delay_seconds = 0.1
        assert ask(wire, "PING") == b"PONG"
        assert wire.slow_since is not None


def test_certificate_that_is_not_trusted_is_refused(tls_proxy: Proxy) -> None:
    with wired(tls_proxy.url) as wire, pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        ask(wire, "PING")


def test_url_can_not_turn_off_the_verification(tls_proxy: Proxy) -> None:
    with wired(f"{tls_proxy.url}?ssl_cert_reqs=none") as wire, pytest.raises(ValueError, match="ssl_cert_reqs"):
        ask(wire, "PING")
