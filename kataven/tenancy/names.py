"""Validates the names of accounts, which are also the names of their databases.

DDL statements contain these names, and can't bind parameters. Every name is therefore checked before it is quoted.
"""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from kataven.tenancy.errors import InvalidAccountName, ReservedAccountName

ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OPERATORS_ACCOUNT = "kataven-admin"
SYSTEM_DATABASE = "kataven_system"

# PostgreSQL truncates longer identifiers silently (NAMEDATALEN - 1), so two accounts could share a database.
_MAX_BYTES = 63
_POSTGRESQL_NAMES = frozenset({"postgres", "template0", "template1"})
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,19}")


@dataclass(frozen=True, slots=True)
class DatabaseNames:
    """The names that an installation uses on its servers besides those of its accounts.

    `prefix` starts the names of template and scratch databases; installations that share a server need different ones.
    `reserved` are further names that no account can have. Raises ValueError for an invalid prefix.
    """

    prefix: str = "kataven"
    reserved: frozenset[str] = frozenset({OPERATORS_ACCOUNT, SYSTEM_DATABASE})

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix) or self.prefix.startswith("pg_"):
            raise ValueError(
                f"the prefix {self.prefix!r} must have 1 to 20 lower-case letters, digits and '_', start with a "
                "letter, and not start with 'pg_'"
            )

    @property
    def template_prefix(self) -> str:
        """The prefix of template databases."""
        return f"{self.prefix}_template_"

    @property
    def scratch_prefix(self) -> str:
        """The prefix of databases that are not complete."""
        return f"{self.prefix}_scratch_"

    @property
    def all_reserved(self) -> frozenset[str]:
        """Every name that no account can have, except names with a reserved prefix."""
        return self.reserved | _POSTGRESQL_NAMES

    def template(self, revision: str) -> str:
        """The name of the template for `revision`."""
        return self.template_prefix + revision.replace("-", "_").lower()

    def scratch(self, purpose: str) -> str:
        """The name of a database until it is complete. A database found under a scratch name is orphaned."""
        return self.scratch_prefix + hashlib.sha256(purpose.encode()).hexdigest()[:24]

    def is_internal(self, database: str) -> bool:
        """Whether the database is a template or scratch database of this installation."""
        return database.startswith((self.template_prefix, self.scratch_prefix))

    def check_new(self, name: str, *, also_reserved: Collection[str] = ()) -> str:
        """Return `name` if an account can be created with it. Raises InvalidAccountName or ReservedAccountName."""
        check_account_name(name)
        reserved = name in self.all_reserved or name in also_reserved or name.startswith("pg_")
        if reserved or self.is_internal(name):
            raise ReservedAccountName(name, f"the account name {name!r} is reserved")
        return name


KATAVEN_NAMES = DatabaseNames()
"""The names of Kataven Hub, and the default of this package."""
TEMPLATE_PREFIX = KATAVEN_NAMES.template_prefix
SCRATCH_PREFIX = KATAVEN_NAMES.scratch_prefix


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
    """Return `name` if an account of Kataven Hub can be created with it. Raises as `DatabaseNames.check_new`.

    `also_reserved`: further names that this installation reserves, such as that of its system database.
    """
    return KATAVEN_NAMES.check_new(name, also_reserved=also_reserved)


def quoted(database: str) -> str:
    """`database` as a quoted SQL identifier. Raises InvalidAccountName if the name is invalid.

    '-' and a leading digit require quotes. A valid name contains no character that could end the quotes.
    """
    return f'"{check_account_name(database)}"'
