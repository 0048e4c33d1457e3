"""The inputs of widget keys, for the API and the Hub."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from kataven.web.schema import Input, SingleLine, no_default
from kataven.widget import allowlist

SERVER_SET = frozenset({"id", "hint", "created_at", "created_by", "disabled_at", "key", "snippet", "receipt"})


def _deduplicated(entries: list[str]) -> list[str]:
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
        description="Pages that may use the key: `acme.com` (this host, https), `https://acme.com:8443` (this "
        "origin), `*.acme.com` (any subdomain, not acme.com itself), `localhost:*` or `localhost:3000` (the visitor's "
        "machine, also http). With an empty list, all pages are rejected.",
    ),
    AfterValidator(_deduplicated),
]
PinnedAgent = Annotated[
    UUID | None, Field(description="Pin the key to one agent. Null allows every agent of the account.")
]


class WidgetKeyInput(Input):
    """A widget key to create."""

    server_set = SERVER_SET

    name: KeyName
    domain_allowlist: DomainAllowlist = Field(default_factory=list)
    agent_id: PinnedAgent = None


class WidgetKeyPatch(Input):
    """The fields of a widget key to update. Omitted fields keep their values."""

    server_set = SERVER_SET

    name: KeyName = Field(default="", json_schema_extra=no_default)
    domain_allowlist: DomainAllowlist = Field(default_factory=list)
    agent_id: PinnedAgent = Field(default=None, json_schema_extra=no_default)
    disabled: bool = Field(default=False, json_schema_extra=no_default)
