"""`kataven people …`: users of the identity provider. A disabled user is signed out with one command."""

from __future__ import annotations

import click

from kataven.commands.context import current
from kataven.commands.output import as_json, print_fields, report_errors

group = click.Group("people", help="End the sessions of users.")


@group.command("end")
@click.argument("sub")
@click.option("--account", help="Only in this account. Default: in all accounts.")
@click.option("--issuer", help="Issuer of the user. Default: KATAVEN_OIDC_ISSUER.")
@as_json
@report_errors
def end(sub: str, account: str | None, issuer: str | None, as_json: bool) -> None:
    """End the sessions of a user. SUB is the user's `sub` at the issuer, which tokens and the audit log contain.

    When the command returns with exit status 0, no worker on any host accepts a token of the user from before, and the
    user's sessions of the Hub have ended. The user can sign in again if the issuer allows it. Prints the receipt. The
    exit status is 1 if no receipt was obtained; run the command again.
    """
    from kataven.identity.people import Person
    from kataven.operations import people

    person = Person(issuer or current().settings.oidc_issuer, sub)
    receipt = people.end_sessions(current().operator, person, account)
    print_fields({"sub": sub, "account": account or "all", "id": person.id, **receipt.as_json()}, as_json=as_json)
