"""Connections to Redis: URLs, timeouts, lost connections and TLS."""

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

HASTY = RedisTimeouts(slow=0.01, reply=0.05, connect=0.5)
SOON_SLOW = RedisTimeouts(slow=0.01, reply=30, connect=5, slow_max=0.05)


@contextmanager
def connected(url: str, timeouts: RedisTimeouts = PATIENT) -> Iterator[RedisPool]:
    pool = RedisPool(url, timeouts)
    yield pool
    pool.close()


def call(pool: RedisPool, *command: str | int) -> Any:
    return pool.call(pack(*command))


def send(pool: RedisPool, *command: str | int) -> None:
    pool.send(pack(*command))


def test_unix_socket_and_tcp(redis_url: str) -> None:
    with connected(redis_url) as pool, Proxy(redis_url) as proxy, connected(proxy.url) as over_tcp:
        call(pool, "SET", "a", 1)
        assert call(over_tcp, "GET", "a") == b"1"


def test_database_of_the_url_is_selected(redis_url: str, client: redis.Redis) -> None:
    with connected(redis_url.replace("db=0", "db=3")) as pool:
        call(pool, "SET", "a", 1)
    assert client.get("a") is None


def test_user_and_password_of_the_url_are_sent(redis_url: str, client: redis.Redis) -> None:
    client.acl_setuser("limits", enabled=True, passwords=["+p@ss"], keys=["*"], commands=["+get"])
    with Proxy(redis_url) as proxy:
        with connected(proxy.url.replace("//", "//limits:p%40ss@")) as pool:
            assert call(pool, "GET", "a") is None
            with pytest.raises(Refusal, match="NOPERM"):
                call(pool, "SET", "a", 1)
        with connected(proxy.url.replace("//", "//limits:wrong@")) as pool, pytest.raises(Refusal, match="WRONGPASS"):
            call(pool, "GET", "a")
    client.acl_deluser("limits")


def test_error_reply_raises_refusal_and_the_connection_remains_usable(redis_url: str) -> None:
    with connected(redis_url) as pool:
        with pytest.raises(Refusal, match="unknown command"):
            call(pool, "NONSENSE")
        assert call(pool, "PING") == b"PONG"


def test_commands_sent_without_waiting_run_before_the_next_call(redis_url: str) -> None:
    with connected(redis_url) as pool:
        for number in range(5):
            send(pool, "SET", "a", number)
        send(pool, "NONSENSE")
        assert call(pool, "GET", "a") == b"4"
        assert call(pool, "PING") == b"PONG"


def test_close_waits_for_pending_commands(redis_url: str, client: redis.Redis) -> None:
    pool = RedisPool(redis_url, PATIENT)
    for _ in range(1000):
        send(pool, "INCR", "a")
    pool.close()
    assert client.get("a") == b"1000"


def test_closed_pool_opens_no_connection(redis_url: str) -> None:
    pool = RedisPool(redis_url)
    pool.close()
    with pytest.raises(Unreachable):
        call(pool, "PING")
    with pytest.raises(Unreachable):
        send(pool, "PING")


def test_connections_that_broke_while_idle_are_replaced(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, connected(proxy.url) as pool:
        assert call(pool, "PING") == b"PONG"
        proxy.cut()
        assert call(pool, "PING") == b"PONG"


def test_refused_connection_raises_unreachable(redis_url: str) -> None:
    with Proxy(redis_url) as proxy:
        pass
    with connected(proxy.url) as pool, pytest.raises(Unreachable, match="can't connect"):
        call(pool, "PING")


def test_redis_without_replies_raises_unreachable(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, connected(proxy.url, HASTY) as pool:
        proxy.stop_replying()
        with pytest.raises(Unreachable, match="no reply"):
            call(pool, "PING")


def test_slow_reply_is_returned_and_recorded(redis_url: str) -> None:
    with Proxy(redis_url) as proxy, connected(proxy.url, SOON_SLOW) as pool:
        proxy.delay_seconds = 0.1
        assert call(pool, "PING") == b"PONG"
        assert pool.slow_since is not None
        since = pool.slow_since
        assert call(pool, "PING") == b"PONG"
        assert pool.slow_since == since


def test_distant_redis_is_slow_only_above_its_usual_latency(redis_url: str) -> None:
    timeouts = RedisTimeouts(slow=0.01, reply=30, connect=5, slow_max=30, lag_factor=0)
    with Proxy(redis_url) as proxy, connected(proxy.url, timeouts) as pool:
        proxy.delay_seconds = 0.05
        assert call(pool, "PING") == b"PONG"
        assert pool.slow_since is None
        slow_threshold = pool._latency.slow_threshold
        assert slow_threshold >= 0.15
        proxy.delay_seconds = slow_threshold + 0.1
        assert call(pool, "PING") == b"PONG"
        assert pool.slow_since is not None


def test_redis_is_too_slow_after_a_series_of_slow_replies(redis_url: str) -> None:
    with connected(redis_url) as pool:
        call(pool, "PING")
        pool.slow_since, pool._slow_replies = time.monotonic() - 1, 2
        assert not pool.too_slow
        pool._slow_replies = 3
        assert pool.too_slow
        pool._latency.record_delay(10)  # this process is delayed, not Redis
        assert not pool.too_slow


def test_fast_reply_ends_a_series_of_slow_replies(redis_url: str) -> None:
    with connected(redis_url) as pool:
        pool.slow_since = 1.0
        call(pool, "PING")
        assert pool.slow_since is None


def test_server_with_another_protocol_raises_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(100)

        thread = threading.Thread(target=reply)
        thread.start()
        pool = RedisPool(f"redis://127.0.0.1:{listener.getsockname()[1]}", PATIENT)
        with pytest.raises(Unreachable, match="Protocol error"):
            call(pool, "PING")
        thread.join()


def test_threads_receive_their_own_replies(redis_url: str) -> None:
    wrong: list[object] = []

    def exchange(mine: int) -> None:
        for number in range(200):
            text = f"{mine}-{number}"
            if call(pool, "ECHO", text) != text.encode():
                wrong.append(text)
            send(pool, "ECHO", "not mine")

    with connected(redis_url) as pool:
        threads = [threading.Thread(target=exchange, args=(mine,)) for mine in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key."""
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


def test_tls_with_a_trusted_certificate(tls_proxy: Proxy, certificate: Path) -> None:
    with connected(f"{tls_proxy.url}?ssl_ca_certs={certificate}") as pool:
        send(pool, "SET", "a", 1)
        assert call(pool, "GET", "a") == b"1"


def test_slow_reply_over_tls_is_returned(tls_proxy: Proxy, certificate: Path) -> None:
    with connected(f"{tls_proxy.url}?ssl_ca_certs={certificate}", SOON_SLOW) as pool:
        tls_proxy.delay_seconds = 0.1
        assert call(pool, "PING") == b"PONG"
        assert pool.slow_since is not None


def test_untrusted_certificate_is_rejected(tls_proxy: Proxy) -> None:
    with connected(tls_proxy.url) as pool, pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        call(pool, "PING")


def test_url_cannot_disable_certificate_verification(tls_proxy: Proxy) -> None:
    with pytest.raises(ValueError, match="ssl_cert_reqs"):
        RedisPool(f"{tls_proxy.url}?ssl_cert_reqs=none", PATIENT)
