"""`flask widget …`: show and create the keys that sign visitor tokens."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from kataven.commands.output import as_json, print_rows, report_errors
from kataven.identity import signing
from kataven.web.services import services

group = AppGroup("widget", help="Show and create the keys that sign visitor tokens.")


@group.command("keys")
@as_json
@report_errors
def keys(as_json: bool) -> None:
    """List the keys in the ring; the first one signs. Prints public parts only."""
    ring = services().widget.ring
    rows = [
        {"kid": key.id, "role": "published" if at else "signs", "x": key.public_jwk()["x"]}
        for at, key in enumerate(ring.keys if ring else ())
    ]
    print_rows(
        rows,
        as_json=as_json,
        empty="No signing keys: visitors are refused. Create one: flask widget new-key ID",
    )


@group.command("new-key")
@click.argument("key_id")
@report_errors
def new_key(key_id: str) -> None:
    """Print a new key KEY_ID for KATAVEN_WIDGET_SIGNING_KEYS. The key is secret: store it like a pepper."""
    ring = services().widget.ring
    if ring is not None and key_id in {key.id for key in ring.keys}:
        raise click.ClickException(f"The ring already contains a key {key_id!r}. Use a different id.")
    click.echo(signing.new_key(key_id))
