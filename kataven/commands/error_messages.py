"""The messages of errors that a command can expect."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from kataven.account.errors import AccountError, ChangeLost
from kataven.identity.errors import Refused, VerifierUnavailable
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.system.database import pooler_problem
from kataven.system.errors import SystemDatabaseUnavailable, SystemRefusal
from kataven.tenancy.error_classification import fault_of, in_words
from kataven.tenancy.errors import TenancyError


def message_of(error: Exception, program: str) -> str | None:
    """The line that a command prints for an error; None for an error in the program itself."""
    if isinstance(error, AccountError | SystemRefusal | TenancyError | Refused | ValueError):
        return str(error)
    if isinstance(error, RevocationUnconfirmed):
        return (
            "The change was saved, but the system database is unavailable, so it could not be confirmed that every "
            f"worker has applied it. Run `{program} revocation flush` until it shows a receipt."
        )
    if isinstance(error, ChangeLost):
        return "The database failed over and lost the change. Run the command again."
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'}: {error.strerror or error}"
    if isinstance(error, DBAPIError):
        return None if fault_of(error) is None else f"A database server is unavailable: {in_words(error)}"
    if isinstance(error, SystemDatabaseUnavailable):
        reason = pooler_problem(error)
        why = f": {reason}." if reason else ". Check KATAVEN_DATABASE_URL."
        return f"The system database is unavailable{why}"
    if isinstance(error, VerifierUnavailable):
        return str(error)
    return None
