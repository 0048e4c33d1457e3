"""What the system room can refuse.

SystemRefusal
├── AccountExists          raised when an account of this name, or for this organisation, is there already
├── NoSuchAccount          raised when there is none of this name
├── WrongStatus            raised when an account's status does not allow what was asked
├── ImportRefused          raised when a file of accounts can't be imported; `problems` has a line for each reason
├── ContradictoryLimits    raised when a short window would admit more than a longer one; the text names both
├── NoDatabase             raised when an account's database is not there
├── NotRestorable          raised when a dump does not say enough to make its account again
├── NoSuchServer           raised when no database server has this name, or it takes no new accounts
├── ServerExists           raised when a server of this name is listed already
├── LastServer             raised when no other database server would take new accounts
├── ServerInUse            raised when a server can't be taken off the list, because accounts are on it
├── ServerUnsuitable       raised when a server can't be reached, or can't hold accounts; the text names the fix
├── NoSuchRun              raised when no run over the accounts has this id
├── RunUnderWay            raised when accounts are being migrated already
└── SystemSchemaBehind     raised when the system database lacks what this release needs

SystemDatabaseUnavailable  (a VerifierUnavailable) raised when the system database can't be reached
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from kataven.identity.errors import VerifierUnavailable


class SystemRefusal(Exception):
    """Something an operator asked for can't be done; the text says why and what would help."""


class AccountExists(SystemRefusal):
    def __init__(self, account: str) -> None:
        super().__init__(f"An account {account!r}, or one for the same organisation, exists already.")


class NoSuchAccount(SystemRefusal):
    def __init__(self, account: str) -> None:
        super().__init__(f"There is no account {account!r}.")


class WrongStatus(SystemRefusal):
    def __init__(self, account: str, status: str, needed: str) -> None:
        super().__init__(f"Account {account!r} is {status}; this needs it to be {needed}.")


class ImportRefused(SystemRefusal):
    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(["Nothing was made:", *problems]))
        self.problems = tuple(problems)


class ContradictoryLimits(SystemRefusal):
    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("The limits contradict each other: " + "; ".join(problems) + ".")


class NoDatabase(SystemRefusal):
    def __init__(self, account: str) -> None:
        super().__init__(
            f"Account {account!r} has no database on its server, so there is nothing to dump. If it is lost for good,"
            " `flask accounts delete --without-dump` removes the account."
        )


class NotRestorable(SystemRefusal):
    """The text says what is missing."""


class NoSuchServer(SystemRefusal):
    def __init__(self, server: str | None) -> None:
        which = "database server" if server is None else f"database server {server!r}"
        super().__init__(f"There is no {which} that takes accounts. See `flask servers list`.")


class ServerExists(SystemRefusal):
    def __init__(self, server: str) -> None:
        super().__init__(f"A server {server!r} is listed already. See `flask servers list`.")


class LastServer(SystemRefusal):
    def __init__(self, server: str) -> None:
        super().__init__(
            f"Server {server!r} is the only one that takes new accounts: without it, none can be created. Add another "
            "first (`flask servers add NAME`, or `flask servers resume NAME`), or repeat this with --force."
        )


class ServerInUse(SystemRefusal):
    def __init__(self, server: str, accounts: int) -> None:
        reason = f"{accounts} accounts are on it" if accounts else "the system database is on it"
        super().__init__(f"Server {server!r} can't be taken off the list: {reason}.")


class ServerUnsuitable(SystemRefusal):
    """The text says what is missing and how to mend it, and holds no password."""


class NoSuchRun(SystemRefusal):
    def __init__(self, run_id: UUID) -> None:
        super().__init__(f"There is no run {run_id}. Runs are begun in the console, or by `flask migrations upgrade`.")


class RunUnderWay(SystemRefusal):
    def __init__(self) -> None:
        super().__init__("Another run over the accounts is under way. Nothing was begun; wait until it has ended.")


class SystemSchemaBehind(SystemRefusal):
    def __init__(self, revision: str | None, needed: str) -> None:
        found = revision or "no revision"
        super().__init__(
            f"The system database is at {found}, but this operation needs {needed}. Run `flask migrations upgrade"
            " --system` first."
        )


class SystemDatabaseUnavailable(VerifierUnavailable):
    """Nobody can be looked up right now; a verification that needs it answers 503."""
