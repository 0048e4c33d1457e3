"""Parameter types of the commands for API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

MAX_NAME = 200


class KeyName(click.ParamType[str]):
    """The display name of a key: one line of printable characters, which the API accepts as well."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text or len(text) > MAX_NAME or not text.isprintable():
            self.fail(f"must be one line of 1 to {MAX_NAME} characters", param, ctx)
        return text


class NetworkAddress(click.ParamType[str]):
    """An IP address, or a network in CIDR notation."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from kataven.identity.conditions import network_of

        try:
            return network_of(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


class Moment(click.ParamType[datetime]):
    """A date and time in ISO 8601, such as 2027-01-31T12:00Z. UTC if it names no time zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from kataven.web.inputs.times import time_in_range

        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail("must be a date and time, such as 2027-01-31T12:00Z", param, ctx)
        try:
            return time_in_range(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
        except ValueError as error:
            self.fail(str(error), param, ctx)


account_option = click.option("--account", required=True, help="Account of the key.")
