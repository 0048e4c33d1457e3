"""Which names an account, and so its database, may have.

Names go into DDL, where nothing can be bound as a parameter: a name is checked here before it is ever quoted there.
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

# PostgreSQL cuts longer identifiers silently (NAMEDATALEN - 1): two accounts could meet in one database.
_MOST_BYTES = 63


def check_account_name(name: str) -> str:
    """Return `name` if it has an account's form; reserved names pass. Raises InvalidAccountName with a reason."""
    if not name:
        raise InvalidAccountName(name, "an account name can't be empty")
    if len(name) > _MOST_BYTES:
        raise InvalidAccountName(name, f"an account name has at most {_MOST_BYTES} characters")
    if not ACCOUNT_NAME.fullmatch(name):
        first, reason = name[0], "an account name has only lower-case letters, digits, '-' and '_'"
        if first in "-_":
            reason = "an account name starts with a lower-case letter or a digit"
        usable = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")
        raise InvalidAccountName(name, f"{reason}; try {usable}" if usable else reason)
    return name


def check_new_account_name(name: str, *, also_reserved: Collection[str] = ()) -> str:
    """Return `name` if an account may be created under it. Raises InvalidAccountName or ReservedAccountName.

    `also_reserved` takes what this installation keeps for itself, such as a system database by another name.
    """
    check_account_name(name)
    if name in RESERVED_NAMES or name in also_reserved or name.startswith(RESERVED_PREFIXES):
        raise ReservedAccountName(name, f"the account name {name!r} is reserved")
    return name


def quoted(database: str) -> str:
    """`database` as an SQL identifier. Raises InvalidAccountName for anything but a checked name.

    Quotes are needed for '-' and a leading digit; the check leaves nothing that could end them early.
    """
    return f'"{check_account_name(database)}"'
