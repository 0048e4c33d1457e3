"""Chooses a short private folder for a server's Unix socket, whose path is limited to about 104 bytes.

A data folder can be deeper than that, so the socket is in `/tmp/kataven-…`, and `data_dir/socket` links to it. The name
is random, so that no other user can take it first, and reused, so that a server's URL is the same in every run.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from kataven.dev.embedded.files import PRIVATE

_NAME = re.compile(r"kataven-[0-9a-f]{12}")


class SocketFolder:
    """The folder for one server's socket."""

    def __init__(self, data_dir: Path) -> None:
        self._link = data_dir / "socket"
        self.path = self._linked() or _new_path()

    @property
    def name(self) -> str:
        """A word that no other data folder's server has on its command line."""
        return self.path.name

    def create(self, uid: int | None) -> None:
        """Create the empty folder, mode 0700, for the user `uid` (None: the current one). Another name if it is taken.

        An old socket in it is removed, so no server may be using it.
        """
        if not self._claim(uid):
            self.path = _new_path()
            self.path.mkdir(mode=PRIVATE)
        if uid is not None:
            os.chown(self.path, uid, uid)
        link = self._link.with_name(f".socket-{secrets.token_hex(6)}")
        link.symlink_to(self.path)
        link.replace(self._link)

    def remove(self) -> None:
        """Remove the folder. The next run reuses its name."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _linked(self) -> Path | None:
        target = self._link.readlink() if self._link.is_symlink() else None
        return target if target and target.is_absolute() and _NAME.fullmatch(target.name) else None

    def _claim(self, uid: int | None) -> bool:
        """Whether the name is usable: free, or a private folder that we or our server's user left behind."""
        try:
            self.path.mkdir(mode=PRIVATE)
        except FileExistsError:
            found = self.path.lstat()
            private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == PRIVATE
            if not private or found.st_uid not in {os.geteuid(), uid}:
                return False
            self.remove()
            self.path.mkdir(mode=PRIVATE)
        except FileNotFoundError:  # the folder above it does not exist
            return False
        return True


def _new_path() -> Path:
    # /tmp and not TMPDIR, which is 49 bytes long on macOS and can be a private folder under a home.
    folder = Path("/tmp") if os.access("/tmp", os.W_OK | os.X_OK) else Path(tempfile.gettempdir())  # noqa: S108
    return folder / f"kataven-{secrets.token_hex(6)}"
