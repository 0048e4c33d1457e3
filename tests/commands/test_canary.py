"""`flask revocation canary`, run as a service."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

from tests.support.app_harness import AppHarness
from tests.support.gunicorn import CHECKOUT, Gunicorn, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("canary") / "log", workers=2) as running:
        yield running


@contextlib.contextmanager
def canary(environ: Mapping[str, str], log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flask", "revocation", "canary", "--every", "1", *words]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=CHECKOUT, env={**os.environ, **environ}, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rounds(address: str, outcome: str) -> float:
    with contextlib.suppress(httpx2.TransportError):
        for line in httpx2.get(f"http://{address}/metrics").text.splitlines():
            if line.startswith(f'kataven_canary_rounds_total{{outcome="{outcome}"}}'):
                return float(line.split()[-1])
    return 0.0


def test_canary_measures_repeatedly_and_publishes_metrics(
    harness: AppHarness, server: Gunicorn, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with canary(harness.environ, tmp_path / "log", "--url", server.url, "--listen", address) as process:
        wait_until(lambda: rounds(address, "kept") >= 2, 40, (tmp_path / "log").read_text)
        text = httpx2.get(f"http://{address}/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "kataven_revocation_eviction_seconds_count" in text
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if '"canary"' in line]
    assert lines[0]["outcome"] == "kept"
    assert lines[0]["acknowledged"] == lines[0]["workers"] >= 2
    assert "sk_live" not in (tmp_path / "log").read_text()


def test_unavailable_api_is_a_failed_round_and_canary_continues(harness: AppHarness, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    nowhere = f"http://127.0.0.1:{free_port()}"
    with canary(harness.environ, tmp_path / "log", "--url", nowhere, "--listen", address):
        wait_until(lambda: rounds(address, "failed") >= 2, 40, (tmp_path / "log").read_text)


def test_invalid_listen_address_is_an_error(harness: AppHarness) -> None:
    result = harness.app.test_cli_runner().invoke(args=["revocation", "canary", "--listen", "nowhere", "--rounds", "1"])
    assert result.exit_code == 1
    assert "--listen: can't listen on 'nowhere'. Use a free HOST:PORT." in result.output
