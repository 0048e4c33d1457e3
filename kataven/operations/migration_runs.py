"""Runs over the accounts' schemas, written down where every process can read how far one has come.

A run is asked for, then carried out, by whoever asked or by a process of its own. Whoever carries it out holds a lock
on a connection of its own to the system database, so that the lock ends with its process, however that ends: a run that
is open and has no lock was stopped on the way. What it has done is done; the next run goes on with the others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from kataven.system import accounts, operators
from kataven.system.database import SystemDatabase
from kataven.system.errors import NoSuchRun, RunUnderWay, SystemRefusal, SystemSchemaBehind
from kataven.system.models import MigrationRun
from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA, system_revision
from kataven.tenancy.errors import TenancyError
from kataven.tenancy.migrations.fleet import RunOptions
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome
from kataven.tenancy.server import DatabaseServer

START_SECONDS = 60
"""Whoever asked for a run has so long until it begins; then it is taken for one that never will."""
TELL_SECONDS = 0.25
MOST_REMARKS = 200
STOPPED = "stopped on the way"
_LOCK = "account migrations are carried out"


class RunState(StrEnum):
    """How a run stands."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    """Whoever carried it out is gone, or never came."""
    FAILED = "failed"
    """Not every account is where it should be; or the run could not go over them at all."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to go over, and how. Without `accounts`, every account."""

    accounts: Sequence[str] = ()
    jobs: int = 8
    canaries: int = 1
    max_failures: int = 5

    @property
    def run_options(self) -> RunOptions:
        return RunOptions(jobs=self.jobs, canaries=self.canaries, max_failures=self.max_failures)

    @property
    def options(self) -> dict[str, int]:
        return {"jobs": self.jobs, "canaries": self.canaries, "max_failures": self.max_failures}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run, and how it stands."""

    run: MigrationRun
    state: RunState

    @property
    def live(self) -> bool:
        """Whether it goes on."""
        return self.state in {RunState.STARTING, RunState.RUNNING}

    def count(self, *outcomes: MigrationOutcome) -> int:
        return sum(self.run.counts.get(str(outcome), 0) for outcome in outcomes)

    @property
    def done(self) -> int:
        """Accounts that are where they should be."""
        return self.count(MigrationOutcome.MIGRATED, MigrationOutcome.CURRENT)

    @property
    def failed(self) -> int:
        return self.count(MigrationOutcome.FAILED)

    @property
    def early_end(self) -> str | None:
        """Why the run left accounts out, once it has ended; None if it did not."""
        return None if self.live else early_end(self.run.counts, self.run.options["max_failures"])

    @property
    def left(self) -> int:
        """Accounts that the run has not come to, or that it left out when it ended early."""
        return max(0, (self.run.total or 0) - self.done - self.failed)


def early_end(counts: Mapping[str, int], max_failures: int) -> str | None:
    """Why a run left accounts out, from how many accounts had which outcome; None if it left none out."""
    failed = counts.get(str(MigrationOutcome.FAILED), 0)
    more = failed - max_failures
    if not counts.get(str(MigrationOutcome.SKIPPED)):
        return None
    if more < 0:
        return "Stopped because an account of those that go first failed."
    said = f"Stopped after {max_failures} failure{'' if max_failures == 1 else 's'}"
    return f"{said}; {more} more failed that {'was' if more == 1 else 'were'} under way." if more else f"{said}."


def ask(database: SystemDatabase, actor: str, choice: RunRequest) -> UUID:
    """Write down that a run is to be carried out. One that was stopped on the way is ended first.

    Raises RunUnderWay, NoSuchAccount or SystemSchemaBehind; then nothing is written.
    """
    try:
        with database.writing() as session:
            revision = system_revision(session)
            if revision != SYSTEM_SCHEMA.head:
                raise SystemSchemaBehind(revision)
            for name in choice.accounts:
                accounts.read(session, name)
            _end_stopped(session)
            asked = MigrationRun(
                actor=actor, accounts=list(choice.accounts), target=ACCOUNT_SCHEMA.head, options=choice.options
            )
            session.add(asked)
            session.flush()
            operators.record(
                session, actor, "migrations.asked", _only(asked), {"accounts": asked.accounts or "all", **asked.options}
            )
            return asked.id
    except IntegrityError:  # two asked at the same moment
        raise RunUnderWay from None


def latest(session: Session) -> RunStatus | None:
    """The last run that was asked for. None also while the system database has no place for runs yet."""
    if system_revision(session) != SYSTEM_SCHEMA.head:
        return None
    newest = select(MigrationRun).order_by(MigrationRun.asked_at.desc()).limit(1)
    found = session.scalars(newest).first()
    return None if found is None else RunStatus(found, _state(session, found))


def give_up(database: SystemDatabase, run_id: UUID, reason: str) -> None:
    """End a run that nobody has begun, and say why. Does nothing if somebody has."""
    with database.writing() as session:
        run = session.get(MigrationRun, run_id, with_for_update=True)
        if run is not None and run.open and run.began_at is None:
            _end(session, run, reason)


@dataclass
class RunRecorder:
    """Where a run that is carried out says how far it is. Not for threads."""

    database: SystemDatabase
    run_id: UUID
    choice: RunRequest
    actor: str
    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    told_at: float = 0.0

    def begin(self, total: int) -> None:
        """Say how many accounts there are to go over."""
        self._write(total=total)

    def note(self, result: AccountResult) -> None:
        """One account's result. Written at once, unless there was nothing to do: such accounts come by thousands."""
        self.counts[str(result.outcome)] += 1
        remarkable = result.outcome is MigrationOutcome.FAILED or result.drifted
        if remarkable and len(self.remarks) < MOST_REMARKS:
            self.remarks.append(asdict(result))
        if result.outcome is not MigrationOutcome.CURRENT or time.monotonic() - self.told_at >= TELL_SECONDS:
            self._write()

    def _write(self, **more: Any) -> None:
        with self.database.writing() as session:
            run = session.get_one(MigrationRun, self.run_id)
            run.counts, run.remarks, run.told_at = dict(self.counts), list(self.remarks), _now(session)
            for name, value in more.items():
                setattr(run, name, value)
        self.told_at = time.monotonic()

    def end(self, error: str | None) -> None:
        """The last word. `error`: why it ended before its time."""
        with self.database.writing() as session:
            run = session.get_one(MigrationRun, self.run_id)
            run.counts, run.remarks = dict(self.counts), list(self.remarks)
            _end(session, run, error)


