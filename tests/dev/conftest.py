"""A scratch folder for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import AS_ROOT


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that the user that runs PostgreSQL can reach. Only the current user can reach `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if AS_ROOT:
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
