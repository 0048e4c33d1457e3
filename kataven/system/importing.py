"""Many accounts from a CSV file: all of it is checked before anything is made, and running it again goes on.

The first line names the columns: `account`, and any of `name`, `org_id`, `server`, `discoverable`,
`max_key_expiry_days`, `per_minute`, `per_hour`, `per_day`, `concurrent`. An empty cell is as good as no column.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from kataven.ratelimit.policy import MAX_LIMIT
from kataven.system import accounts, lifecycle, repairs, servers
from kataven.system.database import SystemDatabase
from kataven.system.errors import ImportRefused, NoSuchServer, SystemRefusal
from kataven.system.lifecycle import NewAccount
from kataven.system.limits import COLUMNS as LIMITS
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.errors import InvalidAccountName, TenancyError
from kataven.tenancy.faults import in_words
from kataven.tenancy.names import check_new_account_name

COLUMNS = ("account", "name", "org_id", "server", "discoverable", "max_key_expiry_days", *LIMITS)

_YES_OR_NO = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}


class Outcome(StrEnum):
    """What became of one line."""

    CREATED = "created"
    EXISTS = "exists"  # made before, perhaps by an earlier run
    PENDING = "pending"  # a dry run: it would be made
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file, well-formed."""

    number: int
    new: NewAccount


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the table."""

    line: int
    account: str
    outcome: Outcome
    server: str | None = None
    error: str = ""


def read(file: Iterable[str]) -> list[Line]:
    """The lines of a CSV file. Raises ImportRefused with every problem, each with its line and column."""
    rows = csv.DictReader(file, restkey="", strict=True)
    problems: list[str] = []
    lines: list[Line] = []
    try:
        _check_header(rows.fieldnames or ())
        for row in rows:
            line = _Row(rows.line_num, row, problems).line()
            if line is not None:
                lines.append(line)
    except (csv.Error, UnicodeDecodeError) as error:
        problems.append(f"line {rows.line_num}: this is not CSV in UTF-8: {error}")
    problems += _repeated(lines)
    if problems:
        raise ImportRefused(problems)
    return lines


def check(database: SystemDatabase, lines: Sequence[Line]) -> None:
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
    lines: Sequence[Line],
    *,
    actor: str,
    dry_run: bool = False,
    progress: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Make the accounts that are missing, one after the other; a line that fails is a row, and the next goes on.

    What an earlier run was killed over is finished or taken back first. Raises what `check` raises, and then nothing
    was made.
    """
    check(database, lines)
    if not dry_run and _is_unfinished(database, lines):
        repairs.repair_all(database, actor=actor)
    results = []
    for line in lines:
        result = _make(database, line, actor, dry_run=dry_run)
        results.append(result)
        progress(result)
    return results


def _make(database: SystemDatabase, line: Line, actor: str, *, dry_run: bool) -> Result:
    account = line.new.account
    try:
        there = _find(database, account)
        if there is None and not dry_run:
            lifecycle.create(database, line.new, actor=actor)
            made = _find(database, account)
            return Result(line.number, account, Outcome.CREATED, made.server if made else None)
    except (SystemRefusal, TenancyError) as error:
        return Result(line.number, account, Outcome.FAILED, error=str(error))
    except DBAPIError as error:
        return Result(line.number, account, Outcome.FAILED, error=in_words(error))
    if there is None:
        return Result(line.number, account, Outcome.PENDING, line.new.server)
    if there.status in (AccountStatus.PROVISIONING, AccountStatus.DELETING):
        words = f"it is {there.status} at this moment, or that was interrupted: see `flask accounts repair`"
        return Result(line.number, account, Outcome.FAILED, there.server, words)
    return Result(line.number, account, Outcome.EXISTS, there.server)


def _find(database: SystemDatabase, account: str) -> Account | None:
    with database.reading() as session:
        return session.get(Account, account)


def _is_unfinished(database: SystemDatabase, lines: Sequence[Line]) -> bool:
    names = [line.new.account for line in lines]
    unfinished = select(Account.account_id).where(Account.status == AccountStatus.PROVISIONING)
    with database.reading() as session:
        return session.scalar(unfinished.where(Account.account_id.in_(names)).limit(1)) is not None


def _check_header(columns: Sequence[str]) -> None:
    known = ", ".join(COLUMNS)
    problems = [f"line 1: {column!r} is no column; there are {known}" for column in columns if column not in COLUMNS]
    problems += [f"line 1: {column!r} is there twice" for column in set(columns) if list(columns).count(column) > 1]
    if "account" not in columns:
        problems.append("line 1: the column 'account' is missing; the first line names the columns")
    if problems:
        raise ImportRefused(problems)


def _repeated(lines: Sequence[Line]) -> Iterator[str]:
    first: dict[tuple[str, str], int] = {}
    for line in lines:
        for column, value in (("account", line.new.account), ("org_id", line.new.org_id)):
            if value is not None:
                earlier = first.setdefault((column, value), line.number)
                if earlier != line.number:
                    yield f"line {line.number}: {column}: {value!r} is on line {earlier} already"


def _conflicts(new: NewAccount, known: dict[str, Account], database: SystemDatabase) -> Iterator[str]:
    there = known.get(new.account)
    if there is None and new.account == database.url.database:
        yield f"account: the account name {new.account!r} is reserved"
    if there is not None and new.org_id is not None and there.zitadel_org_id != new.org_id:
        yield f"org_id: account {new.account!r} exists already, for another organisation"
    holder = next((row for row in known.values() if new.org_id is not None and row.zitadel_org_id == new.org_id), None)
    if holder is not None and holder.account_id != new.account:
        yield f"org_id: {new.org_id!r} is the organisation of account {holder.account_id!r}"


class _Row:
    """One line as text, on its way to an account; what is wrong with it goes to `problems`."""

    def __init__(self, number: int, cells: dict[str, str | None], problems: list[str]) -> None:
        self._number = number
        self._cells = {name: (cell or "").strip() for name, cell in cells.items() if name}
        self._is_too_long = "" in cells
        self._problems = problems

    def line(self) -> Line | None:
        """The line; None for one without any text, or with a problem."""
        if not any(self._cells.values()):
            return None
        before = len(self._problems)
        if self._is_too_long:
            self._problem("more cells than there are columns; a comma belongs into quotes")
        account = self._account()
        limits = {name: number for name in LIMITS if (number := self._number_in(name)) is not None}
        new = NewAccount(
            account,
            self._cell("name") or account,
            self._cell("org_id") or None,
            self._cell("server") or None,
            self._yes_or_no("discoverable"),
            self._number_in("max_key_expiry_days"),
            limits,
        )
        return Line(self._number, new) if len(self._problems) == before else None

    def _cell(self, column: str) -> str:
        return self._cells.get(column, "")

    def _account(self) -> str:
        try:
            return check_new_account_name(self._cell("account"))
        except InvalidAccountName as error:
            self._problem(f"account: {error}")
            return ""

    def _number_in(self, column: str) -> int | None:
        text = self._cell(column)
        if not text:
            return None
        if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT:
            return int(text)
        self._problem(f"{column}: must be a whole number of at least 1, not {text[:20]!r}")
        return None

    def _yes_or_no(self, column: str) -> bool:
        text = self._cell(column).lower()
        if text not in _YES_OR_NO:
            self._problem(f"{column}: must be yes or no, not {text[:20]!r}")
        return _YES_OR_NO.get(text, False)

    def _problem(self, words: str) -> None:
        self._problems.append(f"line {self._number}: {words}")
