"""`wsgi:api` that records how fast the workers evicted, which the API's receipt does not contain.

gunicorn bench.scenarios.recorded_receipts:api, with OBSERVED_RECEIPTS naming the file. Each line is a duration in ms.
"""

from __future__ import annotations

import os
from pathlib import Path

from kataven.revocation.receipt import Receipt
from wsgi import api

__all__ = ["api"]


def _write(receipt: Receipt) -> None:
    if receipt.publish_to_last_ack_ms is not None:
        with _path.open("a") as file:
            file.write(f"{receipt.publish_to_last_ack_ms}\n")


_path = Path(os.environ["OBSERVED_RECEIPTS"])
api.extensions["kataven"].revocation.canary.subscribe(_write)
