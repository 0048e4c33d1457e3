"""Formats values for the pages: times, counts, limits, receipts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Flask
from markupsafe import Markup, escape

from kataven.hub.page_blueprint import with_label
from kataven.identity import scopes
from kataven.ratelimit.policy import LIMIT_FIELDS
from kataven.widget.allowlist import AllowlistEntry

RECEIPTS: Final = "/receipts/"
"""The pages of receipts start with this path; the id follows."""
_WITH_RECEIPT = re.compile(rf"(.*)\n({RECEIPTS}[0-9a-f-]{{36}})", re.DOTALL)

_UNITS = ((timedelta(days=365), "year"), (timedelta(days=30), "month"), (timedelta(days=1), "day"))
_SHORT_UNITS = ((timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))


def install(app: Flask) -> None:
    """Add the filters for the templates, and the fields of the limits."""
    app.jinja_env.globals["limit_fields"] = LIMIT_FIELDS
    app.jinja_env.filters["ago"] = ago
    app.jinja_env.filters["ago_seconds"] = ago_seconds
    app.jinja_env.filters["moment"] = moment
    app.jinja_env.filters["with_code"] = with_code
    app.jinja_env.filters["with_label"] = with_label
    app.jinja_env.filters["actor_name"] = actor_name
    app.jinja_env.filters["limits"] = describe_limits
    app.jinja_env.filters["scopes"] = describe_scopes
    app.jinja_env.filters["pluralize"] = pluralize
    app.jinja_env.filters["revocation"] = describe_revocation


def with_code(text: str) -> Markup:
    """Render the parts between backticks as code."""
    parts = enumerate(text.split("`"))
    return Markup().join(Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in parts)


def describe_revocation(receipt: Mapping[str, Any]) -> str:
    """The receipt of a revocation: `4 of 4 workers confirmed after 3 ms`. Includes workers that did not respond."""
    return _describe(receipt, "no running worker could have accepted it")


def describe_change(receipt: Mapping[str, Any]) -> str:
    """The receipt of a change that revokes no credential: `applied on 4 of 4 workers after 3 ms`."""
    return _describe(receipt, "no worker was running", "applied on ", after="")


def _describe(receipt: Mapping[str, Any], without_workers: str, before: str = "", after: str = " confirmed") -> str:
    workers, acknowledged = receipt["workers"], receipt["acknowledged"]
    if not workers:
        return without_workers
    text = f"{before}{acknowledged} of {workers} workers{after} after {receipt['ms']:.0f} ms"
    silent = workers - acknowledged
    if not silent:
        return text
    leases = "its lease" if silent == 1 else "their leases"
    return f"{text}; {pluralize(silent, 'worker')} did not respond and {leases} expired"


def with_receipt(notice: str, receipt: Mapping[str, Any]) -> str:
    """A notice that leads to the page of the receipt, if it is stored.

    The path is the last line: a process of an earlier release shows it as text, but can read the session.
    """
    return f"{notice}\n{RECEIPTS}{receipt['id']}" if receipt.get("id") else notice


def notice_with_link(notice: str) -> str:
    """The notice as the page shows it."""
    found = _WITH_RECEIPT.fullmatch(notice)
    if found is None:
        return notice
    return Markup('{} <a href="{}">View receipt</a>').format(found[1], found[2])


def pluralize(count: int, noun: str) -> str:
    """`1 key`, `1,200 keys`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def describe_entry(entry: AllowlistEntry) -> str:
    """The web pages that an entry of a widget key's domain list allows."""
    where = f"all subdomains of {entry.host}, but not {entry.host} itself" if entry.subdomains else entry.host
    port = "on any port" if entry.port is None else f"on port {entry.port}" if entry.port else ""
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


def ago_seconds(when: datetime, now: datetime | None = None) -> str:
    """`4 seconds ago`, and from one minute on like `ago`."""
    moment = now or datetime.now(UTC)
    seconds = int((moment - when).total_seconds())
    return f"{pluralize(seconds, 'second')} ago" if 0 < seconds < 60 else ago(when, moment)


def moment(when: datetime) -> str:
    """`2026-07-25 09:30 UTC`."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def actor_name(label: str) -> str:
    """`alice` for `jwt:alice`, `operator:olivia` for `operator:jwt:olivia`. Other labels stay unchanged."""
    return label.removeprefix("jwt:").replace("operator:jwt:", "operator:")


def describe_scopes(names: Sequence[str] | None) -> str:
    """`Full access`, `Read only: agents:read`, or the scopes."""
    if names is None:
        return "Full access"
    listed = ", ".join(names)
    return f"Read only: {listed}" if all(name.endswith(f":{scopes.READ}") for name in names) else listed


def describe_limits(limits: Mapping[str, int | None]) -> str:
    """`60 per minute, 20 concurrent`, or empty if no limit is set."""
    values = ((limits.get(limit.field), limit.words) for limit in LIMIT_FIELDS)
    return ", ".join(f"{value:,} {words}" for value, words in values if value)
