"""`kataven doctor`: check the installation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from kataven.commands.context import CommandContext, NotConfigured, current
from kataven.commands.output import as_json as json_option
from kataven.commands.output import print_json, printable

if TYPE_CHECKING:
    from kataven.operations.diagnosis.findings import CheckResult
    from kataven.settings import Settings

MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "failed": ("failed ", "red")}


@click.command("doctor")
@click.option("--all-accounts", is_flag=True, help="Count the keys per pepper even in more than 200 accounts.")
@json_option
def command(all_accounts: bool, as_json: bool) -> None:
    """Check the installation, and print what to change.

    Reads the settings, Redis, the databases, the auth-service and the OIDC issuer, and changes nothing. Each check is
    ok, warning or failed. The exit status is 1 if a check failed.
    """
    counted: Counter[str] = Counter()
    shown = []
    for finding in findings(current(), every_account=all_accounts):
        counted[finding.state] += 1
        if as_json:
            shown.append(_row(finding))
        else:
            _print(finding)
    if as_json:
        print_json(shown)
    else:
        warnings = "1 warning" if counted["warning"] == 1 else f"{counted['warning']} warnings"
        click.echo(f"{counted['ok']} ok, {warnings}, {counted['failed']} failed", err=True)
    if counted["failed"]:
        raise click.exceptions.Exit(1)


def findings(context: CommandContext, *, every_account: bool) -> Iterator[CheckResult]:
    """All checks. Invalid settings are reported first, and then nothing else can be checked."""
    from kataven.operations.diagnosis.findings import failed, ok

    try:
        settings = context.settings
    except NotConfigured as error:
        for problem in error.problems:
            name, _, words = problem.partition(": ")
            yield failed(f"setting {name}", words, "Every setting is described in docs/configuration.md")
        return
    yield ok("settings", f"valid, for {settings.env}")
    from kataven.commands.unsafe_settings import check_settings
    from kataven.operations.diagnosis import databases, product, redis

    yield from check_settings(settings)
    operator = context.operator
    yield from _readable(databases.check_system(operator))
    members = product.workers_of(operator)
    hosts = len({member.host for member in members or ()})
    budget = databases.HostConnections(settings.host_connections, hosts)
    yield from _readable(databases.check_servers(operator, budget))
    yield from redis.check_redis(settings.redis_url.get_secret_value())
    yield from product.check_workers(members)
    yield from _readable(product.check_pending(operator, settings.revocation_journal_days))
    yield from _readable(product.check_peppers(operator, every_account=every_account))
    auth_service = context.services.auth_service
    if auth_service is not None:
        serving = auth_service.is_serving()
        fix = "Start it, and compare KATAVEN_AUTH_SERVICE and the TLS files on both sides."
        yield ok("auth-service", "serving") if serving else failed("auth-service", "unreachable", fix)
    yield from _issuer(settings)


def _readable(checks: Iterator[CheckResult]) -> Iterator[CheckResult]:
    """The findings of a group of checks. If the system database lacks a table, its schema is reported instead."""
    from sqlalchemy.exc import DBAPIError

    from kataven.operations.diagnosis.findings import failed
    from kataven.tenancy.error_classification import in_words
    from kataven.tenancy.errors import TenancyError

    try:
        yield from checks
    except (DBAPIError, TenancyError) as error:
        found = in_words(error) if isinstance(error, DBAPIError) else str(error)
        yield failed("system database", found, "Run: kataven migrations upgrade --system")


def _issuer(settings: Settings) -> Iterator[CheckResult]:
    from kataven.assembly import issuer_connection
    from kataven.hub import issuer_check
    from kataven.hub.issuer_check import CheckState
    from kataven.identity.fetch import HttpFetcher
    from kataven.operations.diagnosis.findings import CheckResult, ResultState

    states = {
        CheckState.WELL: ResultState.OK,
        CheckState.NOTE: ResultState.WARNING,
        CheckState.FAILS: ResultState.FAILED,
    }
    for found in issuer_check.check(
        settings.oidc_issuer,
        HttpFetcher(issuer_connection(settings)),
        has_secret=settings.hub_client_secret is not None,
        allow_loopback_http=settings.development,
    ):
        fix = "" if found.state is CheckState.WELL else "See docs/issuers.md"
        yield CheckResult(f"issuer: {found.part}", states[found.state], found.words, fix)


def _row(finding: CheckResult) -> dict[str, str | None]:
    return {"check": finding.check, "state": finding.state, "found": finding.found, "fix": finding.fix or None}


def _print(finding: CheckResult) -> None:
    mark, color = MARKS[finding.state]
    click.echo(f"{click.style(mark, fg=color)}  {printable(finding.check)}: {printable(finding.found)}")
    if finding.fix:
        click.echo(f"         {printable(finding.fix)}")
