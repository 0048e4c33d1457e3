"""Folders, files, sockets and locks: private, atomic, and safe from other users."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kataven.dev.embedded import files
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import passable_folder, private_folder, read_text, write_private
from kataven.dev.embedded.lock import FolderLock
from kataven.dev.embedded.sockets import SocketFolder
from tests.support.servers import AS_ROOT, mode


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_new_folder_is_private_with_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert mode(private_folder(tmp_path / "private")) == 0o700
        assert mode(passable_folder(tmp_path / "passable")) == (0o711 if AS_ROOT else 0o700)
    finally:
        os.umask(before)


def test_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    private_folder(tmp_path)
    passable_folder(tmp_path)
    assert mode(tmp_path) == 0o750


def test_file_at_the_path_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DevError, match=f"^cannot create the folder {tmp_path / 'taken'}: File exists$"):
        private_folder(tmp_path / "taken")


def test_written_file_is_private_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "secret"
    write_private(path, "old")
    monkeypatch.setattr(files.os, "fsync", disk_full)
    with pytest.raises(DevError, match=f"cannot write {path}: No space left"):
        write_private(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_read_text_distinguishes_missing_from_unreadable_files(tmp_path: Path) -> None:
    assert read_text(tmp_path / "none") is None
    with pytest.raises(DevError, match="cannot read"):
        read_text(tmp_path)


def test_lock_is_held_until_released(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(DevError, match=f"another run uses {tmp_path} "):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_unlocked_lock_file_can_be_locked(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    lock = FolderLock(tmp_path)
    lock.acquire()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_lock_does_not_follow_symlinks(tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_text("precious")
    (tmp_path / "lock").symlink_to(target)
    with pytest.raises(DevError, match=f"cannot use {tmp_path}"):
        FolderLock(tmp_path).acquire()
    assert target.read_text() == "precious"


def _created(data_dir: Path) -> SocketFolder:
    folder = SocketFolder(data_dir)
    folder.create(None)
    return folder


def test_socket_folder_is_private_and_keeps_its_name(tmp_path: Path) -> None:
    first = _created(tmp_path)
    assert mode(first.path) == 0o700
    first.remove()
    second = _created(tmp_path)
    assert second.path == first.path
    second.remove()
    assert not second.path.exists()


def test_old_socket_is_removed(tmp_path: Path) -> None:
    killed = _created(tmp_path)
    (killed.path / "redis.sock").write_text("")
    again = _created(tmp_path)
    assert again.path == killed.path
    assert list(again.path.iterdir()) == []
    again.remove()


def test_data_folders_have_different_socket_folders(tmp_path: Path) -> None:
    folders = [_created(private_folder(tmp_path / name)) for name in ("one", "two")]
    assert folders[0].path != folders[1].path
    for folder in folders:
        folder.remove()


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_taken_socket_folder_name_is_replaced(tmp_path: Path, kind: str) -> None:
    taken = _created(tmp_path)
    taken.remove()
    if kind == "open to all":
        taken.path.mkdir()
        taken.path.chmod(0o777)
    elif kind == "a link":
        taken.path.symlink_to(private_folder(tmp_path / "theirs"))
    else:
        taken.path.write_text("")
    other = _created(tmp_path)
    assert other.path != taken.path
    assert SocketFolder(tmp_path).path == other.path
    other.remove()
    if taken.path.is_dir() and not taken.path.is_symlink():
        taken.path.rmdir()
    else:
        taken.path.unlink()


@pytest.mark.parametrize("target", ["/", "/etc", "kataven-0123456789ab", "/etc/kataven-XYZ"])
def test_unexpected_socket_link_is_ignored(tmp_path: Path, target: str) -> None:
    (tmp_path / "socket").symlink_to(target)
    folder = _created(tmp_path)
    assert str(folder.path) != target
    assert folder.path.name.startswith("kataven-")
    folder.remove()
