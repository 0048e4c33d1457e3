"""`kataven oidc check`: find problems of the OIDC issuer before users sign in."""

from __future__ import annotations

import click

from kataven.commands.context import current
from kataven.commands.output import as_json, print_rows, report_errors

group = click.Group("oidc", help="Check the OpenID Connect issuer.")


@group.command("check")
@as_json
@report_errors
def check_issuer(as_json: bool) -> None:
    """Fetch the issuer's discovery document and keys as the Hub does, and report problems.

    The exit status is 1 if a problem would make sign-ins fail.
    """
    from kataven.assembly import issuer_connection
    from kataven.hub.issuer_check import CheckState, check
    from kataven.identity.fetch import HttpFetcher

    settings = current().settings
    findings = check(
        settings.oidc_issuer,
        HttpFetcher(issuer_connection(settings)),
        has_secret=settings.hub_client_secret is not None,
        allow_loopback_http=settings.development,
    )
    rows = [{"part": found.part, "state": found.state.value, "what": found.words} for found in findings]
    print_rows(rows, as_json=as_json)
    if any(found.state is CheckState.FAILS for found in findings):
        raise click.exceptions.Exit(1)
