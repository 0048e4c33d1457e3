"""Measure the revocation window of an API: how long it accepts a credential after its revocation was confirmed.

    python -m bench.window --create CMD --request URL --header 'Authorization: Bearer {key}' --revoke CMD

Works against any HTTP API. One round creates a credential, sends requests with it from several threads until the API
accepts it on all of them, runs the revoke command, and keeps sending requests until `--watch` seconds have passed.

    --create CMD    a shell command that prints the credential and, after a space, its id
    --revoke CMD    a shell command that returns when the API has confirmed the revocation
    --request URL   the request that must be refused; `--header` may contain {key} and {id}

Commands receive the credential in the environment variables KEY and ID, so that it appears in no process list. If
`--revoke` starts with http:// or https://, the tool sends the revocation itself (`--revoke-method`,
`--revoke-header`, `--revoke-body`), which leaves out the time that a command takes to start and to end.

The report has the window (from the confirmation to the start of the last accepted request), the time from the start of
the revocation to that request, how long the confirmation took, and the number of late accepts: requests that *started*
after the confirmation arrived and were accepted.

Exit status: 0 without a late accept, 1 with one, 2 if the tool can't measure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx2

from kataven.revocation import Percentiles

SLOWEST_RESPONSE_SECONDS = 30.0
ACCEPTED_BEFORE_REVOKING = 3
"""Requests in a row that each thread must see accepted before the credential counts as active."""


class CannotMeasure(Exception):
    """The API or a command did not do what a measurement needs; the text says what happened."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds on this machine's monotonic clock."""

    started: float
    ended: float
    status: int


@dataclass(frozen=True, slots=True)
class Window:
    """One round. Times are seconds."""

    confirmation: float
    """From the start of the revocation to its confirmation."""
    after_confirmation: float
    """From the confirmation to the start of the last accepted request; 0 if none started later."""
    after_start: float
    """From the start of the revocation to the start of the last accepted request; 0 if none started later."""
    late: int
    """Accepted requests that started after the confirmation."""
    open_at_end: bool
    """Whether the last request of the watch was still accepted, so that the window is longer than was watched."""
    refusals: tuple[int, ...] = ()
    """The statuses that refused the credential."""


def window_of(samples: Sequence[Sample], revoking: float, confirmed: float, accepted: frozenset[int]) -> Window:
    """The window that these requests show, for a revocation from `revoking` to `confirmed`. Raises CannotMeasure."""
    if not any(sample.started > confirmed for sample in samples):
        raise CannotMeasure("no request was sent after the revocation was confirmed; use a longer --watch")
    passed = [sample for sample in samples if sample.status in accepted]
    last = max((sample.started for sample in passed), default=revoking)
    newest = max(samples, key=lambda sample: sample.started)
    return Window(
        confirmation=confirmed - revoking,
        after_confirmation=max(0.0, last - confirmed),
        after_start=max(0.0, last - revoking),
        late=sum(sample.started > confirmed for sample in passed),
        open_at_end=newest.status in accepted,
        refusals=tuple(sorted({sample.status for sample in samples} - accepted)),
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """What `--create` printed."""

    key: str = field(repr=False)
    id: str = ""

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "KEY": self.key, "ID": self.id}

    def fill_in(self, template: str) -> str:
        return template.replace("{key}", self.key).replace("{id}", self.id)


@dataclass
class Sender:
    """Sends the same request from one thread until it is stopped."""

    client: httpx2.Client
    method: str
    url: str
    headers: dict[str, str]
    accepted: frozenset[int]
    pause: float
    stopping: threading.Event
    samples: list[Sample] = field(default_factory=list)
    active: threading.Event = field(default_factory=threading.Event)
    error: str | None = None

    def run(self) -> None:
        in_a_row = 0
        while not self.stopping.is_set():
            started = time.monotonic()
            try:
                status = self.client.request(self.method, self.url, headers=self.headers).status_code
            except httpx2.TransportError as error:
                # A request without a response was neither accepted nor refused, so it is not counted.
                self.error = f"{type(error).__name__}: {error}"
            else:
                self.samples.append(Sample(started, time.monotonic(), status))
                in_a_row = in_a_row + 1 if status in self.accepted else 0
                if in_a_row >= ACCEPTED_BEFORE_REVOKING:
                    self.active.set()
            self.stopping.wait(self.pause)


