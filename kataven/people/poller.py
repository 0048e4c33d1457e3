"""Receives security events by polling (RFC 8936): the same verification and application as for pushed events.

    poll, with the reports of the previous poll · apply each SET · report it only if its receipt is out

A SET that could not be applied is neither acknowledged nor refused, so that the transmitter delivers it again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kataven.people.receiver import NOT_APPLIED
from kataven.people.signed_events import EventRefused
from kataven.people.transmitter import FAILURES, Delivered, Reports, Stopped, StopSignal, Transmitter, TransmitterFailed

WAIT_SECONDS = 60.0
"""How long a poll waits for events. Load balancers often end an idle request after 60 s or later."""
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
MIN_INTERVAL_SECONDS = 1.0
"""Between two polls without events, for a transmitter that does not wait for events."""
LAST_REPORT_SECONDS = 5.0
"""The timeout of the last report, when the process stops."""

POLL_OUTCOMES = ("delivered", "empty", "timeout", *FAILURES)

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Receiver(Protocol):
    """Verifies and applies a SET, as `SecurityEventReceiver` does."""

    def receive(self, token: str, jti: str | None = None) -> None: ...


@dataclass(slots=True)
class PollCounts:
    """What a poller did. Read by the metrics of its process."""

    polls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POLL_OUTCOMES, 0))
    succeeded_at: float | None = None
    """When the transmitter last responded, in Unix seconds."""
    refused: int = 0
    """SETs that were refused and reported to the transmitter."""
    pending: int = 0
    """SETs of the latest delivery that could not be applied. The transmitter delivers them again."""


class EventPoller:
    """Polls one transmitter until `stop` is set. Not thread-safe. `clock` returns seconds since the Unix epoch."""

    def __init__(
        self,
        transmitter: Transmitter,
        receiver: Receiver,
        stop: StopSignal,
        *,
        wait_seconds: float = WAIT_SECONDS,
        first_backoff_seconds: float = FIRST_BACKOFF_SECONDS,
        min_interval_seconds: float = MIN_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transmitter = transmitter
        self._receiver = receiver
        self._stop = stop
        self._wait_seconds = wait_seconds
        self._first_backoff_seconds = first_backoff_seconds
        self._min_interval_seconds = min_interval_seconds
        self._clock = clock
        self._reports = Reports()
        self._failures = 0
        self.counts = PollCounts()

    def run(self) -> None:
        """Poll until the stop signal, then report what was applied since the last poll."""
        while not self._stop.is_set():
            delay = self.poll_once()
            if delay:
                self._stop.wait(delay)
        self._report_last()

    def poll_once(self) -> float:
        """Poll once, and apply what was delivered. Returns the seconds to wait before the next poll."""
        started = time.monotonic()
        try:
            delivered = self._transmitter.poll(self._reports, self._stop, wait_seconds=self._wait_seconds)
        except Stopped:
            return 0
        except TransmitterFailed as failed:
            self.counts.polls[failed.outcome] += 1
            _log.warning("polling for security events failed", extra={"outcome": failed.outcome, "error": str(failed)})
            return max(self._backoff(), failed.retry_after_seconds or 0)
        if delivered.timed_out:
            self.counts.polls["timeout"] += 1  # the reports are sent again, which has no effect
            return 0
        self.counts.polls["delivered" if delivered.sets else "empty"] += 1
        self.counts.succeeded_at = self._clock()
        self._reports = self._apply(delivered)
        self.counts.pending = len(delivered.sets) - len(self._reports.applied) - len(self._reports.refused)
        if self.counts.pending:
            return self._backoff()
        self._failures = 0
        return 0 if delivered.sets else max(0, self._min_interval_seconds - (time.monotonic() - started))

    def _apply(self, delivered: Delivered) -> Reports:
        applied, refused = [], {}
        for jti, token in delivered.sets.items():
            if self._stop.is_set():
                break  # the transmitter delivers the others again
            try:
                self._receiver.receive(token, jti)
            except EventRefused as error:
                self.counts.refused += 1
                _log.warning("security event refused", extra={"rule": error.rule})
                refused[jti] = (error.set_error, error.description)
            except NOT_APPLIED as error:
                _log.warning("security event not confirmed", extra={"error": type(error).__name__})
            except Exception:  # one event must not keep the others from being applied
                _log.exception("security event not applied")
            else:
                applied.append(jti)
        return Reports(tuple(applied), refused)

    def _backoff(self) -> float:
        """Doubles with each failure, with jitter, so that several instances don't poll at the same time."""
        most = min(self._first_backoff_seconds * 2.0**self._failures, MAX_BACKOFF_SECONDS)
        self._failures = min(self._failures + 1, 30)
        return most * _random.uniform(0.5, 1)

    def _report_last(self) -> None:
        if not self._reports:
            return
        try:
            self._transmitter.report(self._reports, timeout_seconds=LAST_REPORT_SECONDS)
        except TransmitterFailed as failed:  # they are delivered again, and acknowledged as repeated
            _log.warning("the last security events were not acknowledged", extra={"outcome": failed.outcome})
