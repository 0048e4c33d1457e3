"""Compares the stored usage with what clients saw, over four workers, while one is killed and Redis is restarted.

    python -m bench.usage                 a minute
    python -m bench.usage --seconds 3600 --rate 50

Exits with 1 if the counts differ by anything but the loss that the metrics state, or if more is lost than one worker
records within its write interval.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

from bench.scenarios import usage_load
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import ALICE, org_id
from kataven.operations import account_creation
from kataven.system import limits
from kataven.system.database import SystemDatabase
from tests.support.app_harness import PLENTY, environ_for
from tests.support.gunicorn import Gunicorn
from tests.support.oidc import IssuerWithPen

WORKERS = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.usage", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the traffic (default: 60)")
    parser.add_argument("--rate", type=float, default=math.inf, help="calls per second (default: as many as possible)")
    options = parser.parse_args()
    seconds: float = options.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (
            EmbeddedPostgres(folder / "postgres", fsync=False) as postgres,
            EmbeddedRedis(folder / "redis", persistent=False) as redis,
            IssuerWithPen(folder / "issuer") as issuer,
        ):
            environ = environ_for(postgres, redis.url, issuer.url, "kataven_system")
            environ["KATAVEN_HOST_SLOTS_DIR"] = str(folder / "slots")
            _create_account(environ)
            with (
                Gunicorn(environ, folder / "log", workers=WORKERS) as server,
                server.client(issuer.token(ALICE, claims={"exp": time.time() + seconds + 3600}), "acme") as owner,
            ):
                seen = usage_load.run(
                    server,
                    owner,
                    seconds,
                    rate=options.rate,
                    faults=[
                        (0.3, lambda: usage_load.kill_a_worker(server)),
                        (0.6, lambda: _restart(redis)),
                    ],
                )
                found = usage_load.compare(server, owner, seen)
    # One worker's share of the requests within its longest write interval, twice over.
    most_lost = int(2 * seen.total / seconds / WORKERS * 10) + 100
    print(f"{seen.total} calls with a known key, {seen.unanswered.total()} without a response")
    print(f"{seen.strangers} without a valid credential")
    print(f"  recorded by the workers  {found.recorded:7}")
    print(f"  stored                   {found.stored.total():7}")
    print(f"  dropped                  {found.dropped:7}")
    print(f"  lost with the worker     {found.lost:7}   at most {most_lost}")
    problems = found.problems(most_lost)
    for problem in problems:
        print(f"  WRONG: {problem}")
    return 1 if problems else 0


def _create_account(environ: dict[str, str]) -> None:
    url = settings.load(environ).database_url.get_secret_value()
    account_creation.prepare_system(url)
    database = SystemDatabase(url)
    account_creation.create(database, account_creation.NewAccount("acme", "Acme", org_id("acme")), actor="bench")
    with database.writing() as session:
        limits.change(session, "acme", PLENTY)
    database.close()


def _restart(redis: EmbeddedRedis) -> None:
    redis.stop()
    time.sleep(1)
    redis.start()


if __name__ == "__main__":
    sys.exit(main())
