"""The API and the Hub are separate services: each keeps serving when the other is down."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from tests.hub.chrome_user import running_hub
from tests.support.app_harness import AppHarness
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes


def test_api_keeps_serving_when_the_hub_is_killed(harness: AppHarness, tmp_path: Path) -> None:
    key = harness.new_key("acme")
    answers: Counter[int] = Counter()
    enough = threading.Event()

    def use(url: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
            while not enough.is_set():
                answers[client.get("/v1/me").status_code] += 1

    with running_hub(harness.environ, tmp_path) as place:
        users = [threading.Thread(target=use, args=(place.api.url,)) for _ in range(4)]
        for user in users:
            user.start()
        wait_until(lambda: answers[200] > 50, 30)
        assert httpx2.get(f"{place.url}/healthz", trust_env=False).status_code == 200
        place.hub.kill()
        seen = answers[200]
        wait_until(lambda: answers[200] > seen + 200, 30)
        enough.set()
        for user in users:
            user.join()
    assert set(answers) == {200}
