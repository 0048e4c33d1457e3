"""The plans of the queries that a measure executes, from the server's log of statements."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

from bench.growth.growth import Measure
from tests.support.waiting import wait_until

IDLE_SECONDS = 2.0
"""For how long the statements of background threads are recorded, which are not those of the measure."""
_MARK = "#statement "
_PREFIX = f"{_MARK}%d "
_ENTRY = re.compile(r"(?s)(?P<database>\S+) LOG:  statement: (?P<statement>.*?)(?:\n#.*)?\Z")
_PREPARED = re.compile(r"(?s)(?P<database>\S+) DETAIL:  prepare: .*?(?P<prepare>PREPARE \w+ AS [^;]*)")
_FIRST_EXECUTION = re.compile(r"(?s).*?(?P<prepare>PREPARE \w+ AS [^;]*); (?P<execute>EXECUTE [^;]*)\Z")
_QUERY = re.compile(r"(?i)\s*(?:/\*.*?\*/\s*)?(?:SELECT|WITH|EXECUTE)\b")
_UNIMPORTANT = re.compile(r"(?i)\b(?:set_config|pg_control_checkpoint|txid_|pg_current_wal|alembic_version)\b")
_EXPLAIN = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "
Found = tuple[str, str, str]
"""Database, statement, and the PREPARE that it needs, if any."""


class StatementLog:
    """The statements that the server at `url` executes, while they are recorded. `log` is the file that it writes."""

    def __init__(self, url: str, log: Path) -> None:
        self._url = make_url(url).set(drivername="postgresql")
        self._log = log
        self._set("log_line_prefix", f"'{_PREFIX}'")

    def print_plans(self, measure: Measure) -> None:
        """Run the measure, and print the plan of each of its queries, without the values in conditions."""
        measure.run()  # connects and prepares
        background = {_shape(statement) for _, statement, _ in self._executed(lambda: time.sleep(IDLE_SECONDS))}
        print(f"\n  {measure.label}")
        shown = set(background)
        for database, statement, prepare in self._executed(measure.run):
            if _shape(statement) not in shown:
                shown.add(_shape(statement))
                print(f"    in {database}\n{_indented(self._explain(database, statement, prepare))}", flush=True)

    def _executed(self, run: Callable[[], object]) -> Sequence[Found]:
        start = self._log.stat().st_size
        self._set("log_statement", "'all'")
        wait_until(lambda: self._is_recorded("SELECT 'recording'", start), 20)
        start = self._log.stat().st_size
        run()
        wait_until(lambda: self._is_recorded("SELECT 'recorded'", start), 20)
        text = self._log.read_bytes()[start:].decode()
        self._set("log_statement", "'none'")
        found: list[Found] = []
        for entry in text.split(_MARK):
            detail = _PREPARED.match(entry.strip())
            query = None if detail is not None else _query(entry)
            if query is not None:
                found.append(query)
            elif detail is not None:  # of the last EXECUTE in this database; other sessions write lines in between
                at = max(i for i, one in enumerate(found) if one[0] == detail["database"] and one[1][:7] == "EXECUTE")
                found[at] = (*found[at][:2], detail["prepare"])
        return found

    def _is_recorded(self, statement: str, start: int) -> bool:
        with closing(self._connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
        return statement in self._log.read_bytes()[start:].decode()

    def _explain(self, database: str, statement: str, prepare: str) -> str:
        with closing(self._connect(database)) as connection, connection.cursor() as cursor:
            if prepare:
                cursor.execute(prepare)
            cursor.execute("SET default_transaction_read_only = on")  # ANALYZE executes the statement
            cursor.execute(_EXPLAIN + statement)
            return "\n".join(line for (line,) in cursor.fetchall())

    def _set(self, name: str, value: str) -> None:
        with closing(self._connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(f"ALTER SYSTEM SET {name} = {value}")
            cursor.execute("SELECT pg_reload_conf()")

    def _connect(self, database: str) -> Any:
        url = self._url.set(database=database).render_as_string(hide_password=False)
        connection = psycopg2.connect(url)
        connection.set_session(autocommit=True)
        return connection


def _query(entry: str) -> Found | None:
    found = _ENTRY.match(entry.strip())
    if found is None or found["database"] == "postgres":
        return None
    statement = found["statement"].replace("\n\t", "\n").strip().rstrip(";")
    first = _FIRST_EXECUTION.match(statement)
    if first is not None:
        return found["database"], first["execute"], first["prepare"].replace("\n\t", "\n")
    if ";" in statement or not _QUERY.match(statement) or _UNIMPORTANT.search(statement):
        return None
    return found["database"], statement, ""


def _shape(statement: str) -> str:
    return re.sub(r"'[^']*'|\b\d+\b", "?", statement)


def _indented(plan: str) -> str:
    # Values of conditions are random ids and times of the run.
    plan = re.sub(r"'[^']*'::", "'…'::", plan)
    return "\n".join(f"      {line}" for line in plan.splitlines())
