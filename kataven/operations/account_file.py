"""Parse a CSV file of accounts.

The first line contains the column names: `account`, and any of the others in `COLUMNS`, such as `name` and the limits.
An empty cell means the default.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kataven.operations.account_creation import NewAccount
from kataven.ratelimit.policy import MAX_LIMIT, Limits, contradictions
from kataven.system.errors import ImportRefused
from kataven.system.limits import COLUMNS as LIMITS
from kataven.tenancy.errors import InvalidAccountName
from kataven.tenancy.names import check_new_account_name

COLUMNS = ("account", "name", "org_id", "server", "discoverable", "max_key_expiry_days", *LIMITS)

_YES_OR_NO = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}


@dataclass(frozen=True, slots=True)
class AccountFileLine:
    """A valid line of the file."""

    number: int
    new: NewAccount


def read(file: Iterable[str]) -> list[AccountFileLine]:
    """Parse all lines. Raises ImportRefused with all problems, each with its line and column."""
    rows = csv.DictReader(file, restkey="", strict=True)
    problems: list[str] = []
    lines: list[AccountFileLine] = []
    try:
        _check_header(rows.fieldnames or ())
        for row in rows:
            line = _Row(rows.line_num, row, problems).line()
            if line is not None:
                lines.append(line)
    except (csv.Error, UnicodeDecodeError) as error:
        reason = "it contains a byte that is not UTF-8" if isinstance(error, UnicodeDecodeError) else "check its quotes"
        problems.append(f"line {rows.line_num}: not valid CSV in UTF-8: {reason}")
    problems += _duplicates(lines)
    if problems:
        raise ImportRefused(problems)
    return lines


def _check_header(columns: Sequence[str]) -> None:
    known = ", ".join(COLUMNS)
    problems = [f"line 1: unknown column {column!r}; use {known}" for column in columns if column not in COLUMNS]
    problems += [f"line 1: duplicate column {column!r}" for column in set(columns) if list(columns).count(column) > 1]
    if "account" not in columns:
        problems.append("line 1: missing column 'account'; the first line must contain the column names")
    if problems:
        raise ImportRefused(problems)


def _duplicates(lines: Sequence[AccountFileLine]) -> Iterator[str]:
    first: dict[tuple[str, str], int] = {}
    for line in lines:
        for column, value in (("account", line.new.account), ("org_id", line.new.org_id)):
            if value is not None:
                earlier = first.setdefault((column, value), line.number)
                if earlier != line.number:
                    yield f"line {line.number}: {column}: {value!r} is already used on line {earlier}"


class _Row:
    """Parses one line; appends its problems to `problems`."""

    def __init__(self, number: int, cells: dict[str, str | None], problems: list[str]) -> None:
        self._number = number
        self._cells = {name: (cell or "").strip() for name, cell in cells.items() if name}
        self._is_too_long = "" in cells
        self._problems = problems

    def line(self) -> AccountFileLine | None:
        """The parsed line; None if it is empty or has a problem."""
        if not any(self._cells.values()):
            return None
        before = len(self._problems)
        if self._is_too_long:
            self._problem("more cells than columns; put values that contain a comma in quotes")
        account = self._account()
        limits = {name: number for name in LIMITS if (number := self._number_in(name)) is not None}
        if limits:
            for problem in contradictions(replace(Limits(), **limits), limits):
                self._problem(problem)
        new = NewAccount(
            account,
            self._cell("name") or account,
            self._cell("org_id") or None,
            self._cell("server") or None,
            self._yes_or_no("discoverable"),
            self._number_in("max_key_expiry_days"),
            limits,
        )
        return AccountFileLine(self._number, new) if len(self._problems) == before else None

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

    def _problem(self, message: str) -> None:
        self._problems.append(f"line {self._number}: {message}")
