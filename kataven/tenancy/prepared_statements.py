"""Statements that PostgreSQL plans once per connection instead of once per execution.

A frequent statement is marked with `select(…).prefix_with(PREPARED)`. On a connection to PostgreSQL itself, its first
execution sends `PREPARE` and `EXECUTE` in one message, and later ones send `EXECUTE`. A pooler gives each transaction
another session, so the statement is sent through it as it is: the mark is a comment.
"""

import re
from dataclasses import dataclass
from itertools import count

from psycopg2 import Error
from sqlalchemy import TextClause, text

_MARK = "/* prepared */"
PREPARED: TextClause = text(_MARK)
"""The mark, for `prefix_with`. Use it for statements that have the same text in each execution."""

_PARAMETER = re.compile(r"%\((\w+)\)s")
# A migration changed the type of a column; the session has lost its prepared statements.
_OUTDATED = frozenset({"0A000", "26000"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to send for a marked statement: `message` now, and `execute` after `message` was executed."""

    message: str
    execute: str


class PreparedStatements:
    """The prepared statements of one connection."""

    def __init__(self) -> None:
        self._executes: dict[str, str] = {}
        self._numbers = count(1)

    def find(self, statement: str) -> Prepared:
        """What to send. Its parameters are those of the statement, by name."""
        known = self._executes.get(statement)
        if known is not None:
            return Prepared(known, known)
        names = list(dict.fromkeys(_PARAMETER.findall(statement)))
        body = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
        # A new number each time: a failed message may have created the statement.
        number = next(self._numbers)
        values = ", ".join(f"%({name})s" for name in names)
        execute = f"EXECUTE kataven_{number}({values})" if names else f"EXECUTE kataven_{number}"
        return Prepared(f"PREPARE kataven_{number} AS {body}; {execute}", execute)

    def executed(self, statement: str, prepared: Prepared) -> None:
        """The message was executed completely."""
        self._executes[statement] = prepared.execute

    def forget(self, statement: str) -> None:
        """The statement is outdated: prepare it again."""
        self._executes.pop(statement, None)


def is_marked(query: object, values: object) -> bool:
    """Whether a statement is to be prepared."""
    return isinstance(query, str) and _MARK in query and isinstance(values, dict)


def is_outdated(error: Error) -> bool:
    """Whether a prepared statement can't be executed any more, although the statement itself may be correct."""
    return error.pgcode in _OUTDATED
