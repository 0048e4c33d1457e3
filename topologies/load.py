"""The load of a row: hammer processes, revokers, writers, users of the Hub, and callers of accounts with a limit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scenarios.connection import request
from bench.scenarios.environment import Key
from tests.support.gunicorn import CHECKOUT
from topologies.deployment import ACCOUNT, EARLY, LATE, Deployment, direct_request
from topologies.hub_sessions import HubUser, read_page_and_record, sign_in_and_record
from topologies.network import spell
from topologies.observation import Observation, Recorder, read_observations, send

HAMMERS = 2
FIRST_USERS = 4
MOST_USERS = 20
USE_SECONDS = 0.4
"""How long the hammers send a key before it is revoked."""
REST_SECONDS = 0.1
LIMIT_REST_SECONDS = 0.08
LIMIT_THREADS = 2
HUB_REST_SECONDS = 0.5
FINISH_SECONDS = 60.0
SIGN_IN_REDIRECT = 303
AFTER_SECONDS = 2.0
"""How long the hammers continue after the last receipt."""


@dataclass
class KeyUnderTest:
    """A key that a revoker created. Times are CLOCK_MONOTONIC."""

    key: Key
    asked_at: float = math.inf
    """Before the first byte of the first request to revoke it was sent."""
    receipt_at: float = math.inf
    """After the last byte of the receipt was received."""
    receipt: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    seconds: float = 0.0
    """The duration of the request that returned the receipt."""


class Load:
    """Runs from `start` to `stop`. The results are complete after `stop`."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.recorder = Recorder()
        self.keys: dict[str, KeyUnderTest] = {}
        self.agents: set[str] = set()
        self.users: list[HubUser] = []
        """Users whose sign-in succeeded."""
        self.started_at = time.monotonic()
        self._folder = folder
        self._stopping = threading.Event()
        self._disturbed = threading.Event()
        self._lock = threading.Lock()
        self._hammers: list[subprocess.Popen[str]] = []
        self._outputs: list[Path] = []
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self) -> None:
        self.started_at = time.monotonic()
        for number in range(HAMMERS):
            self._start_hammer(number)
        for account in (ACCOUNT,):
            self._tell({**_credential("key", self.deployment.keys[account]), "stable": True})
            self._tell({**_credential("key", self.deployment.keys[account], "/v1/agents?limit=1"), "stable": True})
        token = self.deployment.owner_headers["Authorization"].removeprefix("Bearer ")
        headers = {"X-Account-ID": ACCOUNT}
        self._tell({"kind": "jwt", "id": "owner", "token": token, "path": "/v1/me", "headers": headers})
        work: list[tuple[Callable[..., None], Sequence[object]]] = [(self._write_agents, ()), (self._use_the_hub, ())]
        work += [(self._revoke_keys, (number,)) for number in range(2)]
        for _ in range(LIMIT_THREADS):
            work += [(self._use_up_limit, (EARLY, threading.Event())), (self._use_up_limit, (LATE, self._disturbed))]
        for target, arguments in work:
            self._begin(target, *arguments)

    def ready_for_disturbance(self) -> bool:
        """Whether keys were revoked, users are signed in, and the first limit is used up."""
        seen = self.recorder.snapshot()
        limited = any(one.kind == "limit" and one.subject == EARLY and one.status == 429 for one in seen)
        return limited and len(self.receipts()) >= 3 and len(self.users) >= FIRST_USERS

    def disturb(self) -> None:
        """The failure is about to be caused: the account with the second limit is used from now on."""
        self._disturbed.set()

    def receipts(self) -> list[KeyUnderTest]:
        with self._lock:
            return [key for key in self.keys.values() if key.receipt_at < math.inf]

    def stop(self) -> None:
        """Let the revokers finish, send revoked keys for some more seconds, and stop all threads and processes.

        Raises RuntimeError if a part of the load had ended before, because the counts would then be incomplete.
        """
        self._stopping.set()
        deadline = time.monotonic() + FINISH_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        time.sleep(AFTER_SECONDS)
        for hammer in self._hammers:
            assert hammer.stdin is not None
            with suppress(OSError):
                hammer.stdin.close()
        for hammer in self._hammers:
            try:
                hammer.wait(FINISH_SECONDS)
            except subprocess.TimeoutExpired:
                hammer.kill()
                hammer.wait()
        if self._errors:
            raise RuntimeError("a thread of the load has ended") from self._errors[0]
        if unfinished := [thread.name for thread in self._threads if thread.is_alive()]:
            raise RuntimeError(f"threads of the load did not finish: {unfinished}")
        if any(hammer.returncode != 0 for hammer in self._hammers):
            raise RuntimeError("a process of the load has failed")

    def observations(self) -> list[Observation]:
        """All observations so far, of all processes."""
        return [*self.recorder.snapshot(), *read_observations(self._outputs)]

    def _start_hammer(self, number: int) -> None:
        output = self._folder / f"hammer-{number}.jsonl"
        ports = ",".join(spell(port) for port in self.deployment.ports)
        self._outputs.append(output)
        output.touch()
        self._hammers.append(
            subprocess.Popen(
                [sys.executable, "-m", "topologies.hammer", str(output), ports],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                text=True,
            )
        )

    def _tell(self, message: dict[str, object]) -> None:
        with self._lock:
            for hammer in self._hammers:
                assert hammer.stdin is not None
                hammer.stdin.write(json.dumps(message) + "\n")
                hammer.stdin.flush()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, name=target.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _revoke_keys(self, number: int) -> None:
        port = self.deployment.ports[number % len(self.deployment.ports)]
        while not self._stopping.is_set():
            key = self._create_key(port, f"revoker {number}")
            if key is None:
                self._stopping.wait(REST_SECONDS)
                continue
            under_test = KeyUnderTest(key)
            with self._lock:
                self.keys[key.id] = under_test
            self._tell(_credential("key", key))
            for _ in range(2):
                self.recorder.add(direct_request(port, key))
            self._stopping.wait(USE_SECONDS)
            self._revoke(port, under_test)
            self._stopping.wait(REST_SECONDS)

    def _create_key(self, port: int, subject: str) -> Key | None:
        body = {"name": subject, "expiry": "30d"}
        observation, response = send(
            port, request("POST", "/v1/api-keys", self.deployment.owner_headers, body), "create-key", subject
        )
        self.recorder.add(observation)
        if response is None or response.status != 201:
            return None
        created = response.json()
        return Key(created["id"], created["key"])

    def _revoke(self, port: int, under_test: KeyUnderTest) -> None:
        """Send the request until it returns a receipt, as the response to a failed one demands."""
        key = under_test.key
        message = request("PATCH", f"/v1/api-keys/{key.id}", self.deployment.owner_headers, {"disabled": True})
        under_test.asked_at = time.monotonic()
        deadline = math.inf
        while time.monotonic() < deadline:
            observation, response = send(port, message, "revoke", key.id)
            under_test.attempts += 1
            if response is not None and response.status == 200 and response.json().get("receipt"):
                under_test.receipt = response.json()["receipt"]
                under_test.seconds = observation.ended - observation.started
                under_test.receipt_at = observation.ended
                self.recorder.add(observation)
                break
            self.recorder.add(observation)
            if response is not None and response.status == 404:
                return  # the failover lost the row: the key was never valid there
            if self._stopping.is_set() and deadline == math.inf:
                deadline = time.monotonic() + FINISH_SECONDS / 2
            time.sleep(REST_SECONDS)
        for each in self.deployment.ports:
            self.recorder.add(direct_request(each, key))
        self._tell({"revoked": key.id})

    def _write_agents(self) -> None:
        headers = {"Authorization": f"Bearer {self.deployment.keys[ACCOUNT].text}"}
        number = 0
        while not self._stopping.is_set():
            name = f"agent {number}"
            port = self.deployment.ports[number % len(self.deployment.ports)]
            observation, response = send(port, request("POST", "/v1/agents", headers, {"name": name}), "agents", name)
            self.recorder.add(observation)
            if response is not None and response.status == 201:
                self.agents.add(name)
            number += 1
            self._stopping.wait(REST_SECONDS)

    def _use_up_limit(self, account: str, start: threading.Event) -> None:
        while account == LATE and not start.wait(REST_SECONDS):
            if self._stopping.is_set():
                return
        message = request("GET", "/v1/me", {"Authorization": f"Bearer {self.deployment.keys[account].text}"})
        number = 0
        while not self._stopping.is_set():
            port = self.deployment.ports[number % len(self.deployment.ports)]
            self.recorder.add(send(port, message, "limit", account)[0])
            number += 1
            self._stopping.wait(LIMIT_REST_SECONDS)

    def _use_the_hub(self) -> None:
        """Sign in some users, then read pages with their sessions, and sign in further users from time to time.

        A user whose session was lost is not asked again: that would count one loss many times.
        """
        number, lost = 0, set[str]()
        while not self._stopping.is_set():
            if len(self.users) < FIRST_USERS or (number % 4 == 0 and len(self.users) < MOST_USERS):
                user = HubUser(self.deployment.hub_port, f"user {number}")
                if sign_in_and_record(user, self.recorder):
                    self.users.append(user)
            elif remaining := [user for user in self.users if user.name not in lost]:
                user = remaining[number % len(remaining)]
                if read_page_and_record(user, self.recorder) == SIGN_IN_REDIRECT:
                    lost.add(user.name)
            number += 1
            self._stopping.wait(HUB_REST_SECONDS if len(self.users) >= FIRST_USERS else 0)


def _credential(kind: str, key: Key, path: str = "/v1/me") -> dict[str, object]:
    return {"kind": kind, "id": key.id, "token": key.text, "path": path}
