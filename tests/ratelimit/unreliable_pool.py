"""A Redis pool that a test can disconnect, or that loses replies, without any waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Unreachable
from tests.ratelimit.conftest import PATIENT


class UnreliablePool(RedisPool):
    """Connects to a real Redis until `down` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url, PATIENT)
        self.down = False
        """Commands raise Unreachable and do not reach Redis."""
        self.replies_to_lose = 0
        """The number of commands that Redis executes and whose replies are lost."""

    def call(self, command: bytes, slot: int = 0) -> Any:
        return self._reply(lambda: super(UnreliablePool, self).call(command, slot))

    def call_all(self, commands: Sequence[bytes], slots: Sequence[int] = ()) -> list[Any]:
        replies: list[Any] = self._reply(lambda: super(UnreliablePool, self).call_all(commands, slots))
        return replies

    def send(self, command: bytes, slot: int = 0) -> None:
        if self.down:
            raise Unreachable("down")
        super().send(command, slot)

    def _reply(self, call: Callable[[], Any]) -> Any:
        if self.down:
            raise Unreachable("down")
        reply = call()
        if self.replies_to_lose:
            self.replies_to_lose -= 1
            raise Unreachable("no reply")
        return reply
