"""Virtual environments that contain an installed distribution, and nothing of the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.distributions.__main__ import CHECKOUT

BUNDLED = ("pip", "setuptools", "_distutils_hack", "distutils-precedence.pth", "pip-", "setuptools-")
RUN_SECONDS = 900


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and an empty folder in which its programs run."""

    folder: Path
    empty: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        environment = cls(folder / "env", folder / "empty")
        environment.empty.mkdir()
        subprocess.run([sys.executable, "-m", "venv", str(environment.folder)], check=True, timeout=RUN_SECONDS)
        return environment

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def script(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def install(self, *arguments: str, compiled: bool = False) -> None:
        """Install with this environment's pip. Raises AssertionError with pip's output if it fails.

        Compiling all modules takes most of the time. By default, Python compiles only the modules that it imports.
        """
        options = ["--quiet", *([] if compiled else ["--no-compile"])]
        finished = self.run([self.python, "-m", "pip", "install", *options, *arguments], inherit=True)
        assert finished.returncode == 0, finished.stdout + finished.stderr

    def run(
        self, command: Sequence[str], environ: Mapping[str, str] | None = None, *, inherit: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the empty folder, with only `environ`, or additionally with this process's environment."""
        given = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(self.empty), **(os.environ if inherit else {})}
        given.pop("PYTHONPATH", None)
        return subprocess.run(
            command,
            cwd=self.empty,
            env={**given, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )

    def python_output(self, code: str, environ: Mapping[str, str] | None = None) -> str:
        """What `python -c` prints. Raises AssertionError with its error output if it fails."""
        finished = self.run([self.python, "-c", code], environ)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def installed_bytes(self) -> int:
        """The size of the installed packages, with their compiled modules and without pip and setuptools."""
        [packages] = self.folder.glob("lib/python3*/site-packages")
        ours = [entry for entry in packages.iterdir() if not entry.name.startswith(BUNDLED)]
        files = [path for entry in ours for path in ([entry] if entry.is_file() else entry.rglob("*"))]
        return sum(path.stat().st_size for path in files if path.is_file())


def constraints(lock: str, target: Path) -> str:
    """The versions of a lock file without its hashes. With hashes, pip would demand them for our own wheels too."""
    text = (CHECKOUT / "requirements" / lock).read_text()
    pinned = re.findall(r"^[^\s#-].*?==.*?(?= \\$)", text, re.MULTILINE)
    target.write_text("\n".join(pinned) + "\n")
    return str(target)
