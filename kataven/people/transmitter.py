"""The HTTP side of polling a transmitter for security events (RFC 8936, section 2)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson

from kataven.identity import strict

MAX_SETS = 20
"""`maxEvents`: the most SETs in one response."""
MAX_RESPONSE_BYTES = 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 300.0


class TransmitterFailed(Exception):
    """No usable response. `outcome` is one of `FAILURES`; the message contains nothing of the response's body."""

    def __init__(self, outcome: str, detail: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


FAILURES = ("unreachable", "unauthorized", "refused", "invalid_response")


class Stopped(Exception):
    """The process was asked to stop while it waited for the response."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The response of a transmitter: SETs by their `jti`."""

    sets: Mapping[str, str]
    timed_out: bool = False
    """The transmitter did not respond within the wait. It may wait for events for longer."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What the transmitter must be told about SETs that it delivered."""

    applied: tuple[str, ...] = ()
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """For each `jti`, the code of the error and its description."""

    def __bool__(self) -> bool:
        return bool(self.applied or self.refused)

    def as_json(self) -> dict[str, Any]:
        """RFC 8936, section 2.4."""
        said: dict[str, Any] = {}
        if self.applied:
            said["ack"] = list(self.applied)
        if self.refused:
            said["setErrs"] = {
                jti: {"err": code, "description": description} for jti, (code, description) in self.refused.items()
            }
        return said


class StopSignal:
    """Ends a wait from a signal handler or another thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._interrupt: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the signal. Returns whether it was given."""
        return self._event.wait(seconds)

    def set(self) -> None:
        self._event.set()
        interrupt = self._interrupt
        if interrupt is not None:
            loop, task = interrupt
            loop.call_soon_threadsafe(task.cancel)

    def run(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Any:
        """The result of `task`. Raises Stopped if the signal is given first."""
        self._interrupt = loop, task
        try:
            if self.is_set():
                task.cancel()
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            raise Stopped from None
        finally:
            self._interrupt = None


class Transmitter:
    """Polls one transmitter. `token` is sent as a bearer token (RFC 6750)."""

    def __init__(self, url: str, token: str | None, options: Mapping[str, Any]) -> None:
        """`options` are those of the HTTP client, such as the certificate authorities to trust."""
        self._url = url
        self._options = dict(options)
        self._headers = {
            "Accept": "application/json",
            # A compressed response could expand to any size in one step.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Content-Language": "en",
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def poll(self, reports: Reports, stop: StopSignal, *, wait_seconds: float) -> Delivered:
        """Report, and wait for SETs for up to `wait_seconds`; an expired wait delivers none.

        Raises TransmitterFailed: nothing was delivered, and the transmitter may not have received the reports. Raises
        Stopped.
        """
        request = {**reports.as_json(), "maxEvents": MAX_SETS, "returnImmediately": False}
        try:
            return _delivered(self._send(request, stop, wait_seconds))
        except TimeoutError:
            return Delivered({}, timed_out=True)

    def report(self, reports: Reports, *, timeout_seconds: float) -> None:
        """Report only (RFC 8936, section 2.4: `maxEvents` of 0). Raises TransmitterFailed."""
        request = {**reports.as_json(), "maxEvents": 0, "returnImmediately": True}
        try:
            self._send(request, StopSignal(), timeout_seconds)
        except TimeoutError as error:
            raise TransmitterFailed("unreachable", "no response in time") from error

    def _send(self, request: Mapping[str, Any], stop: StopSignal, timeout_seconds: float) -> bytes:
        loop = asyncio.new_event_loop()
        try:
            # The client's own timeouts restart with each byte, so the whole request is limited here.
            exchange = asyncio.wait_for(self._exchange(orjson.dumps(request)), timeout_seconds)
            response: bytes = stop.run(loop, loop.create_task(exchange))
        except TimeoutError:
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise TransmitterFailed("unreachable", type(error).__name__) from error
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        return response

    async def _exchange(self, body: bytes) -> bytes:
        async with (
            httpx2.AsyncClient(timeout=None, **self._options) as client,  # limited by the caller
            client.stream("POST", self._url, content=body, headers=self._headers) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise _failure(response)
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > MAX_RESPONSE_BYTES:
                    raise TransmitterFailed("invalid_response", f"more than {MAX_RESPONSE_BYTES} bytes")
            return bytes(received)


def _failure(response: httpx2.Response) -> TransmitterFailed:
    status = response.status_code
    if status in (401, 403):
        return TransmitterFailed("unauthorized", f"status {status}: check KATAVEN_EVENTS_POLL_TOKEN")
    after = response.headers.get("Retry-After", "")
    seconds = min(float(after), MAX_RETRY_AFTER_SECONDS) if after.isascii() and after.isdigit() else None
    return TransmitterFailed("refused", f"status {status}", seconds)


def _delivered(body: bytes) -> Delivered:
    try:
        found = strict.json_object(body)
    except ValueError as error:
        raise TransmitterFailed("invalid_response", "the response is not a JSON object") from error
    sets = found.get("sets", {})  # `moreAvailable` changes nothing: the next poll follows immediately
    if not isinstance(sets, dict) or not all(isinstance(one, str) for one in sets.values()):
        raise TransmitterFailed("invalid_response", "`sets` is not an object of strings")
    return Delivered(sets)
