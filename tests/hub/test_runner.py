"""The process of a migration run: its environment, and the callback on exit."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from pathlib import Path

import pytest

from kataven.hub.runner import Runner
from kataven.web.metrics_folder import FOLDER_VARIABLE

SAY = f"""
import os, pathlib, sys
words = [os.environ.get({FOLDER_VARIABLE!r}, "no folder"), os.environ["KATAVEN_WORD"], sys.argv[-1], str(os.getsid(0))]
pathlib.Path("said").write_text(" / ".join(words))
"""


def test_run_process_inherits_the_environment_without_the_metrics_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metrics would never be removed from the workers' folder."""
    monkeypatch.setenv("KATAVEN_WORD", "a word")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    run_id, ended = uuid.uuid4(), threading.Event()
    Runner(tmp_path, (sys.executable, "-c", SAY)).start(run_id, ended.set)
    assert ended.wait(60)
    folder, word, argument, session = (tmp_path / "said").read_text().split(" / ")
    assert (folder, word, argument) == ("no folder", "a word", str(run_id))
    assert int(session) not in {0, os.getsid(0)}
