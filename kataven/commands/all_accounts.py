"""The group `accounts` with all its commands, which three modules define."""

from __future__ import annotations

from kataven.commands import account_dumps, account_import
from kataven.commands.accounts import group

__all__ = ["account_dumps", "account_import", "group"]
