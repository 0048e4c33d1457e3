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
    """A folder that whoever runs PostgreSQL can reach: not root, to whom alone `tmp_path` would be open."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if AS_ROOT:
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
