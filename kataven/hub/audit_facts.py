"""The details of an audit event as facts that people can read, instead of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kataven.hub.formatting import describe_revocation, moment

_LABELS: Final[Mapping[str, str]] = {
    "hint": "Key ends with",
    "expires_at": "Expires",
    "reapplied": "Reapplied after a restore",
    "fields": "Changed",
    "max_days": "Maximum lifetime in days",
    "until": "Until",
}
_HIDDEN: Final = frozenset({"times"})
"""The receipt shows these."""
_ARROW: Final = "\N{RIGHTWARDS ARROW}"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")


@dataclass(frozen=True, slots=True)
class AuditFact:
    """A detail of an event. The label is empty if the text needs none."""

    label: str
    text: str


def facts_of(detail: Mapping[str, Any], hidden: frozenset[str] = frozenset()) -> list[AuditFact]:
    """The details in their order. `hidden` are shown elsewhere on the page."""
    return list(_facts(detail, _HIDDEN | hidden))


def _facts(detail: Mapping[str, Any], hidden: frozenset[str]) -> Iterator[AuditFact]:
    for name, value in detail.items():
        if name in hidden or (name == "to" and "from" in detail):
            continue
        if name == "from" and "to" in detail:
            yield from _changes(value, detail["to"])
        elif name == "receipt" and isinstance(value, Mapping):
            yield AuditFact("", _receipt(value))
        else:
            yield AuditFact(_label(name), _text(value))


def _changes(before: Any, after: Any) -> Iterator[AuditFact]:
    """`Per minute: 60 → 120` for each value that differs."""
    if not isinstance(before, Mapping | None) or not isinstance(after, Mapping | None):
        yield AuditFact("", f"{_text(before)} {_ARROW} {_text(after)}")
        return
    old, new = before or {}, after or {}
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield AuditFact(_label(name), f"{_text(old.get(name))} {_ARROW} {_text(new.get(name))}")


def _receipt(receipt: Mapping[str, Any]) -> str:
    try:
        return describe_revocation(receipt)
    except (KeyError, TypeError, ValueError):
        return _text(receipt)


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return _time(value)
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping) and not any(isinstance(item, Mapping | list) for item in value.values()):
        return ", ".join(f"{_label(name).lower()} {_text(item)}" for name, item in value.items())
    return json.dumps(value, ensure_ascii=False)


def _time(text: str) -> str:
    if _TIME.fullmatch(text):
        try:
            return moment(datetime.fromisoformat(text))
        except ValueError:
            pass
    return text
