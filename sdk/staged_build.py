"""The build backend (PEP 517) of both distributions: `kataven` (the SDK) and `kataven-hub` (the server).

Both have files in the package `kataven`, which setuptools can't express. This backend copies the files of one
distribution into a temporary folder that is an ordinary setuptools project, and builds that. An sdist contains the
ordinary project, so it builds without this module.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import build_meta

CHECKOUT = Path(__file__).resolve().parents[1]
SDK_PARTS = ("__init__.py", "py.typed", "client", "mcp_server", "validation.py")
"""What the SDK contains of `kataven/`. The server's distribution contains everything else, and depends on the SDK."""

_IGNORED = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*", "*.egg-info")
_BUILD_SYSTEM = '[build-system]\nrequires = ["setuptools>=80"]\nbuild-backend = "setuptools.build_meta"\n\n'

Config = Mapping[str, Any] | None


def get_requires_for_build_sdist(config_settings: Config = None) -> list[str]:
    return []


def get_requires_for_build_wheel(config_settings: Config = None) -> list[str]:
    return []


def get_requires_for_build_editable(config_settings: Config = None) -> list[str]:
    return []


def build_sdist(sdist_directory: str, config_settings: Config = None) -> str:
    """Build a source distribution whose bytes depend only on the files and on SOURCE_DATE_EPOCH."""
    folder = Path(sdist_directory).resolve()
    with _staged():
        name = build_meta.build_sdist(str(folder))
    _make_reproducible(folder / name)
    return name


def build_wheel(wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None) -> str:
    """Build a wheel. setuptools takes the times of its entries from SOURCE_DATE_EPOCH."""
    folder = str(Path(wheel_directory).resolve())
    with _staged():
        return build_meta.build_wheel(folder)


def build_editable(wheel_directory: str, config_settings: Config = None, metadata_directory: str | None = None) -> str:
    """Build a wheel that adds the checkout to the import path."""
    name = build_wheel(wheel_directory)
    path = Path(wheel_directory) / name
    with zipfile.ZipFile(path) as wheel:
        entries = {info.filename: wheel.read(info) for info in wheel.infolist() if ".dist-info/" in info.filename}
    [record] = [entry for entry in entries if entry.endswith(".dist-info/RECORD")]
    del entries[record]
    entries[f"__editable__.{name.partition('-')[0]}.pth"] = f"{CHECKOUT}\n".encode()
    lines = [f"{entry},sha256={_digest(content)},{len(content)}" for entry, content in entries.items()]
    entries[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for entry, content in entries.items():
            wheel.writestr(entry, content)
    return name


def stage(project: Path, folder: Path) -> None:
    """Copy the files of the distribution of `project` (the checkout, or its folder `sdk`) into `folder`."""
    (folder / "pyproject.toml").write_text(_ordinary((project / "pyproject.toml").read_text()))
    shutil.copy(project / "README.md", folder)
    shutil.copy(CHECKOUT / "LICENSE", folder)
    is_sdk = project == CHECKOUT / "sdk"
    package = folder / "kataven"
    package.mkdir()
    for source in sorted((CHECKOUT / "kataven").iterdir()):
        if (source.name in SDK_PARTS) == is_sdk and source.name not in _IGNORED(str(source.parent), [source.name]):
            if source.is_dir():
                shutil.copytree(source, package / source.name, ignore=_IGNORED)
            else:
                shutil.copy(source, package)
    if not is_sdk:
        shutil.copytree(CHECKOUT / "alembic", package / "alembic_scripts", ignore=_IGNORED)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # independent of the umask of the checkout


def _ordinary(pyproject: str) -> str:
    """The file with setuptools as the build backend, and without the settings of tools that only a checkout has."""
    tables = re.split(r"^(?=\[)", pyproject, flags=re.MULTILINE)[1:]
    kept = [table for table in tables if table.startswith(("[project", "[tool.setuptools."))]
    return "".join([_BUILD_SYSTEM, *kept])


@contextmanager
def _staged() -> Iterator[None]:
    """Run setuptools in a staged copy of the project in the current folder. It prints a line per file to stdout."""
    project = Path.cwd().resolve()
    with tempfile.TemporaryDirectory(prefix="kataven-build-") as folder:
        stage(project, Path(folder))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(project)


def _make_reproducible(sdist: Path) -> None:
    """Rewrite the archive: sorted entries without users, and times from SOURCE_DATE_EPOCH (default: 1980)."""
    time = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))
    with tarfile.open(sdist) as archive:
        files = {info.name: archive.extractfile(info).read() for info in archive if info.isfile()}  # type: ignore[union-attr]
    with (
        sdist.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), time, 0o644
            archive.addfile(info, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
