"""The part of Redis that the package uses, as a Python object. test_coordination.py compares it with a real Redis."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kataven.revocation.scripts import ACKNOWLEDGE, PUBLISH, RENEW, SWEEP

_SCRIPTS = {script.sha: script for script in (RENEW, PUBLISH, ACKNOWLEDGE, SWEEP)}
_runs = itertools.count(1)


@dataclass
class Memory:
    """The data of a Redis server."""

    state: dict[str, str] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    recent: dict[str, str] = field(default_factory=dict)
    times: dict[str, dict[str, str]] = field(default_factory=dict)


class RedisModel:
    """Executes the commands that the package sends. `deliver` is called with each published message."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._run = f"run{next(_runs)}"
        self._subscribers: list[Callable[[str], None]] = []
        self.memory = Memory()
        self.earlier = Memory()
        """The data before the last event, as in a snapshot or a lagging replica."""

    def execute(self, *command: Any) -> Any:
        name, *rest = (str(part) for part in command)
        return getattr(self, f"_{name.lower()}")(*rest)

    def subscribe(self, deliver: Callable[[str], None]) -> None:
        self._subscribers.append(deliver)

    def restart(self) -> None:
        """Replace it with another process without data or connections."""
        self._run = f"run{next(_runs)}"
        self._subscribers.clear()
        self.flush()

    def fail_over(self) -> None:
        """Replace it with another process that has earlier data."""
        earlier = self.earlier
        self.restart()
        self.memory = copy.deepcopy(earlier)

    def roll_back(self) -> None:
        """The same process with earlier data: the virtual machine was restored."""
        self._subscribers.clear()
        self.memory = copy.deepcopy(self.earlier)

    def flush(self) -> None:
        self.memory = Memory()

    def _evalsha(self, sha: str, count: str, *rest: str) -> Any:
        keys, arguments = rest[: int(count)], rest[int(count) :]
        script = _SCRIPTS[sha]
        if script is RENEW:
            return self._renew(keys[0], *arguments)
        if script is PUBLISH:
            return self._publish(keys, *arguments)
        if script is ACKNOWLEDGE:
            return self._acknowledge(*keys, arguments[0], arguments[2])
        return self._sweep(arguments)

    def _renew(self, _state: str, nonce: str, worker: str, record: str) -> list[str]:
        redis_id = self._whoami(nonce)
        self.memory.state[f"worker:{worker}"] = f"{self._microseconds()} {record}"
        return [redis_id, self.memory.state.get("count", "0")]

    def _publish(
        self,
        keys: tuple[str, ...],
        nonce: str,
        channel: str,
        body: str,
        keep: str,
        revoked: str,
        generation: str,
        _keep_revoked: str,
        _most_revoked: str,
    ) -> list[Any]:
        redis_id = self._whoami(nonce)
        self.earlier = copy.deepcopy(self.memory)
        state = self.memory.state
        state["count"] = str(int(state.get("count", "0")) + 1)
        workers = self._workers()
        if keep != "0" and workers:
            self.memory.sets[keys[1]] = set(workers)
        if revoked:
            known = self.memory.recent.pop(revoked, generation)
            self.memory.recent[revoked] = known  # the latest is the last
            if known and (not generation or int(generation) > int(known)):
                self.memory.recent[revoked] = generation
        for deliver in self._subscribers:
            deliver(f"{redis_id} {state['count']} {body}")
        return [redis_id, state["count"], self._microseconds(), [text for pair in workers.items() for text in pair]]

    def _acknowledge(self, pending: str, done: str, times: str, worker: str, microseconds: str) -> str:
        waiting = self.memory.sets.get(pending, set())
        if worker in waiting:
            waiting.remove(worker)
            self.memory.times.setdefault(times, {})[worker] = f"{self._microseconds()} {microseconds}"
            if not waiting:
                del self.memory.sets[pending]
                self.memory.lists.setdefault(done, []).append(self._microseconds())
        return "OK"

    def _sweep(self, pairs: tuple[str, ...]) -> int:
        unchanged = [
            f"worker:{worker}"
            for worker, record in zip(pairs[::2], pairs[1::2], strict=True)
            if self.memory.state.get(f"worker:{worker}") == record
        ]
        return self._hdel("", *unchanged)

    def _hgetall(self, key: str) -> dict[str, str]:
        return dict(self.memory.times.get(key, {}) if ":times:" in key else self.memory.state)

    def _zrevrange(self, _key: str, first: str, last: str) -> list[str]:
        return list(self.memory.recent)[::-1][int(first) : int(last) + 1]

    def _hmget(self, _key: str, *names: str) -> list[str | None]:
        return [self.memory.recent.get(name) for name in names]

    def _hget(self, _key: str, name: str) -> str | None:
        return self.memory.recent.get(name)

    def _hdel(self, _key: str, *fields: str) -> int:
        return sum(self.memory.state.pop(name, None) is not None for name in fields)

    def _smembers(self, key: str) -> set[str]:
        return set(self.memory.sets.get(key, ()))

    def _exists(self, key: str) -> int:
        return int(key in self.memory.lists)

    def _blpop(self, key: str, _seconds: str) -> tuple[str, str] | None:
        """The current value, if any; the simulation does the waiting."""
        values = self.memory.lists.get(key)
        if not values:
            return None
        value = values.pop(0)
        if not values:
            del self.memory.lists[key]
        return key, value

    def _time(self) -> list[str]:
        seconds, microseconds = divmod(int(self._microseconds()), 1_000_000)
        return [str(seconds), str(microseconds)]

    def _whoami(self, nonce: str) -> str:
        return f"{self._run}.{self.memory.state.setdefault('born', nonce)}"

    def _workers(self) -> dict[str, str]:
        return {
            name.removeprefix("worker:"): record
            for name, record in self.memory.state.items()
            if name.startswith("worker:")
        }

    def _microseconds(self) -> str:
        return str(round(self._clock() * 1_000_000))