@contextmanager
def carried_out(database: SystemDatabase, run_id: UUID) -> Iterator[RunRecorder]:
    """Carry out a run that was asked for: whoever looks sees it running until the block, or this process, ends.

    Raises NoSuchRun, or RunUnderWay if somebody does already, or if this run has ended. What the block raises ends the
    run, and is its error.
    """
    with DatabaseServer(database.url).connect(str(database.url.database)) as connection:
        take = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        if not connection.execute(take, {"name": _LOCK}).scalar_one():
            raise RunUnderWay
        with database.writing() as session:
            run = session.get(MigrationRun, run_id, with_for_update=True)
            if run is None:
                raise NoSuchRun(run_id)
            if not run.open or run.began_at is not None:
                raise RunUnderWay
            run.began_at = run.told_at = _now(session)
            recorder = RunRecorder(database, run_id, RunRequest(tuple(run.accounts), **run.options), run.actor)
        try:
            yield recorder
        except (TenancyError, SystemRefusal) as error:
            recorder.end(str(error))
            raise
        except KeyboardInterrupt:
            recorder.end(STOPPED)
            raise
        except BaseException:
            recorder.end("It ended in a way that nobody foresaw; the log of whoever carried it out says more.")
            raise
        recorder.end(None)  # before the lock is let go, so that nobody takes it for stopped


def _state(session: Session, run: MigrationRun) -> RunState:
    if run.open and run.began_at is not None and not _is_held(session):
        session.refresh(run)  # it may have ended since it was read
        return RunState.STOPPED if run.open else _end_state(run)
    if not run.open:
        return _end_state(run)
    if run.began_at is not None:
        return RunState.RUNNING
    late = datetime.now(UTC) - run.asked_at > timedelta(seconds=START_SECONDS)
    return RunState.STOPPED if late else RunState.STARTING


def _end_state(run: MigrationRun) -> RunState:
    if run.error == STOPPED:
        return RunState.STOPPED
    failed = run.error or run.counts.get(str(MigrationOutcome.FAILED)) or run.counts.get(str(MigrationOutcome.SKIPPED))
    return RunState.FAILED if failed else RunState.DONE


def _end_stopped(session: Session) -> None:
    """Make room for another run, unless one goes on. Raises RunUnderWay."""
    run = session.scalars(select(MigrationRun).where(MigrationRun.open.is_(True)).with_for_update()).first()
    if run is None:
        return
    if _state(session, run) in {RunState.STARTING, RunState.RUNNING}:
        raise RunUnderWay
    if run.open:
        _end(session, run, STOPPED)


def _end(session: Session, run: MigrationRun, error: str | None) -> None:
    run.open, run.error, run.ended_at = None, error, _now(session)
    detail = {"asked_by": run.actor, **run.counts, **({} if error is None else {"error": error})}
    operators.record(session, run.actor, "migrations.ended", _only(run), detail)
    session.flush()  # its place is free before the next one takes it


def _only(run: MigrationRun) -> str | None:
    """The account, if it is about one."""
    return run.accounts[0] if len(run.accounts) == 1 else None


def _is_held(session: Session) -> bool:
    # Looked at and not tried: whoever looks keeps nobody from taking it.
    held = text(
        "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND granted AND objsubid = 1"
        " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(:name, 0))"
    )
    return bool(session.execute(held, {"name": _LOCK}).scalar_one())


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(func.now())).scalar_one()
    return now
