"""Mixed traffic whose usage is compared with what the clients saw, while a worker is killed and Redis is restarted."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx2

from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until

SETTLED_SECONDS = 18.0
"""Longer than a worker waits before it writes what is pending."""
MISSING = "00000000-0000-0000-0000-000000000000"
_METRIC = re.compile(r'(?m)^kataven_usage_requests_total\{outcome="(\w+)"\} ([0-9.e+]+)$')

Group = tuple[str, str]
"""The id of a key, and the outcome."""


@dataclass(frozen=True)
class KeyInUse:
    """An API key that threads use. A revoked one is refused."""

    id: str
    secret: str


@dataclass
class Seen:
    """What the clients saw."""

    calls: Counter[Group] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    """Requests without a response, by key: a worker may have recorded them before it was killed."""
    strangers: int = 0
    """Responses to requests without a valid credential, which are no usage."""

    @property
    def total(self) -> int:
        return self.calls.total()


@dataclass(frozen=True)
class Comparison:
    """What the clients saw, what is stored, and what the metrics state."""

    seen: Seen
    stored: Counter[Group]
    recorded: int
    written: int
    dropped: int

    @property
    def lost(self) -> int:
        """What the workers recorded and neither stored nor dropped: the loss of killed workers."""
        return self.recorded - self.written - self.dropped

    def problems(self, most_lost: int) -> Sequence[str]:
        """What is wrong. Nothing, if the counts are those of the clients except for the counted loss."""
        found = []
        total, unanswered = self.stored.total(), self.seen.unanswered.total()
        if total != self.written:
            found.append(f"{total} calls are stored, and the metric states {self.written}")
        if not self.seen.total - self.lost - self.dropped <= total <= self.seen.total + unanswered:
            found.append(f"{total} calls are stored, {self.seen.total} were seen, and {self.lost} are lost")
        if not 0 <= self.lost <= most_lost:
            found.append(f"{self.lost} calls are lost; at most {most_lost} can be")
        for group in {*self.stored, *self.seen.calls}:
            stored, seen = self.stored[group], self.seen.calls[group]
            if stored > seen + self.seen.unanswered[group[0]] or (not self.lost and not self.dropped and stored < seen):
                found.append(f"{group}: {stored} stored, {seen} seen")
        return found


def run(
    server: Gunicorn,
    owner: httpx2.Client,
    seconds: float,
    *,
    threads: int = 8,
    rate: float = math.inf,
    faults: Sequence[tuple[float, Callable[[], None]]] = (),
) -> Seen:
    """Send mixed traffic for `seconds`, at most `rate` calls per second. Each fault is a share of the time, and what
    happens then."""
    keys = [_new_key(owner) for _ in range(4)]
    revoked = _new_key(owner)
    owner.patch(f"/v1/api-keys/{revoked.id}", json={"disabled": True}).raise_for_status()
    seen, lock, until = Seen(), threading.Lock(), time.monotonic() + seconds
    with ThreadPoolExecutor(threads + 1) as pool:
        pause = threads / rate
        users = [pool.submit(_use, server, [*keys, revoked], seen, lock, until, pause, n) for n in range(threads)]
        started = time.monotonic()
        for share, fault in faults:
            time.sleep(max(0.0, started + share * seconds - time.monotonic()))
            fault()
        for user in users:
            user.result(seconds + 120)
    return seen


def kill_a_worker(server: Gunicorn) -> None:
    """SIGKILL: the worker writes nothing any more."""
    os.kill(server.worker_pids()[0], signal.SIGKILL)


def replace_workers(server: Gunicorn) -> None:
    """Reload gunicorn: the workers that handled the traffic write everything and exit."""
    before = set(server.worker_pids())
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before & set(server.worker_pids()), 60)


def compare(server: Gunicorn, owner: httpx2.Client, seen: Seen, settled_seconds: float = SETTLED_SECONDS) -> Comparison:
    """Wait until the running workers have written everything, and compare."""
    usage = _metrics(server)
    stable_since = time.monotonic()
    while time.monotonic() - stable_since < settled_seconds:
        time.sleep(0.5)
        now = _metrics(server)
        if now != usage:
            usage, stable_since = now, time.monotonic()
    key_ids = {key_id for key_id, _ in seen.calls} | set(seen.unanswered)
    of_owner = _owner_calls(owner, key_ids)  # first, as the calls of this comparison are not in the metrics above
    stored: Counter[Group] = Counter()
    for key_id in sorted(key_ids):
        # Not with the key: its own calls would be counted.
        response = _patiently(owner, f"/v1/api-keys/{key_id}/usage")
        stored.update({(key_id, outcome): calls for outcome, calls in response.json()["calls"].items() if calls})
    return Comparison(seen, stored, usage["recorded"] - of_owner, usage["stored"] - of_owner, usage["dropped"])


def _owner_calls(owner: httpx2.Client, key_ids: set[str]) -> int:
    """The stored calls of the owner, who created the keys before the traffic."""
    response = _patiently(owner, "/v1/usage?group_by=caller&interval=hour")
    return sum(line["calls"] for line in response.json()["series"] if line["group"] not in key_ids)


def _patiently(client: httpx2.Client, path: str) -> httpx2.Response:
    response = client.get(path)
    response.raise_for_status()
    return response


def _metrics(server: Gunicorn) -> Counter[str]:
    with server.client() as client:
        text = client.get("/metrics").text
    return Counter({outcome: int(float(value)) for outcome, value in _METRIC.findall(text)})


def _new_key(owner: httpx2.Client) -> KeyInUse:
    created = owner.post("/v1/api-keys", json={"name": "usage", "expiry": "30d"})
    created.raise_for_status()
    return KeyInUse(created.json()["id"], created.json()["key"])


def _use(
    server: Gunicorn,
    keys: Sequence[KeyInUse],
    seen: Seen,
    lock: threading.Lock,
    until: float,
    pause: float,
    number: int,
) -> None:
    chance = random.Random(number)  # noqa: S311  which requests, not secrets
    while time.monotonic() < until:
        # A new connection now and then, so that the connections are spread over the workers.
        with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            for _ in range(20):
                if time.monotonic() >= until:
                    return
                _send(client, chance.choice(keys), chance, seen, lock)
                time.sleep(pause)


def _send(client: httpx2.Client, key: KeyInUse, chance: random.Random, seen: Seen, lock: threading.Lock) -> None:
    stranger = chance.random() < 0.1
    token = f"{key.secret[:-4]}AAAA" if stranger else key.secret
    path = chance.choice(["/v1/agents", "/v1/me", f"/v1/agents/{MISSING}", "/v1/audit-events", "/v1/agents?limit=x"])
    try:
        status = client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code
    except httpx2.HTTPError:
        with lock:
            seen.unanswered[key.id] += not stranger
        return
    with lock:
        if stranger:
            seen.strangers += 1
        else:
            seen.calls[key.id, _outcome(status)] += 1


def _outcome(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "ok"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return "refused"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "limited"
    return "failed" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid"
