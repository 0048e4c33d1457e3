"""`flask revocation …`: the promise, measured on the running product."""

from __future__ import annotations

import itertools
import signal
import threading

import click
from flask.cli import AppGroup
from prometheus_client import start_http_server
from redis.exceptions import RedisError

from kataven.commands.operator import cli_operator
from kataven.commands.options import Seconds, WholeNumber
from kataven.commands.output import as_json, console, plainly, show, show_one
from kataven.operations.revocation_measurement import CanaryWatch, Measurement
from kataven.revocation.target import EVERYTHING
from kataven.web.services import services


def group(api_url: str) -> AppGroup:
    """The commands; `api_url` is where the API is looked for unless another one is named."""
    revocation = AppGroup("revocation", help="Revoked means revoked: the workers, and how fast they forget.")

    @revocation.command("measure")
    @click.option("--n", "rounds", type=WholeNumber(), default=300, show_default=True, help="How many keys.")
    @click.option("--url", default=api_url, show_default=True, help="Where the API answers.")
    @as_json
    @plainly
    def measure(rounds: int, url: str, as_json: bool) -> None:
        """Mint a key, use it on every worker, revoke it, use it again; as often as you like, then say how long it took.

        Exit status 1 if a revoked key was accepted once.
        """
        with Measurement.begin(cli_operator(), url) as measurement:
            for done in range(1, rounds + 1):
                measurement.round()
                if console().is_terminal:
                    click.echo(f"\r{done} of {rounds}", nl=done == rounds, err=True)
        show(measurement.rows(), as_json=as_json)
        if measurement.accepted:
            raise click.ClickException(f"{measurement.accepted} revoked keys were accepted after their receipt.")

    @revocation.command("canary")
    @click.option("--every", type=Seconds(), default=60.0, show_default=True, help="Seconds of a round.")
    @click.option("--listen", default="127.0.0.1:9464", show_default=True, help="Where Prometheus finds the figures.")
    @click.option("--url", default=api_url, show_default=True, help="Where the API answers.")
    @click.option("--rounds", type=WholeNumber(), help="End after so many; without it, at SIGTERM.")
    @plainly
    def canary(every: float, listen: str, url: str, rounds: int | None) -> None:
        """Measure one revocation a minute, for ever, as a service, and publish how long it took.

        Exit status 1 if a revoked key was accepted once.
        """
        watch = CanaryWatch(services(), url)
        host, _, port = listen.rpartition(":")
        try:
            server, _ = start_http_server(int(port), host.strip("[]"), registry=services().metrics.registry)
        except (OSError, ValueError, OverflowError) as error:
            raise click.ClickException(f"--listen: {listen} can't be listened on; it takes HOST:PORT.") from error
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        for _ in itertools.count() if rounds is None else range(rounds):
            watch.round()
            if stop.wait(every):
                break
        server.shutdown()
        if watch.broken:
            raise click.ClickException(f"{watch.broken} revoked keys were accepted after their receipt.")

    @revocation.command("flush")
    @as_json
    @plainly
    def flush(as_json: bool) -> None:
        """Have every worker forget everything it remembers, and show the receipt. Costs each key one verification."""
        show_one(services().revocation.revoke(EVERYTHING).as_json(), as_json=as_json)

    @revocation.command("workers")
    @as_json
    @plainly
    def workers(as_json: bool) -> None:
        """List the workers that a revocation waits for."""
        try:
            members = services().revocation.workers()
        except RedisError as error:
            raise click.ClickException("Redis can't be reached; see KATAVEN_REDIS_URL.") from error
        rows = [
            {"host": member.host, "pid": member.pid, "confirmed_s_ago": round(member.confirmed_seconds_ago, 2)}
            for member in members
        ]
        show(rows, as_json=as_json, empty="No worker is running.")

    return revocation