class Tool:
    """The measurement that the arguments describe."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._accepted = frozenset(arguments.accepted)

    def rounds(self) -> Iterator[Window]:
        for _ in range(self._arguments.rounds):
            yield self._round(self._create())

    def _create(self) -> Credential:
        if self._arguments.create is None:
            key = os.environ.get("KEY")
            if not key:
                raise CannotMeasure("give --create, or the credential of one round in the environment variable KEY")
            return Credential(key, os.environ.get("ID", ""))
        words = _run(self._arguments.create, dict(os.environ), "--create").split()
        if not words:
            raise CannotMeasure("--create printed no credential")
        return Credential(words[0], words[1] if len(words) > 1 else "")

    def _round(self, credential: Credential) -> Window:
        arguments, stopping = self._arguments, threading.Event()
        with ExitStack() as stack:
            limits = httpx2.Limits(max_keepalive_connections=0 if arguments.new_connections else 1)
            senders = [
                Sender(
                    stack.enter_context(httpx2.Client(timeout=SLOWEST_RESPONSE_SECONDS, limits=limits)),
                    arguments.method,
                    credential.fill_in(arguments.request),
                    _headers(arguments.header, credential),
                    self._accepted,
                    arguments.pause / 1000,
                    stopping,
                )
                for _ in range(arguments.threads)
            ]
            revoker = stack.enter_context(httpx2.Client(timeout=SLOWEST_RESPONSE_SECONDS))
            threads = [threading.Thread(target=sender.run, daemon=True) for sender in senders]
            try:
                for thread in threads:
                    thread.start()
                self._wait_until_active(senders)
                revoking = time.monotonic()
                self._revoke(revoker, credential)
                confirmed = time.monotonic()
                stopping.wait(arguments.watch)
            finally:
                stopping.set()
                for thread in threads:
                    thread.join()
        samples = [sample for sender in senders for sample in sender.samples]
        return window_of(samples, revoking, confirmed, self._accepted)

    def _wait_until_active(self, senders: Sequence[Sender]) -> None:
        deadline = time.monotonic() + self._arguments.activation
        for sender in senders:
            if not sender.active.wait(max(0.0, deadline - time.monotonic())):
                seen = sorted({sample.status for sample in sender.samples})
                why = f"statuses {seen}" if seen else sender.error or "no response"
                raise CannotMeasure(
                    f"the new credential was not accepted within {self._arguments.activation:g} s: {why}"
                )

    def _revoke(self, client: httpx2.Client, credential: Credential) -> None:
        arguments = self._arguments
        if not arguments.revoke.startswith(("http://", "https://")):
            _run(arguments.revoke, credential.environ, "--revoke")
            return
        try:
            response = client.request(
                arguments.revoke_method,
                credential.fill_in(arguments.revoke),
                headers=_headers(arguments.revoke_header, credential),
                content=None if arguments.revoke_body is None else credential.fill_in(arguments.revoke_body),
            )
        except httpx2.TransportError as error:  # without its message, which can contain the URL and so the credential
            raise CannotMeasure(f"the revocation received no response ({type(error).__name__})") from None
        if response.is_error:
            raise CannotMeasure(f"the revocation returned {response.status_code}")


def report(windows: Sequence[Window], watch: float) -> list[str]:
    """The table that the tool prints."""
    lines = [f"{'milliseconds':34}{'p50':>10}{'p99':>10}{'max':>10}"]
    for title, figures in (
        ("revocation, until its confirmation", [window.confirmation for window in windows]),
        ("window after the confirmation", [window.after_confirmation for window in windows]),
        ("window after the start", [window.after_start for window in windows]),
    ):
        spread = Percentiles.of([figure * 1000 for figure in figures])
        if spread is not None:
            lines.append(f"{title:34}{spread.p50:10.1f}{spread.p99:10.1f}{spread.max:10.1f}")
    late = sum(window.late for window in windows)
    lines.append(f"{len(windows)} rounds, {late} late accepts")
    still_open = sum(window.open_at_end for window in windows)
    if still_open:
        lines.append(f"in {still_open} rounds the credential was still accepted {watch:g} s after the confirmation")
    return lines


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.window", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--create", help="shell command that prints KEY or KEY ID; default: $KEY and $ID, one round")
    parser.add_argument("--request", required=True, help="URL of the request that is repeated")
    parser.add_argument("--method", default="GET", help="its method; default GET")
    parser.add_argument("--header", action="append", default=[], help="a header of it, 'Name: value'; may be repeated")
    parser.add_argument("--revoke", required=True, help="shell command, or URL, that revokes the credential")
    parser.add_argument("--revoke-method", default="DELETE", help="method for a --revoke URL; default DELETE")
    parser.add_argument("--revoke-header", action="append", default=[], help="a header for a --revoke URL")
    parser.add_argument("--revoke-body", help="the body for a --revoke URL")
    parser.add_argument("-n", "--rounds", type=int, default=20, help="rounds; default 20")
    parser.add_argument("--threads", type=int, default=8, help="threads that send requests; default 8")
    parser.add_argument("--pause", type=float, default=1.0, help="milliseconds between a thread's requests; default 1")
    parser.add_argument(
        "--watch", type=float, default=2.0, help="seconds to continue after the confirmation; default 2"
    )
    parser.add_argument("--activation", type=float, default=60.0, help="seconds a new credential may need; default 60")
    parser.add_argument("--accepted", type=int, action="append", help="status that counts as accepted; default 200")
    parser.add_argument("--new-connections", action="store_true", help="open a connection for each request")
    parser.add_argument("--json", action="store_true", help="print each round as a line of JSON, without the table")
    arguments = parser.parse_args(given)
    arguments.accepted = arguments.accepted or [200]
    if arguments.create is None:
        arguments.rounds = 1
    return arguments


def main(given: Sequence[str] | None = None) -> int:
    arguments = arguments_of(given)
    windows: list[Window] = []
    try:
        for window in Tool(arguments).rounds():
            windows.append(window)
            if arguments.json:
                print(json.dumps({name: getattr(window, name) for name in Window.__slots__}), flush=True)
    except CannotMeasure as error:
        print(f"can't measure: {error}", file=sys.stderr)
        return 2
    if not arguments.json:
        print("\n".join(report(windows, arguments.watch)))
    return 1 if any(window.late for window in windows) else 0


def _headers(given: Sequence[str], credential: Credential) -> dict[str, str]:
    headers = {}
    for header in given:
        name, colon, value = header.partition(":")
        if not colon:
            raise CannotMeasure("a header must have the form 'Name: value'")
        headers[name.strip()] = credential.fill_in(value.strip())
    return headers


def _run(command: str, environ: dict[str, str], option: str) -> str:
    done = subprocess.run(command, shell=True, env=environ, capture_output=True, text=True, check=False)  # noqa: S602
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        key = environ.get("KEY")
        raise CannotMeasure(f"{option} failed: {last[0].replace(key, '$KEY') if key else last[0]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
