"""Where a server's Unix socket lives: a short private folder, since a socket's path is limited to about 104 bytes.

A data folder may lie deeper than that, so the socket is in `/tmp/kataven-…`, and `data_dir/socket` is a link to it. The
name is random, so that nobody can take it first, and remembered, so that a server's URL is the same in every run.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from kataven.dev.files import PRIVATE

_NAME = re.compile(r"kataven-[0-9a-f]{12}")


class SocketFolder:
    """The folder for one server's socket; `name` is unique to the data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._link = data_dir / "socket"
        self.path = self._remembered() or self._new()

    @property
    def name(self) -> str:
        """A word that no other data folder's server has on its command line."""
        return self.path.name

    def make(self, uid: int | None) -> None:
        """Make the folder, empty and mode 0700, for the user `uid` (None: us), under another name if this one is taken.

        Only when no server uses it any more: an old socket in it is removed.
        """
        if not self._claim(uid):
            self.path = self._new()
            self.path.mkdir(mode=PRIVATE)
        if uid is not None:
            os.chown(self.path, uid, uid)
        self._remember()

    def remove(self) -> None:
        """Remove the folder; the name stays remembered."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _remembered(self) -> Path | None:
        if not self._link.is_symlink():
            return None
        target = self._link.readlink()
        return target if _NAME.fullmatch(target.name) and target.is_absolute() else None

    def _new(self) -> Path:
        # /tmp rather than TMPDIR, which is 49 bytes long on macOS and may be a private folder under a home.
        folder = Path("/tmp") if os.access("/tmp", os.W_OK | os.X_OK) else Path(tempfile.gettempdir())  # noqa: S108
        return folder / f"kataven-{secrets.token_hex(6)}"

    def _claim(self, uid: int | None) -> bool:
        """Whether the name is ours to use: free, or a folder that we or our server's user left there."""
        try:
            self.path.mkdir(mode=PRIVATE)
        except FileExistsError:
            found = self.path.lstat()
            private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == PRIVATE
            if not private or found.st_uid not in {os.geteuid(), uid}:
                return False
            self.remove()
            self.path.mkdir(mode=PRIVATE)
        except FileNotFoundError:
            return False
        return True

    def _remember(self) -> None:
        fresh = self._link.with_name(f".socket-{secrets.token_hex(6)}")
        fresh.symlink_to(self.path)
        fresh.replace(self._link)
