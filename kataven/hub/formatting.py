"""How the pages say things."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from markupsafe import Markup, escape

from kataven.widget.allowlist import AllowlistEntry

_UNITS = ((timedelta(days=365), "year"), (timedelta(days=30), "month"), (timedelta(days=1), "day"))
_SHORT_UNITS = ((timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))


def install(app: Flask) -> None:
    """Filters for the templates."""
    app.jinja_env.filters["ago"] = ago
    app.jinja_env.filters["moment"] = moment
    app.jinja_env.filters["with_code"] = with_code
    app.jinja_env.filters["actor_name"] = actor_name
    app.jinja_env.filters["limits"] = describe_limits
    app.jinja_env.filters["pluralize"] = pluralize


def with_code(text: str) -> Markup:
    """The text with what stands between backticks as code."""
    parts = enumerate(text.split("`"))
    return Markup().join(Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in parts)


def describe_revocation(receipt: Mapping[str, Any]) -> str:
    """Of a credential that has ended: `refused on 4 of 4 workers, after 3 ms`; what was waited out is said too."""
    if not receipt["workers"]:
        return "no worker was running that could have accepted it"
    return f"refused on {_workers(receipt)}"


def describe_change(receipt: Mapping[str, Any]) -> str:
    """Of a change after which credentials are still accepted: `known to 4 of 4 workers, after 3 ms`."""
    if not receipt["workers"]:
        return "no worker was running that had to know"
    return f"known to {_workers(receipt)}"


def _workers(receipt: Mapping[str, Any]) -> str:
    workers, acknowledged = receipt["workers"], receipt["acknowledged"]
    said = f"{workers} of {workers} workers, after {receipt['ms']:.0f} ms"
    return said if acknowledged == workers else f"{said} ({workers - acknowledged} did not answer, and were waited out)"


def pluralize(count: int, noun: str) -> str:
    """`1 key`, `1,200 keys`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def describe_entry(entry: AllowlistEntry) -> str:
    """Which pages an entry of a widget key's list means."""
    where = f"every subdomain of {entry.host}, but not {entry.host} itself" if entry.subdomains else entry.host
    port = "on every port" if entry.port is None else f"on port {entry.port}" if entry.port else ""
    scheme = "over http or https" if "http" in entry.schemes else "over https"
    return " ".join(part for part in (where, port, scheme) if part)


def ago(when: datetime | None, now: datetime | None = None) -> str:
    """`5 minutes ago`, `in 3 days`, `just now`, `never`."""
    if when is None:
        return "never"
    distance = (now or datetime.now(UTC)) - when
    size = abs(distance)
    for unit, name in (*_UNITS, *_SHORT_UNITS):
        if size >= unit:
            count = size // unit
            words = f"{count} {name}{'s' if count > 1 else ''}"
            return f"{words} ago" if distance > timedelta(0) else f"in {words}"
    return "just now" if distance >= timedelta(0) else "in a moment"


def moment(when: datetime) -> str:
    """For `<time datetime>` and where the exact moment matters."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def actor_name(label: str) -> str:
    """`jwt:alice` is alice; other kinds keep their word."""
    return label.removeprefix("jwt:")


def describe_limits(limits: Mapping[str, int | None]) -> str:
    """`60 a minute, 20 in flight`; empty for none."""
    names = {"per_minute": "a minute", "per_hour": "an hour", "per_day": "a day", "concurrent": "in flight"}
    return ", ".join(f"{limits[name]:,} {words}" for name, words in names.items() if limits.get(name))
