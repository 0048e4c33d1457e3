"""Folders and files that only their owner can read. The mode of an existing folder is never changed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kataven.dev.embedded.errors import DevError

PRIVATE = 0o700
PASSABLE = 0o711


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700 unless it exists, and return it. Raises DevError if that fails."""
    return _folder(path, PRIVATE)


def passable_folder(path: Path) -> Path:
    """Like `private_folder`, but with mode 0711 for root, so that a server's own user can reach what is inside.

    The files inside need private modes themselves.
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
        raise DevError(f"cannot create the folder {path}: {error.strerror}") from error
    return path


def write_private(path: Path, text: str) -> None:
    """Replace `path` with `text`, mode 0600, atomically, even if the machine loses power. Raises DevError."""
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
    """The content of `path`, or None if it does not exist. Raises DevError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DevError(f"cannot read {path}: {error}") from error
