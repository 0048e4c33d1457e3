"""`kataven events …`: security events of the identity provider, received by polling its transmitter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kataven.commands.context import current
from kataven.commands.output import report_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from kataven.people.poller import EventPoller
    from kataven.people.transmitter import StopSignal
    from kataven.settings import Settings
    from kataven.web.poll_metrics import PollMetrics

group = click.Group("events", help="Receive security events of the identity provider.")


@group.command("poll")
@click.option(
    "--metrics",
    "bind",
    metavar="HOST:PORT",
    help="Serve `/metrics`, which requires KATAVEN_METRICS_TOKEN, and `/healthz` at this address. Default: neither.",
)
@click.option("--once", is_flag=True, help="Poll once, report what was applied, and exit.")
@report_errors
def poll(bind: str | None, once: bool) -> None:
    """Poll the transmitter at KATAVEN_EVENTS_POLL_URL for security events, until SIGTERM (RFC 8936).

    Run it as a service. An event is acknowledged only after its receipt: no worker on any host accepts what the event
    ends. Events that can't be applied are delivered again. Several instances can run at the same time; each event is
    applied by one of them.
    """
    import signal

    from kataven import logs
    from kataven.people.transmitter import StopSignal
    from kataven.web.poll_metrics import PollMetrics

    logs.capture_all_output()
    stop, metrics = StopSignal(), PollMetrics()
    poller, close = _poller(current().settings, stop, metrics)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = None if bind is None else metrics.serve(_address(bind), current().services.internal_access)
    try:
        if once:
            poller.poll_once()
            stop.set()
        poller.run()
    finally:
        if server is not None:
            server.shutdown()
        close()
    if once and (poller.counts.pending or poller.counts.succeeded_at is None):
        raise click.exceptions.Exit(1)


def _poller(settings: Settings, stop: StopSignal, metrics: PollMetrics) -> tuple[EventPoller, Callable[[], None]]:
    from kataven import process_services
    from kataven.identity.issuer_connection import IssuerConnection
    from kataven.people.access import PeopleAccess
    from kataven.people.poller import EventPoller
    from kataven.people.transmitter import Transmitter

    for name in ("events_audience", "events_poll_url"):
        if getattr(settings, name) is None:
            raise click.ClickException(f"KATAVEN_{name.upper()} is not set.")
    operator = current().operator
    people = PeopleAccess(operator.system, operator.services.revocation, settings.oidc_issuer)
    receiver = process_services.event_receiver(settings, people, metrics.count)
    token = settings.events_poll_token
    transmitter = Transmitter(
        settings.events_poll_url or "",
        None if token is None else token.get_secret_value(),
        IssuerConnection(settings.oidc_ca).client_options(),
    )
    poller = EventPoller(transmitter, receiver, stop)
    metrics.watch(poller.counts)
    return poller, receiver.replays.close


def _address(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise click.BadParameter("must be HOST:PORT, as in 127.0.0.1:9108", param_hint="--metrics")
    return host.strip("[]"), int(port)
