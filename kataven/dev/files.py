"""Folders and files that only their owner may read. The mode of a folder that was there before is never touched."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kataven.dev.errors import DevError

PRIVATE = 0o700
PASSABLE = 0o711


def private_folder(path: Path) -> Path:
    """`path`, made with mode 0700 unless it exists. Raises DevError when it can't be made."""
    return _folder(path, PRIVATE)


def passable_folder(path: Path) -> Path:
    """`path`, made 0700, or as root 0711 so that a server's own user may pass through it but not list it.

    What is inside must be private by itself. Raises DevError when it can't be made.
    """
    return _folder(path, PASSABLE if os.geteuid() == 0 else PRIVATE)


def _folder(path: Path, mode: int) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=PRIVATE)
        except FileExistsError:
            if not path.is_dir():
                raise
        else:
            path.chmod(mode)
    except OSError as error:
        raise DevError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text`, mode 0600, whole or not at all, also when the power goes. Raises DevError."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DevError(f"cannot write {path}: {error.strerror}") from error


def read_text(path: Path) -> str | None:
    """What is in `path`, or None if there is no such file. Raises DevError when it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DevError(f"cannot read {path}: {error}") from error
