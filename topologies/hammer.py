"""A process of the load: sends credentials continuously, and writes an observation for each request.

`python -m topologies.hammer OUTPUT PORT[@NAMESPACE][,…]`. Standard input has a JSON object for each credential, and
says when a credential was revoked. At the end of the input, the process stops.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from bench.scenarios.connection import request
from topologies.http_client import ClientConnection
from topologies.network import parse
from topologies.observation import Observation, observed

THREADS = 4
REST_SECONDS = 0.02
REQUESTS_PER_CONNECTION = 20
RECENT = 3


@dataclass
class Credentials:
    """The messages to send. Keys that are under test, or were revoked a moment ago, are sent most often."""

    stable: list[tuple[str, str, bytes]] = field(default_factory=list)
    live: list[tuple[str, str, bytes]] = field(default_factory=list)
    recent: deque[tuple[str, str, bytes]] = field(default_factory=lambda: deque(maxlen=RECENT))
    revoked: list[tuple[str, str, bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, line: str) -> None:
        """Apply one line of the input."""
        given = json.loads(line)
        with self.lock:
            if "revoked" in given:
                gone = [entry for entry in self.live if entry[1] == given["revoked"]]
                self.live = [entry for entry in self.live if entry not in gone]
                self.recent.extend(gone)
                self.revoked.extend(gone)
                return
            headers = {"Authorization": f"Bearer {given['token']}", **given.get("headers", {})}
            entries = self.live if given["kind"] == "key" and not given.get("stable") else self.stable
            entries.append((given["kind"], given["id"], request("GET", given["path"], headers)))

    def choose(self) -> tuple[str, str, bytes] | None:
        with self.lock:
            pools = [(self.live, 40), (list(self.recent), 25), (self.revoked, 10), (self.stable, 25)]
            filled = [(pool, weight) for pool, weight in pools if pool]
            if not filled:
                return None
            pool = random.choices([pool for pool, _ in filled], [weight for _, weight in filled])[0]  # noqa: S311
            return random.choice(pool)  # noqa: S311


def main(output: Path, ports: Sequence[int]) -> None:
    credentials, stopping, written = Credentials(), threading.Event(), threading.Lock()
    with output.open("w", buffering=1) as file:
        threads = [
            threading.Thread(target=_hammer, args=(ports[number % len(ports)], credentials, stopping, file, written))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for line in sys.stdin:
            credentials.read(line)
        stopping.set()
        for thread in threads:
            thread.join()


def _hammer(
    port: int, credentials: Credentials, stopping: threading.Event, file: TextIO, written: threading.Lock
) -> None:
    while not stopping.is_set():
        kind, subject, started = "connect", "", time.monotonic()
        try:
            with closing(ClientConnection(port)) as connection:
                for _ in range(REQUESTS_PER_CONNECTION):
                    if stopping.wait(REST_SECONDS) or (chosen := credentials.choose()) is None:
                        break
                    kind, subject, message = chosen
                    started = time.monotonic()
                    observation = observed(kind, subject, started, connection.exchange(message))
                    with written:
                        file.write(f"{observation.line()}\n")
        except OSError as error:
            failed = Observation(kind, subject, started, time.monotonic(), 0, type(error).__name__)
            with written:
                file.write(f"{failed.line()}\n")
            stopping.wait(REST_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [parse(port) for port in sys.argv[2].split(",")])
