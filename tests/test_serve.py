"""`python -m kataven.serve` and `python -m kataven.hub`: how the product starts from an installed wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kataven.serve.__main__ import gunicorn_arguments
from tests.support.gunicorn import CHECKOUT

CONFIGURATION = ["-c", "python:kataven.serve.gunicorn_conf"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["kataven.serve.wsgi:app"]),
        (["api"], ["kataven.serve.wsgi:api"]),
        (["hub", "--log-level", "debug"], ["--log-level", "debug", "kataven.serve.wsgi:hub"]),
        (["--log-level", "debug"], ["--log-level", "debug", "kataven.serve.wsgi:app"]),
    ],
)
def test_first_argument_selects_the_app_and_the_rest_is_for_gunicorn(arguments: list[str], expected: list[str]) -> None:
    assert gunicorn_arguments(arguments) == [*CONFIGURATION, *expected]


@pytest.mark.parametrize("module", ["kataven.serve", "kataven.hub"])
def test_unknown_app_is_rejected_with_the_known_ones(module: str) -> None:
    finished = run(module, "wsgi:api")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.endswith("'wsgi:api' is not an app: use api, hub or app\n")


def test_help_needs_no_settings() -> None:
    finished = run("kataven.hub", "--help")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "python -m kataven.serve [api|hub|app]" in finished.stdout


def test_missing_settings_are_reported_and_nothing_starts(tmp_path: Path) -> None:
    finished = run("kataven.serve", "api", folder=tmp_path)
    assert finished.returncode != 0
    assert "KATAVEN_DATABASE_URL" in finished.stdout + finished.stderr


def run(module: str, *arguments: str, folder: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.defpath, "PYTHONPATH": str(CHECKOUT), "PORT": "0", "KATAVEN_DATA_DIR": str(folder / "none")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
