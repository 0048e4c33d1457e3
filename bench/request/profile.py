"""A profile of our request by group of modules, without gunicorn.

    python -m bench.request.profile [--requests 2000]

It requests the same list of ten agents in one thread. A profiler makes calls in Python more expensive, and calls in C
cheaper in comparison, so the output contains shares instead of times. Waiting for a server has a separate row.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench.harness import shared_harness
from bench.request.handlers import PATH
from tests.support.app_harness import AppHarness

AGENTS = 10
WAITING = ("'recv' of '_socket", "_Cursor.execute", "'execute' of 'psycopg2", "'poll' of 'select")
GROUPS = (
    ("SQLAlchemy, psycopg2", ("sqlalchemy/", "psycopg2/", "uuid.py", "kataven/account/")),
    ("sessions and pools of accounts", ("kataven/tenancy/", "contextlib.py")),
    ("Flask and Werkzeug", ("flask/", "werkzeug/", "blinker/", "inspect.py", "kataven/web/paths.py")),
    ("limits and Redis", ("kataven/ratelimit/", "redis/", "hiredis/")),
    ("log line, trace and ids", ("structlog/", "kataven/logs.py", "kataven/tracing.py", "secrets.py")),
    ("metrics", ("prometheus_client/", "kataven/web/metrics.py")),
    ("credential and account", ("kataven/identity/", "kataven/revocation/", "kataven/system/", "hmac.py")),
    ("request pipeline, input and response", ("kataven/",)),
)
OTHER = "other"

Function = tuple[str, int, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="kataven-bench-") as folder, shared_harness(Path(folder)) as harness:
        harness.services.start()
        profile = _profiled(harness, requests)
        harness.services.stop()
    shares = _by_group(pstats.Stats(profile))
    total = sum(shares.values())
    for name, seconds in shares.most_common():
        print(f"{name:<45} {seconds / total:6.1%}")
    return 0


def _profiled(harness: AppHarness, requests: int) -> cProfile.Profile:
    caller = harness.bearer(harness.new_key("acme"))
    for number in range(AGENTS):
        assert caller.post("/v1/agents", {"name": f"Agent {number}", "system_prompt": "x" * 40}).status_code == 201
    client, profile = harness.app.test_client(), cProfile.Profile()
    with open(os.devnull, "w") as null:
        sys.stderr, original = null, sys.stderr
        try:
            for turn in range(2):  # the first one fills the caches
                for _ in range(requests):
                    builder = harness.app.test_request_context(PATH, headers=dict(caller.headers)).request.environ
                    if turn:
                        profile.enable()
                    response = client.run_wsgi_app(builder)
                    profile.disable()
                    assert response[1].startswith("200")
        finally:
            sys.stderr = original
    return profile


def _by_group(stats: pstats.Stats) -> Counter[str]:
    """The seconds of each group's own code. Built-in functions count for their callers."""
    shares: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in stats.stats.items():  # type: ignore[attr-defined]
        if any(words in function[2] for words in WAITING):
            shares["waiting for PostgreSQL and Redis"] += own
        elif function[0] == "~" or function[0].startswith("<"):
            for caller, (_, _, part, _) in callers.items():
                shares[_group(caller)] += part
        else:
            shares[_group(function)] += own
    return shares


def _group(function: Function) -> str:
    file = function[0].replace(os.sep, "/")
    return next((name for name, parts in GROUPS if any(part in file for part in parts)), OTHER)


if __name__ == "__main__":
    sys.exit(main())
