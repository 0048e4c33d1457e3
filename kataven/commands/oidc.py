"""`flask oidc check`: find problems of the OIDC issuer before users sign in."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from kataven.commands.output import as_json, print_rows, report_errors
from kataven.hub.issuer_check import CheckState, check
from kataven.identity.fetch import HttpFetcher
from kataven.identity.issuer_connection import IssuerConnection


def group(issuer: str, *, has_secret: bool, development: bool, connection: IssuerConnection | None = None) -> AppGroup:
    commands = AppGroup("oidc", help="Check the OpenID Connect issuer.")

    @commands.command("check")
    @as_json
    @report_errors
    def run(as_json: bool) -> None:
        """Fetch the issuer's discovery document and keys as the Hub does, and report problems.

        The exit status is 1 if a problem would make sign-ins fail.
        """
        findings = check(issuer, HttpFetcher(connection), has_secret=has_secret, allow_loopback_http=development)
        rows = [{"part": found.part, "state": found.state.value, "what": found.words} for found in findings]
        print_rows(rows, as_json=as_json)
        if any(found.state is CheckState.FAILS for found in findings):
            raise click.exceptions.Exit(1)

    return commands
