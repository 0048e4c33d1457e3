"""`kataven revocation …`: measure revocation, list workers, flush their caches."""

from __future__ import annotations

import itertools
import signal
import threading

import click

from kataven.commands.context import current
from kataven.commands.options import Seconds, WholeNumber
from kataven.commands.output import as_json, console, print_fields, print_rows, report_errors

group = click.Group("revocation", help="Measure revocation, list workers, flush their caches.")

url_option = click.option("--url", help="URL of the API.  [default: KATAVEN_API_URL]")


@group.command("measure")
@click.option("--n", "rounds", type=WholeNumber(), default=300, show_default=True, help="Number of keys.")
@url_option
@as_json
@report_errors
def measure(rounds: int, url: str | None, as_json: bool) -> None:
    """Measure how long a revocation takes on the running API.

    For each of N keys: create it, use it on every worker, revoke it, and use it again. The exit status is 1 if a
    key was accepted after its receipt.
    """
    from kataven.operations.revocation_measurement import Measurement

    with Measurement.begin(current().operator, url or current().settings.api_url) as measurement:
        for done in range(1, rounds + 1):
            measurement.round()
            if console().is_terminal:
                click.echo(f"\r{done} of {rounds}", nl=done == rounds, err=True)
    print_rows(measurement.rows(), as_json=as_json)
    if measurement.accepted:
        raise click.ClickException(f"A revoked key was accepted after its receipt ({measurement.accepted} times).")


@group.command("canary")
@click.option("--every", type=Seconds(), default=60.0, show_default=True, help="Seconds between rounds.")
@click.option("--listen", default="127.0.0.1:9464", show_default=True, help="HOST:PORT of the metrics.")
@url_option
@click.option("--rounds", type=WholeNumber(), help="Stop after this many rounds. Default: run until SIGTERM.")
@report_errors
def canary(every: float, listen: str, url: str | None, rounds: int | None) -> None:
    """Run as a service that measures one revocation per interval and publishes the results as metrics.

    The exit status is 1 if a key was accepted after its receipt.
    """
    from prometheus_client import start_http_server

    from kataven.operations.revocation_measurement import CanaryWatch

    watch = CanaryWatch(current().services, url or current().settings.api_url)
    host, _, port = listen.rpartition(":")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), registry=current().services.metrics.registry)
    except (OSError, ValueError, OverflowError) as error:
        raise click.ClickException(f"--listen: can't listen on {listen!r}. Use a free HOST:PORT.") from error
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for _ in itertools.count() if rounds is None else range(rounds):
        watch.round()
        if stop.wait(every):
            break
    server.shutdown()
    if watch.broken:
        raise click.ClickException(f"A revoked key was accepted after its receipt ({watch.broken} times).")


@group.command("flush")
@as_json
@report_errors
def flush(as_json: bool) -> None:
    """Make every worker empty its cache, and show the receipt. Each key is then verified again on its next use."""
    from kataven.revocation.target import EVERYTHING

    print_fields(current().services.revocation.revoke(EVERYTHING).as_json(), as_json=as_json)


@group.command("workers")
@as_json
@report_errors
def workers(as_json: bool) -> None:
    """List the workers that a revocation waits for."""
    from redis.exceptions import RedisError

    try:
        members = current().services.revocation.workers()
    except RedisError as error:
        raise click.ClickException("Redis is unavailable. Check KATAVEN_REDIS_URL.") from error
    rows = [
        {"host": member.host, "pid": member.pid, "confirmed_s_ago": round(member.confirmed_seconds_ago, 2)}
        for member in members
    ]
    print_rows(rows, as_json=as_json, empty="No worker is running.")
