"""`pytest --reuse-servers`: servers that outlive a run are found again, empty, and by one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from kataven.dev.embedded.errors import DevError
from tests.support import kept_servers
from tests.support.kept_servers import taken_slot
from tests.support.servers import ask

pytestmark = pytest.mark.processes

STARTED = "SELECT pg_postmaster_start_time()"
DATABASES = "SELECT datname FROM pg_database ORDER BY 1"
ROLES = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'"


@pytest.fixture
def folder(server_folder: Path) -> Iterator[Path]:
    folder = server_folder / "kept"
    yield folder
    kept_servers.stop(folder)


def test_next_run_finds_the_same_servers_empty_and_another_slot_while_they_are_used(folder: Path) -> None:
    with taken_slot(folder) as first:
        started = ask(first.postgres, STARTED)
        databases, roles = ask(first.postgres, DATABASES), ask(first.postgres, ROLES)
        ask(first.postgres, 'CREATE DATABASE "left ""over""" IS_TEMPLATE true')
        ask(first.postgres, "CREATE ROLE left_over LOGIN")
        with redis.Redis.from_url(first.redis.url) as client:
            client.set("left", "over")
        other, lock = kept_servers._free_slot(folder)
        lock.release()
        assert other.folder != first.folder
    with taken_slot(folder) as second:
        assert second.folder == first.folder
        assert ask(second.postgres, STARTED) == started
        assert (ask(second.postgres, DATABASES), ask(second.postgres, ROLES)) == (databases, roles)
        with redis.Redis.from_url(second.redis.url) as client:
            assert client.dbsize() == 0
        assert kept_servers.stop(folder) == 0, "servers of a run are not stopped"
    assert kept_servers.stop(folder) == 1
    assert not second.is_kept()
    assert not second.ready.exists()


def test_next_run_starts_servers_that_were_stopped(folder: Path) -> None:
    with taken_slot(folder) as slot:
        started = ask(slot.postgres, STARTED)
    assert kept_servers.stop(folder) == 1
    with taken_slot(folder) as slot:
        assert ask(slot.postgres, STARTED) != started


def test_folder_that_others_can_change_is_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "servers"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(DevError, match="belongs to another user"), taken_slot(folder):
        pass
