"""The background services of a process start in their declared order and stop in reverse order."""

from __future__ import annotations

import dataclasses

from kataven.web.services import BackgroundService
from tests.support.app_harness import AppHarness


def test_background_services_stop_in_reverse_start_order(harness: AppHarness) -> None:
    services = dataclasses.replace(harness.services)
    calls: list[str] = []

    def recording(service: BackgroundService) -> BackgroundService:
        start = None if service.start is None else lambda: calls.append(f"start {service.name}")
        return BackgroundService(service.name, start, lambda: calls.append(f"stop {service.name}"))

    object.__setattr__(services, "background", tuple(map(recording, services.background)))
    services.start()
    assert calls == [f"start {service.name}" for service in services.background if service.start is not None]
    calls.clear()
    services.stop()
    assert calls == [f"stop {service.name}" for service in reversed(services.background)]


def test_usage_tracker_stops_while_databases_and_lease_are_available(harness: AppHarness) -> None:
    stopped = [service.name for service in reversed(harness.services.background)]
    assert stopped == [
        "usage",
        "refused origins",
        "response history",
        "revocation history",
        "user tracker",
        "usage tracker",
        "limiter",
        "journal replay",
        "revocation",
        "widget store",
        "app connections",
        "metrics publisher",
        "engine registry",
        "system database",
    ]
