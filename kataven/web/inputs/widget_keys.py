"""What may be said of a widget key, at the API and in the Hub."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from kataven.web.schema import Input, SingleLine, no_default
from kataven.widget import allowlist

SERVER_SET = frozenset({"id", "hint", "created_at", "created_by", "disabled_at", "key", "snippet", "receipt"})


def _without_repetition(entries: list[str]) -> list[str]:
    return list(dict.fromkeys(entries))


KeyName = Annotated[str, SingleLine(200)]
AllowlistEntry = Annotated[
    str,
    StringConstraints(min_length=1, max_length=allowlist.MAX_ENTRY_LENGTH),
    AfterValidator(lambda text: allowlist.parse_new_entry(text).text),
]
DomainAllowlist = Annotated[
    list[AllowlistEntry],
    Field(
        max_length=allowlist.MAX_ENTRIES,
        description="Pages that may carry the key: `acme.com` (that host, https), `https://acme.com:8443` (that "
        "origin), `*.acme.com` (any subdomain, not acme.com itself), `localhost:*` or `localhost:3000` (this machine, "
        "http too). An empty list blocks the key.",
    ),
    AfterValidator(_without_repetition),
]


class WidgetKeyInput(Input):
    """A widget key to make."""

    server_set = SERVER_SET

    name: KeyName
    domain_allowlist: DomainAllowlist = Field(default_factory=list)
    agent_id: UUID | None = Field(default=None, description="Pin the key to one agent; null: any of the account's.")


class WidgetKeyPatch(Input):
    """What to change of a widget key."""

    server_set = SERVER_SET

    name: KeyName = Field(default="", json_schema_extra=no_default)
    domain_allowlist: DomainAllowlist = Field(default_factory=list)
    agent_id: UUID | None = Field(default=None, json_schema_extra=no_default)
    disabled: bool = Field(default=False, json_schema_extra=no_default)
