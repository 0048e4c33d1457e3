"""Many accounts at once: all of them are checked before anything is made, and running it again goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from kataven.operations import account_creation, database_repair
from kataven.operations.account_creation import NewAccount
from kataven.operations.account_file import AccountFileLine
from kataven.system import accounts, servers
from kataven.system.database import SystemDatabase
from kataven.system.errors import ImportRefused, NoSuchServer, SystemRefusal
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import TenancyError


class ImportOutcome(StrEnum):
    """What became of one line."""

    CREATED = "created"
    EXISTS = "exists"  # made before, perhaps by an earlier run
    PENDING = "pending"  # a dry run: it would be made
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """A row of the table."""

    line: int
    account: str
    outcome: ImportOutcome
    server: str | None = None
    error: str = ""


def check(database: SystemDatabase, lines: Sequence[AccountFileLine]) -> None:
    """Compare with what there is, and change nothing. Raises ImportRefused with every line that could not be made."""
    with database.reading() as session:
        known = {row.account_id: row for row in accounts.listing(session)}
        problems = []
        for line in lines:
            problems += [f"line {line.number}: {problem}" for problem in _conflicts(line.new, known, database)]
        for name in dict.fromkeys(line.new.server for line in lines if line.new.account not in known):
            try:
                servers.choose(session, name)
            except NoSuchServer as error:
                numbers = ", ".join(str(line.number) for line in lines if line.new.server == name)
                problems.append(f"line {numbers}: server: {error}")
    if problems:
        raise ImportRefused(problems)


def run(
    database: SystemDatabase,
    lines: Sequence[AccountFileLine],
    *,
    actor: str,
    dry_run: bool = False,
    progress: Callable[[ImportResult], None] = lambda _: None,
) -> list[ImportResult]:
    """Make the accounts that are missing, one after the other; a line that fails is a row, and the next goes on.

    What an earlier run was killed over is finished or taken back first. Raises what `check` raises, and then nothing
    was made.
    """
    check(database, lines)
    if not dry_run and _is_unfinished(database, lines):
        database_repair.repair_all(database, actor=actor)
    results = []
    for line in lines:
        result = _make(database, line, actor, dry_run=dry_run)
        results.append(result)
        progress(result)
    return results


def _make(database: SystemDatabase, line: AccountFileLine, actor: str, *, dry_run: bool) -> ImportResult:
    account = line.new.account
    try:
        there = _find(database, account)
        if there is None and not dry_run:
            account_creation.create(database, line.new, actor=actor)
            made = _find(database, account)
            return ImportResult(line.number, account, ImportOutcome.CREATED, made.server if made else None)
    except (SystemRefusal, TenancyError) as error:
        return ImportResult(line.number, account, ImportOutcome.FAILED, error=str(error))
    except DBAPIError as error:
        return ImportResult(line.number, account, ImportOutcome.FAILED, error=in_words(error))
    if there is None:
        return ImportResult(line.number, account, ImportOutcome.PENDING, line.new.server)
    if there.status in (AccountStatus.PROVISIONING, AccountStatus.DELETING):
        words = f"it is {there.status} at this moment, or that was interrupted: see `flask accounts repair`"
        return ImportResult(line.number, account, ImportOutcome.FAILED, there.server, words)
    return ImportResult(line.number, account, ImportOutcome.EXISTS, there.server)


def _find(database: SystemDatabase, account: str) -> Account | None:
    with database.reading() as session:
        return session.get(Account, account)


def _is_unfinished(database: SystemDatabase, lines: Sequence[AccountFileLine]) -> bool:
    names = [line.new.account for line in lines]
    unfinished = select(Account.account_id).where(Account.status == AccountStatus.PROVISIONING)
    with database.reading() as session:
        return session.scalar(unfinished.where(Account.account_id.in_(names)).limit(1)) is not None


def _conflicts(new: NewAccount, known: dict[str, Account], database: SystemDatabase) -> Iterator[str]:
    there = known.get(new.account)
    if there is None and new.account == database.url.database:
        yield f"account: the account name {new.account!r} is reserved"
    if there is not None and new.org_id is not None and there.zitadel_org_id != new.org_id:
        yield f"org_id: account {new.account!r} exists already, for another organisation"
    holder = next((row for row in known.values() if new.org_id is not None and row.zitadel_org_id == new.org_id), None)
    if holder is not None and holder.account_id != new.account:
        yield f"org_id: {new.org_id!r} is the organisation of account {holder.account_id!r}"
