"""`flask oidc check`: what would make sign-ins fail, before anybody tries."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from kataven.commands.output import as_json, plainly, show
from kataven.hub.issuer_check import CheckState, check
from kataven.identity.fetch import HttpFetcher


def group(issuer: str, *, has_secret: bool, development: bool) -> AppGroup:
    """The commands, for this issuer."""
    commands = AppGroup("oidc", help="The OpenID Connect issuer.")

    @commands.command("check")
    @as_json
    @plainly
    def run(as_json: bool) -> None:
        """Fetch the issuer's discovery document and keys as the Hub does, and say what would fail.

        The exit status is 1 if something would.
        """
        findings = check(issuer, HttpFetcher(), has_secret=has_secret, allow_loopback_http=development)
        rows = [{"part": found.part, "state": found.state.value, "what": found.words} for found in findings]
        show(rows, as_json=as_json)
        if any(found.state is CheckState.FAILS for found in findings):
            raise click.exceptions.Exit(1)

    return commands
