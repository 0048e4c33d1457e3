"""Runs the auth-service in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kataven.authservice import codec
from tests.support.gunicorn import CHECKOUT
from tests.support.waiting import wait_until


@dataclass
class Service:
    """A running `python -m kataven.authservice`."""

    environ: Mapping[str, str]
    log: Path
    address: str

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(20)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kataven.authservice"],
                cwd=CHECKOUT,
                env={**os.environ, **self.environ, "KATAVEN_AUTH_BIND": self.address},
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        self.kill()

    def pause(self) -> None:
        """Returns when all threads are stopped: until then, they can answer calls."""
        self.process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.process.pid}/task")
        wait_until(lambda: all(_state(thread) == "T" for thread in threads.iterdir()), 20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _state(thread: Path) -> str:
    """The state of a thread, such as `S` or `T`. The name before it can contain anything."""
    return (thread / "stat").read_text().rpartition(") ")[2][:1]


def serves(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=codec.SERVICE), timeout=1
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def remote_environ(environ: Mapping[str, str], address: str) -> dict[str, str]:
    environ = {**environ, "KATAVEN_AUTH_SERVICE": address}
    del environ["KATAVEN_PEPPERS"]
    return environ
