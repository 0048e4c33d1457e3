"""A way to Redis that is down when a test says so, or brings no answers; without any waiting."""

from __future__ import annotations

from typing import Any

from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Unreachable
from tests.ratelimit.conftest import PATIENT


class Line(RedisPool):
    """To a real Redis."""

    def __init__(self, url: str) -> None:
        super().__init__(url, PATIENT)
        self.down = False
        """Nothing arrives."""
        self.answers_to_lose = 0
        """So many calls arrive and are done, and their answers do not come back."""

    def call(self, command: bytes) -> Any:
        if self.down:
            raise Unreachable("down")
        answer = super().call(command)
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise Unreachable("no answer")
        return answer

    def send(self, command: bytes) -> None:
        if self.down:
            raise Unreachable("down")
        super().send(command)
