"""Rotates an API key under load, and counts wrong responses: there must be none.

    python -m bench.rotation                 100 rotations
    python -m bench.rotation --rounds 1000

Eight threads use the old secret and eight the new one, on two gunicorn workers, while the old secret is ended. Exits
with 1 if a secret was refused or accepted at the wrong time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import shared_harness
from bench.scenarios.rotation_load import rotate_under_load
from kataven.dev.personas import ALICE
from tests.support.gunicorn import Gunicorn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rotation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="number of rotations (default: 100)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with shared_harness(folder) as harness, Gunicorn(harness.environ, folder / "log", workers=2) as server:
            started = time.perf_counter()
            with server.client(harness.issuer.token(ALICE), "acme") as owner:
                load = rotate_under_load(owner, server.client, rounds)
            seconds = time.perf_counter() - started
    print(f"{load.receipts} rotations in {seconds:.0f} s, {load.requests} requests with the old and the new secret")
    print(f"  refused after the end        {load.refused:6}")
    print(f"  receipt, median              {statistics.median(load.receipt_ms):6.1f} ms")
    print(f"  wrong responses              {len(load.wrong):6}")
    for wrong in load.wrong[:10]:
        print(f"    {wrong}")
    return 1 if load.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
