"""Create many accounts. All lines are checked before the first account is created, and an import can be run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from kataven.operations import database_repair
from kataven.operations.account_creation import NewAccount, create_account
from kataven.operations.account_file import AccountFileLine
from kataven.operations.operator import Operator
from kataven.system import accounts, servers
from kataven.system.database import SystemDatabase
from kataven.system.errors import ImportRefused, NoSuchServer, SystemRefusal
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import InvalidAccountName, TenancyError


class ImportOutcome(StrEnum):
    """The result of one line."""

    CREATED = "created"
    EXISTS = "exists"  # created before, for example by an earlier run
    PENDING = "pending"  # dry run: would be created
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """A row of the result table."""

    line: int
    account: str
    outcome: ImportOutcome
    server: str | None = None
    error: str = ""


def check(database: SystemDatabase, lines: Sequence[AccountFileLine]) -> None:
    """Compare the lines with the existing accounts and servers, without changing anything.

    Raises ImportRefused with a message for each line that can't be created.
    """
    with database.reading() as session:
        known = {row.account_id: row for row in accounts.listing(session)}
        owners = {row.zitadel_org_id: row.account_id for row in known.values()}
        problems = []
        for line in lines:
            problems += [f"line {line.number}: {problem}" for problem in _conflicts(line.new, known, owners, database)]
        for name in dict.fromkeys(line.new.server for line in lines if line.new.account not in known):
            try:
                servers.choose(session, name)
            except NoSuchServer as error:
                numbers = ", ".join(str(line.number) for line in lines if line.new.server == name)
                problems.append(f"line {numbers}: server: {error}")
    if problems:
        raise ImportRefused(problems)


def run(
    operator: Operator,
    lines: Sequence[AccountFileLine],
    *,
    dry_run: bool = False,
    progress: Callable[[ImportResult], None] = lambda _: None,
) -> list[ImportResult]:
    """Create the accounts that don't exist yet, one at a time. A line that fails does not stop the import.

    Accounts that an earlier run left incomplete are completed or removed first. Raises the errors of `check`; then no
    account has been created.
    """
    check(operator.system, lines)
    if not dry_run and _has_incomplete_accounts(operator.system, lines):
        database_repair.repair_all(operator)
    results = []
    for line in lines:
        result = _create(operator, line, dry_run=dry_run)
        results.append(result)
        progress(result)
    return results


def _create(operator: Operator, line: AccountFileLine, *, dry_run: bool) -> ImportResult:
    account = line.new.account
    try:
        existing = _find(operator.system, account)
        if existing is None and not dry_run:
            create_account(operator, line.new)
            created = _find(operator.system, account)
            return ImportResult(line.number, account, ImportOutcome.CREATED, created.server if created else None)
    except (SystemRefusal, TenancyError, InvalidAccountName) as error:
        return ImportResult(line.number, account, ImportOutcome.FAILED, error=str(error))
    except DBAPIError as error:
        return ImportResult(line.number, account, ImportOutcome.FAILED, error=in_words(error))
    if existing is None:
        return ImportResult(line.number, account, ImportOutcome.PENDING, line.new.server)
    if existing.status in (AccountStatus.PROVISIONING, AccountStatus.DELETING):
        reason = (
            f"the account is {existing.status}: the operation is in progress, or it was interrupted;"
            " see `flask accounts repair`"
        )
        return ImportResult(line.number, account, ImportOutcome.FAILED, existing.server, reason)
    return ImportResult(line.number, account, ImportOutcome.EXISTS, existing.server)


def _find(database: SystemDatabase, account: str) -> Account | None:
    with database.reading() as session:
        return session.get(Account, account)


def _has_incomplete_accounts(database: SystemDatabase, lines: Sequence[AccountFileLine]) -> bool:
    names = [line.new.account for line in lines]
    incomplete = select(Account.account_id).where(Account.status == AccountStatus.PROVISIONING)
    with database.reading() as session:
        return session.scalar(incomplete.where(Account.account_id.in_(names)).limit(1)) is not None


def _conflicts(
    new: NewAccount, known: Mapping[str, Account], owners: Mapping[str | None, str], database: SystemDatabase
) -> Iterator[str]:
    existing = known.get(new.account)
    if existing is None and new.account == database.url.database:
        yield f"account: the account name {new.account!r} is reserved"
    if existing is not None and new.org_id is not None and existing.zitadel_org_id != new.org_id:
        yield f"org_id: account {new.account!r} already exists with a different organisation"
    owner = None if new.org_id is None else owners.get(new.org_id)
    if owner is not None and owner != new.account:
        yield f"org_id: organisation {new.org_id!r} already belongs to account {owner!r}"
