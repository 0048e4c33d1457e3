"""Errors of the system package and of operations.

SystemRefusal
├── AccountExists          an account with this name or organisation already exists
├── NoSuchAccount          no account has this name
├── WrongStatus            the account's status does not allow the operation
├── ImportRefused          a CSV file can't be imported; `problems` has one line per problem
├── ContradictoryLimits    a shorter window would admit more requests than a longer one
├── NotARaise              a temporary limit is not higher than the account's own
├── NoDatabase             the account's database does not exist
├── NotRestorable          a dump lacks what is needed to recreate its account
├── NoSuchServer           no server has this name, or it accepts no new accounts
├── ServerExists           a server with this name is already listed
├── LastServer             no other server would accept new accounts
├── ServerInUse            the server can't be removed because it holds accounts
├── ServerUnsuitable       the server is unreachable, or can't hold accounts; the message names the fix
├── NoSuchRun              no migration run has this id
├── RunUnderWay            another migration run is in progress
└── SystemSchemaBehind     the system database lacks a revision that the operation needs

SystemDatabaseUnavailable  (a VerifierUnavailable) the system database can't be reached
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from kataven.identity.errors import VerifierUnavailable


class SystemRefusal(Exception):
    """An operation was refused. The message gives the reason and the fix, and is shown to operators."""


class AccountExists(SystemRefusal):
    def __init__(self, account: str) -> None:
        super().__init__(f"Account {account!r}, or another account with the same organisation, already exists.")


class NoSuchAccount(SystemRefusal):
    def __init__(self, account: str) -> None:
        super().__init__(f"Account {account!r} does not exist.")


class WrongStatus(SystemRefusal):
    def __init__(self, account: str, status: str, needed: str) -> None:
        super().__init__(f"Account {account!r} is {status}, but must be {needed}.")


class ImportRefused(SystemRefusal):
    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(["No account was created:", *problems]))
        self.problems = tuple(problems)


class ContradictoryLimits(SystemRefusal):
    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("The limits are inconsistent: " + "; ".join(problems) + ".")


class NotARaise(SystemRefusal):
    """The message names the limit."""


class NoDatabase(SystemRefusal):
    def __init__(self, account: str) -> None:
        super().__init__(
            f"The database of account {account!r} does not exist on its server, so it can't be dumped. If it can't be"
            " recovered, `flask accounts delete --without-dump` removes the account."
        )


class NotRestorable(SystemRefusal):
    """The message names what is missing."""


class NoSuchServer(SystemRefusal):
    def __init__(self, server: str | None) -> None:
        if server is None:
            super().__init__("No database server accepts new accounts. See `flask servers list`.")
        else:
            super().__init__(
                f"Database server {server!r} does not exist or accepts no new accounts. See `flask servers list`."
            )


class ServerExists(SystemRefusal):
    def __init__(self, server: str) -> None:
        super().__init__(f"Server {server!r} is already listed. See `flask servers list`.")


class LastServer(SystemRefusal):
    def __init__(self, server: str) -> None:
        super().__init__(
            f"Server {server!r} is the only one that accepts new accounts. Add or resume another server first (`flask "
            "servers add NAME`, `flask servers resume NAME`), or pass --force."
        )


class ServerInUse(SystemRefusal):
    def __init__(self, server: str, accounts: int) -> None:
        contents = "the system database"
        if accounts:
            contents = "1 account" if accounts == 1 else f"{accounts} accounts"
        super().__init__(f"Server {server!r} can't be removed: it holds {contents}.")


class ServerUnsuitable(SystemRefusal):
    """The message names the problem and the fix. It contains no password."""


class NoSuchRun(SystemRefusal):
    def __init__(self, run_id: UUID) -> None:
        super().__init__(f"Migration run {run_id} does not exist. Start one with `flask migrations upgrade`.")


class RunUnderWay(SystemRefusal):
    def __init__(self) -> None:
        super().__init__("Another migration run is in progress. Nothing was started. Try again when it has ended.")


class SystemSchemaBehind(SystemRefusal):
    def __init__(self, revision: str | None, needed: str) -> None:
        found = revision or "no revision"
        super().__init__(
            f"The system database is at {found}, but this operation needs {needed}. Run `flask migrations upgrade"
            " --system` first."
        )


class SystemDatabaseUnavailable(VerifierUnavailable):
    """The system database is unavailable. A request that needs it returns 503."""
