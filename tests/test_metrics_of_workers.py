"""Metrics of several workers: one sum, which worker exits and reloads don't change."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.app_harness import AppHarness
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("metrics")
    with Gunicorn({**harness.environ, "TMPDIR": str(folder)}, folder / "log", workers=2) as running:
        yield running
    assert not list(folder.glob("kataven-metrics-*")), "the master removes what its workers wrote"


def workers_of(server: Gunicorn) -> set[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return {int(pid) for pid in children.read_text().split()}


def value(client: httpx2.Client, line: str) -> float:
    text = client.get("/metrics").text
    return next((float(row.removeprefix(line)) for row in text.splitlines() if row.startswith(f"{line} ")), 0.0)


def test_counters_sum_all_workers_and_survive_their_exit(server: Gunicorn, harness: AppHarness) -> None:
    served = 'kataven_requests_total{method="GET",route="/v1/me",status="200",surface="api"}'
    timed = 'kataven_request_seconds_count{route="/v1/me",surface="api"}'
    with server.client(harness.new_key("acme")) as client:

        def figures() -> tuple[float, float]:
            return value(client, served), value(client, timed)

        def settled(without: set[int]) -> bool:
            """Whether two workers report that they run, and none of those in `without`."""
            return len(workers_of(server)) == 2 and not workers_of(server) & without

        for _ in range(20):
            assert client.get("/v1/me").status_code == 200
        wait_until(lambda: value(client, "kataven_workers") == 2, 10)
        assert figures() == (20, 20)

        for number in (1, 2):
            killed = min(workers_of(server))
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda exited=killed: settled({exited}), 20)
            wait_until(lambda: value(client, "kataven_workers") == 2, 10)
            assert figures() == (20, 20), f"after {number} deaths"

        old = workers_of(server)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: settled(old), 20)
        wait_until(lambda: value(client, "kataven_workers") == 2, 10)
        assert figures() == (20, 20)


def test_rejections_have_a_series_at_0_at_startup(server: Gunicorn) -> None:
    with server.client() as client:
        text = client.get("/metrics").text
    for line in (
        'kataven_limited_total{limit="refused-requests"} 0.0',
        'kataven_limited_total{limit="failed-authentications-of-subject"} 0.0',
        'kataven_limited_total{limit="public-of-network"} 0.0',
        'kataven_credential_lookups_total{outcome="refused"} 0.0',
        'kataven_problems_total{code="payload_too_large"} 0.0',
        'kataven_verifications_total{credential="jwt",outcome="account_suspended"} 0.0',
    ):
        assert line in text
