"""Builds the npm package @kataven/client from the OpenAPI document: `make typescript-client`.

The generated sources are not checked in: the document and the generator are, and both are pinned.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from kataven import __version__
from tools.openapi.print_document import openapi_document

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clients" / "typescript"
PROGRAMS = Path(__file__).parent / "node_modules" / ".bin"


class BuildError(Exception):
    """A program failed. The message is its output."""


def run(*command: str | Path, folder: Path, environ: dict[str, str] | None = None) -> str:
    """The output of a program. Raises BuildError."""
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, env={**os.environ, **(environ or {})}, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def generator() -> Path:
    """The generator's program. Raises BuildError."""
    if not PROGRAMS.is_dir():
        raise BuildError("The generators are not installed. Run `make tools/clients/node_modules/.package-lock.json`.")
    return PROGRAMS / "openapi-ts"


def build(folder: Path) -> Path:
    """Build the package in `folder` and return the tarball. Raises BuildError."""
    for name in ("dist", "src/generated"):
        shutil.rmtree(folder / name, ignore_errors=True)
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    if package["version"] != __version__:
        raise BuildError(f"package.json has version {package['version']}, and the API {__version__}. Correct it.")
    document = folder / "openapi.json"
    document.write_text(json.dumps(openapi_document()), encoding="utf-8")
    run(generator(), "-f", "openapi-ts.config.mjs", folder=folder, environ={"KATAVEN_OPENAPI": str(document)})
    document.unlink()
    run(PROGRAMS / "tsc", "-p", ".", folder=folder)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm was not found. Install Node.js 20 or later with npm.")
    packed = json.loads(run(npm, "pack", "--json", "--ignore-scripts", folder=folder))
    return folder / str(packed[0]["filename"])


def main() -> None:
    """Build the package, and print the tarball's path."""
    print(build(PACKAGE).relative_to(ROOT))  # noqa: T201


if __name__ == "__main__":
    main()
