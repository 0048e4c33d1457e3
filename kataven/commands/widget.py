"""`flask widget …`: the keys that sign visitor tokens, and how to replace one."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from kataven.commands.output import as_json, plainly, show
from kataven.identity import signing
from kataven.web.services import services

group = AppGroup("widget", help="The keys that sign visitor tokens.")


@group.command("keys")
@as_json
@plainly
def keys(as_json: bool) -> None:
    """List the ring of this installation, the key that signs first. Shows nothing private."""
    ring = services().widget.ring
    rows = [
        {"kid": key.id, "role": "published" if at else "signs", "x": key.public_jwk()["x"]}
        for at, key in enumerate(ring.keys if ring else ())
    ]
    show(
        rows, as_json=as_json, empty="No signing key is set, so no visitor is let in. Make one: flask widget new-key ID"
    )


@group.command("new-key")
@click.argument("key_id")
@plainly
def new_key(key_id: str) -> None:
    """Print a new signing key for KATAVEN_WIDGET_SIGNING_KEYS. It is a secret: put it where the peppers are."""
    ring = services().widget.ring
    if ring is not None and key_id in {key.id for key in ring.keys}:
        raise click.ClickException(f"The ring has a key {key_id!r} already. Give every key an id of its own.")
    click.echo(signing.new_key(key_id))
