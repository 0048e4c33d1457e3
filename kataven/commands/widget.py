"""`kataven widget …`: show and create the keys that sign visitor tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kataven.commands.context import current
from kataven.commands.output import as_json, print_fields, print_rows, report_errors

if TYPE_CHECKING:
    from kataven.identity.signing import SigningKey

group = click.Group("widget", help="Show and create the keys that sign visitor tokens.")


@group.command("keys")
@as_json
@report_errors
def keys(as_json: bool) -> None:
    """List the keys in the ring; the first one signs. Prints public parts only."""
    rows = [
        {"kid": key.id, "role": "published" if at else "signs", "x": key.public_jwk()["x"]}
        for at, key in enumerate(_ring())
    ]
    print_rows(
        rows,
        as_json=as_json,
        empty=f"No signing keys: visitors are refused. Create one: {current().program} widget new-key ID",
    )


@group.command("new-key")
@click.argument("key_id")
@as_json
@report_errors
def new_key(key_id: str, as_json: bool) -> None:
    """Print a new key KEY_ID for KATAVEN_WIDGET_SIGNING_KEYS. The key is secret: store it like a pepper."""
    from kataven.identity import signing

    if key_id in {key.id for key in _ring()}:
        raise click.ClickException(f"The ring already contains a key {key_id!r}. Use a different id.")
    created = signing.new_key(key_id)
    if as_json:
        print_fields({"kid": key_id, "key": created}, as_json=True)
    else:
        click.echo(created)


def _ring() -> tuple[SigningKey, ...]:
    from kataven.identity.signing import SigningRing

    keys = current().settings.widget_signing_keys
    return () if keys is None else tuple(SigningRing.parse(keys.get_secret_value()).keys)
