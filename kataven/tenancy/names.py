"""Validates the names of accounts, which are also the names of their databases.

DDL statements contain these names, and can't bind parameters. Every name is therefore checked before it is quoted.
"""

import re
from collections.abc import Collection

from kataven.tenancy.errors import InvalidAccountName, ReservedAccountName

ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OPERATORS_ACCOUNT = "kataven-admin"
SYSTEM_DATABASE = "kataven_system"
TEMPLATE_PREFIX = "kataven_template_"
SCRATCH_PREFIX = "kataven_scratch_"
RESERVED_NAMES = frozenset({OPERATORS_ACCOUNT, SYSTEM_DATABASE, "postgres", "template0", "template1"})
RESERVED_PREFIXES = ("pg_", TEMPLATE_PREFIX, SCRATCH_PREFIX)

# PostgreSQL truncates longer identifiers silently (NAMEDATALEN - 1), so two accounts could share a database.
_MAX_BYTES = 63


def check_account_name(name: str) -> str:
    """Return `name` if its format is valid; reserved names are accepted. Raises InvalidAccountName with a reason."""
    if not name:
        raise InvalidAccountName(name, "an account name can't be empty")
    if len(name) > _MAX_BYTES:
        raise InvalidAccountName(name, f"an account name can have at most {_MAX_BYTES} characters")
    if not ACCOUNT_NAME.fullmatch(name):
        first, reason = name[0], "an account name can contain only lower-case letters, digits, '-' and '_'"
        if first in "-_":
            reason = "an account name must start with a lower-case letter or a digit"
        usable = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")
        raise InvalidAccountName(name, f"{reason}; try {usable}" if usable else reason)
    return name


def check_new_account_name(name: str, *, also_reserved: Collection[str] = ()) -> str:
    """Return `name` if an account can be created with it. Raises InvalidAccountName or ReservedAccountName.

    `also_reserved`: further names that this installation reserves, such as that of its system database.
    """
    check_account_name(name)
    if name in RESERVED_NAMES or name in also_reserved or name.startswith(RESERVED_PREFIXES):
        raise ReservedAccountName(name, f"the account name {name!r} is reserved")
    return name


def quoted(database: str) -> str:
    """`database` as a quoted SQL identifier. Raises InvalidAccountName if the name is invalid.

    '-' and a leading digit require quotes. A valid name contains no character that could end the quotes.
    """
    return f'"{check_account_name(database)}"'
