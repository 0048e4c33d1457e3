"""Programs that tests need, and that are not Python packages."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str, variable: str, *, folder: str = "", hint: str = "") -> str:
    """The path of a program, from the PATH or `folder`. If it is missing, the test is skipped; with `variable` set to
    `yes` in the environment, as in CI, it fails."""
    found = shutil.which(name) or shutil.which(name, path=folder)
    if found is None:
        reason = f"{name} is not installed" + (f": {hint}" if hint else "")
        if os.environ.get(variable) == "yes":
            pytest.fail(reason)
        pytest.skip(reason)
    return found
