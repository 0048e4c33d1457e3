"""EmbeddedRedis: persistence, access, and recovery after a killed run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import redis

from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.redis_server import EmbeddedRedis
from tests.support.servers import mode, pids_that_mention, wait_for_exit


def _count(server: EmbeddedRedis) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.incr("count"))


def _pid(server: EmbeddedRedis) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("server")["process_id"])


def _socket(server: EmbeddedRedis) -> Path:
    return Path(server.url.removeprefix("unix://").removesuffix("?db=0"))


def test_data_and_url_survive_a_restart(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert _count(server) == 1
        first_url = server.url
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert _count(server) == 2
        assert server.url == first_url


def test_scratch_server_writes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        with EmbeddedRedis(tmp_path / "redis", persistent=False) as server:
            assert _count(server) == 1


def test_socket_and_data_are_private(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert mode(_socket(server).parent) == 0o700
        assert mode(_socket(server)) == 0o700
        assert mode(tmp_path / "redis") == 0o700
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("port") == {"port": "0"}


def test_deep_data_folder_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-rather-long-name"] * 6)
    with EmbeddedRedis(deep) as server:
        assert _count(server) == 1
        socket = _socket(server)
    assert not socket.parent.exists()


def test_folder_in_use_is_reported(tmp_path: Path) -> None:
    refusal = rf"^another run uses \S+ \(process {os.getpid()}\); stop it first$"
    with EmbeddedRedis(tmp_path / "redis") as server:
        with pytest.raises(DevError, match=refusal):
            EmbeddedRedis(tmp_path / "redis").start()
        assert _count(server) == 1


def test_killed_server_is_detected_and_the_next_start_recovers(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        _count(server)
        pid = _pid(server)
        os.kill(pid, signal.SIGKILL)
        wait_for_exit(pid)
        with pytest.raises(DevError, match=r"Redis exited unexpectedly \(SIGKILL\)"):
            server.check()
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert _count(server) == 2


def test_orphaned_server_is_stopped_first(tmp_path: Path) -> None:
    orphan = EmbeddedRedis(tmp_path / "redis")
    orphan.start()
    try:
        _count(orphan)
        pid = _pid(orphan)
        orphan._lock.release()  # as the kernel does when a supervisor exits
        with EmbeddedRedis(tmp_path / "redis") as server:
            assert _count(server) == 2
            assert _pid(server) != pid
    finally:
        orphan.stop()


def test_damaged_data_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        _count(server)
    # One file in Redis 6. In Redis 7 it is in a folder, next to a base file and a manifest.
    (log,) = [*tmp_path.rglob("*.incr.aof")] or [*tmp_path.rglob("appendonly.aof")]
    log.write_bytes(b"nonsense\r\n" * 10)
    with pytest.raises(DevError, match=r"(?s)Redis exited unexpectedly.*append only file"):
        EmbeddedRedis(tmp_path / "redis").start()
    assert not pids_that_mention(str(tmp_path / "redis"))
