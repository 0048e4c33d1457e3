"""`make dist`: builds the sdist and the wheel of both distributions into a folder. It needs no network.

Each wheel is built from its sdist, so an sdist that lacks a file fails here. The bytes depend only on the files, on the
version of setuptools and on SOURCE_DATE_EPOCH (default: 1980).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECTS = {"kataven": CHECKOUT / "sdk", "kataven-hub": CHECKOUT}
_STAGED = (
    "import sys; sys.path.insert(0, sys.argv[2]); import staged_build as backend; backend.build_sdist(sys.argv[1])"
)
_ORDINARY = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def build(folder: Path) -> list[Path]:
    """Build both distributions into `folder`, and return the four files."""
    folder.mkdir(parents=True, exist_ok=True)
    return sorted(path for project in PROJECTS.values() for path in _build_project(project, folder.resolve()))


def _build_project(project: Path, folder: Path) -> list[Path]:
    with tempfile.TemporaryDirectory(prefix="kataven-dist-") as name:
        output = Path(name)
        _run(_STAGED, project, str(output), str(CHECKOUT / "sdk"))
        [sdist] = output.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(output, filter="data")
        _run(_ORDINARY, output / sdist.name.removesuffix(".tar.gz"), str(output))
        [wheel] = output.glob("*.whl")
        return [Path(shutil.move(path, folder / path.name)) for path in (sdist, wheel)]


def _run(code: str, folder: Path, *arguments: str) -> None:
    """Run a build in its own process, because setuptools depends on the current folder. A failure ends this process."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    environ = {"SOURCE_DATE_EPOCH": "315532800", **os.environ}  # the first moment that a wheel can record
    finished = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{finished.stdout}{finished.stderr}The build in {folder} failed.")


if __name__ == "__main__":
    for built in build(Path(sys.argv[1])):
        digest = hashlib.sha256(built.read_bytes()).hexdigest()
        sys.stdout.write(f"{digest}  {built.name}\n")
