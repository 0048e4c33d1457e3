"""Dumps of one account's database: complete or absent, readable only by their owner, and verified after writing.

A dump is `<account>-<moment>.dump` in PostgreSQL's custom format. Its name ends in `.partial` until it is complete.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL

from kataven.tenancy.errors import DumpUnreadable
from kataven.tenancy.programs import Programs

_MOMENT = r"\d{8}T\d{9}Z"


@dataclass(frozen=True, slots=True)
class Dump:
    """A complete dump on disk, and its digest."""

    path: Path
    sha256: str
    bytes: int

    @property
    def manifest(self) -> Path:
        """The manifest file next to the dump, with data about the account that its database does not contain."""
        return self.path.with_suffix(".json")


def take(programs: Programs, url: URL, account: str, folder: Path, manifest: Callable[[Dump], str]) -> Dump:
    """Dump the database at `url` into `folder`, which is created if needed, with the text from `manifest` next to it.

    Raises ProgramMissing, ProgramFailed or OSError; then no dump exists. The caller holds the account's lock.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_partial(folder, account)
    moment = datetime.now(UTC)
    path = folder / f"{account}-{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}Z.dump"
    partial = path.with_name(f"{path.name}.partial")
    _create(partial)
    try:
        programs.run("pg_dump", url, ["--format=custom", "--no-owner", "--no-privileges", f"--file={partial}"])
        programs.run("pg_restore", url, ["--list", str(partial)])
        dump = read(partial)
        dump = Dump(path, dump.sha256, dump.bytes)
        _write(dump.manifest, manifest(dump))
        partial.replace(path)
        _sync(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        raise
    return dump


def read(path: Path) -> Dump:
    """The dump in a file. Raises DumpUnreadable if the file can't be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return Dump(path, digest.hexdigest(), file.tell())
    except OSError as error:
        raise DumpUnreadable(f"{path} can't be read: {error.strerror}") from None


def load(programs: Programs, dump: Dump, url: URL) -> None:
    """Load a dump into the empty database at `url`, in one transaction. Raises ProgramMissing or ProgramFailed.

    The server executes the SQL in a dump, so load only dumps from trusted sources.
    """
    options = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
    programs.run("pg_restore", url, [*options, f"--dbname={url.database}", str(dump.path)])


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _write(path: Path, text: str) -> None:
    _create(path)
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_partial(folder: Path, account: str) -> None:
    """Remove incomplete dumps of this account, with their manifests."""
    partial = re.compile(rf"{re.escape(account)}-{_MOMENT}\.dump\.partial")
    for path in folder.iterdir():
        if partial.fullmatch(path.name):
            path.with_suffix("").with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
