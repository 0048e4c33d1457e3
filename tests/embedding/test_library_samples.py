"""The samples of the pages "Use … in your application" run, and import only what their page promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from kataven.dev.embedded.postgres import EmbeddedPostgres
from tests.support.gunicorn import CHECKOUT

LIBRARIES = CHECKOUT / "examples" / "libraries"
NEVER = {"flask", "werkzeug", "grpc", "pydantic", "gunicorn", "authlib", "prometheus_client", "httpx2", "starlette"}
RUN = """
import json, runpy, sys
sys.path.insert(0, ".")
runpy.run_path(sys.argv[1], run_name="__main__")
print(json.dumps(sorted(sys.modules)))
"""


def run(sample: str, **environ: str) -> tuple[list[str], set[str], set[str]]:
    """The output of a sample, the libraries that it imported, and the packages of this project."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, sample],
        cwd=LIBRARIES,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    *lines, modules = ran.stdout.splitlines()
    names = json.loads(modules)
    ours = {name.split(".")[1] for name in names if name.startswith("kataven.")}
    return lines, {name.partition(".")[0] for name in names}, ours


def test_tenancy_sample_isolates_its_customers_and_imports_no_other_package(postgres: EmbeddedPostgres) -> None:
    lines, libraries, ours = run("tenancy.py", DATABASE_URL=postgres.url("postgres"))
    assert lines == [
        "coffee-house: ['espresso']",
        "tea-house: []",
        "invalid: the account name 'shop-staff' is reserved",
        "unavailable: retry after 1.0 s",
    ]
    assert not libraries & (NEVER | {"redis"})
    assert ours <= {"background", "tenancy"}


def test_ratelimit_sample_rejects_the_fourth_request_and_imports_no_other_package(redis_url: str) -> None:
    lines, libraries, ours = run("ratelimit.py", REDIS_URL=redis_url)
    assert [line.split()[0] for line in lines] == ["200", "200", "200", "429", "200"]
    assert lines[3] == "429 per-minute (3) exceeded; RateLimit-Policy, RateLimit, Retry-After"
    assert not libraries & (NEVER | {"sqlalchemy", "psycopg2", "alembic", "flask_limiter"})
    assert ours <= {"background", "ratelimit", "redis_clients", "redis_url"}


def test_revocation_sample_returns_a_receipt_and_imports_no_other_package(redis_url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "revocation.py"],
        cwd=LIBRARIES,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["lookups: 1", "lookups: 1", "evicted by 1 of 1 workers", "lookups: 2"]


def test_revocation_imports_no_framework_and_no_database() -> None:
    modules = "kataven.revocation.cache, kataven.revocation.revocation, kataven.revocation.fallback.none"
    ran = subprocess.run(
        [sys.executable, "-c", f"import json, sys, {modules}; print(json.dumps(sorted(sys.modules)))"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = json.loads(ran.stdout)
    assert not {name.partition(".")[0] for name in names} & (NEVER | {"sqlalchemy", "psycopg2", "alembic"})
    ours = {name.split(".")[1] for name in names if name.startswith("kataven.")}
    assert ours <= {"background", "identity", "redis_clients", "redis_url", "revocation"}
