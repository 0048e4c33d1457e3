"""Migration runs over the accounts' schemas, recorded in the system database so that every process can read them.

A run is first requested, and then executed by the requesting process or by a separate one. The executing process holds
an advisory lock on its own connection to the system database; PostgreSQL releases the lock when the process ends,
however it ends. A run that is `running` while no process holds the lock has crashed. Its migrated accounts remain
migrated; the next run continues with the others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from kataven.system import accounts, operators
from kataven.system.database import SystemDatabase
from kataven.system.errors import NoSuchRun, RunUnderWay, SystemRefusal, SystemSchemaBehind
from kataven.system.models import MigrationRun, RunState
from kataven.system.schema import ACCOUNT_SCHEMA, system_has, system_revision
from kataven.tenancy.errors import TenancyError
from kataven.tenancy.migrations.fleet import RunOptions
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome
from kataven.tenancy.server import DatabaseServer

NEEDED_REVISION = "system_0006"
"""The revision of the system database that added the state of a run."""
START_SECONDS = 60
"""A requested run that has not started after this time is treated as stopped."""
WRITE_INTERVAL_SECONDS = 0.25
MAX_REMARKS = 200
INTERRUPTED = "The run was interrupted."
LIVE = frozenset({RunState.STARTING, RunState.RUNNING})
_LOCK = "account migrations are carried out"  # the previous release uses the same name; both must exclude each other


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The accounts to migrate, and how. Without `accounts`, all accounts are migrated."""

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
    """A run, and its state as `latest` determines it."""

    run: MigrationRun
    state: RunState

    @property
    def live(self) -> bool:
        return self.state in LIVE

    def count(self, *outcomes: MigrationOutcome) -> int:
        return sum(self.run.counts.get(str(outcome), 0) for outcome in outcomes)

    @property
    def done(self) -> int:
        """Accounts that are at the target revision."""
        return self.count(MigrationOutcome.MIGRATED, MigrationOutcome.CURRENT)

    @property
    def failed(self) -> int:
        return self.count(MigrationOutcome.FAILED)

    @property
    def early_end(self) -> str | None:
        """Why the run skipped accounts; None if it did not, or while it is live."""
        return None if self.live else early_end(self.run.counts, self.run.options["max_failures"])

    @property
    def left(self) -> int:
        """Accounts that the run has not reached, or skipped when it ended early."""
        return max(0, (self.run.total or 0) - self.done - self.failed)


def early_end(counts: Mapping[str, int], max_failures: int) -> str | None:
    """Why a run skipped accounts, derived from the number of accounts per outcome; None if it skipped none."""
    failed = counts.get(str(MigrationOutcome.FAILED), 0)
    more = failed - max_failures
    if not counts.get(str(MigrationOutcome.SKIPPED)):
        return None
    if more < 0:
        return "Stopped because a canary failed."
    stopped = f"Stopped after {max_failures} failure{'' if max_failures == 1 else 's'}"
    if not more:
        return f"{stopped}."
    return f"{stopped}; {more} more failed that {'was' if more == 1 else 'were'} in progress."


def request(database: SystemDatabase, actor: str, wanted: RunRequest) -> UUID:
    """Record that a run is to be executed. A run that was stopped is closed first.

    Raises RunUnderWay, NoSuchAccount or SystemSchemaBehind; then nothing is recorded.
    """
    try:
        with database.writing() as session:
            _require_schema(session)
            for name in wanted.accounts:
                accounts.read(session, name)
            _close_stopped(session)
            run = MigrationRun(
                actor=actor,
                accounts=list(wanted.accounts),
                target=ACCOUNT_SCHEMA.head,
                options=wanted.options,
                state=RunState.STARTING,
            )
            session.add(run)
            session.flush()
            detail = {"accounts": run.accounts or "all", **run.options}
            operators.record(session, actor, "migrations.asked", _single_account(run), detail)
            return run.id
    except IntegrityError:  # another process requested a run at the same moment
        raise RunUnderWay from None


def latest(session: Session) -> RunStatus | None:
    """The run that was requested last. None without a run, or if the system database can't record runs yet."""
    if not system_has(session, NEEDED_REVISION):
        return None
    newest = select(MigrationRun).order_by(MigrationRun.asked_at.desc()).limit(1)
    found = session.scalars(newest).first()
    return None if found is None else RunStatus(found, _current_state(session, found))


def cancel(database: SystemDatabase, run_id: UUID, reason: str) -> None:
    """End a requested run that no process has started. Does nothing if the run has started or ended."""
    with database.writing() as session:
        run = session.get(MigrationRun, run_id, with_for_update=True)
        if run is not None and run.state == RunState.STARTING:
            _end(session, run, RunState.FAILED, reason)


@dataclass
class RunRecorder:
    """Records the progress of a run. Not thread-safe."""

    database: SystemDatabase
    run_id: UUID
    request: RunRequest
    actor: str
    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    written_at: float = 0.0

    def set_total(self, total: int) -> None:
        """Record the number of accounts to migrate."""
        self._write(total=total)

    def add(self, result: AccountResult) -> None:
        """Record the result of one account.

        Results are written immediately, except for accounts that were already current. There may be thousands of
        those, so they are written at most every 0.25 s.
        """
        self.counts[str(result.outcome)] += 1
        remarkable = result.outcome is MigrationOutcome.FAILED or result.drifted
        if remarkable and len(self.remarks) < MAX_REMARKS:
            self.remarks.append(asdict(result))
        is_due = time.monotonic() - self.written_at >= WRITE_INTERVAL_SECONDS
        if result.outcome is not MigrationOutcome.CURRENT or is_due:
            self._write()

    def finish(self) -> None:
        """Record that the run has gone over all accounts, or ended early because of failures."""
        incomplete = self.counts[str(MigrationOutcome.FAILED)] or self.counts[str(MigrationOutcome.SKIPPED)]
        self.end(RunState.FAILED if incomplete else RunState.DONE)

    def end(self, state: RunState, error: str | None = None) -> None:
        with self.database.writing() as session:
            run = session.get_one(MigrationRun, self.run_id)
            run.counts, run.remarks = dict(self.counts), list(self.remarks)
            _end(session, run, state, error)

    def _write(self, **more: Any) -> None:
        with self.database.writing() as session:
            run = session.get_one(MigrationRun, self.run_id)
            run.counts, run.remarks, run.progress_at = dict(self.counts), list(self.remarks), _now(session)
            for name, value in more.items():
                setattr(run, name, value)
        self.written_at = time.monotonic()


@contextmanager
def executing(database: SystemDatabase, run_id: UUID) -> Iterator[RunRecorder]:
    """Execute a requested run: it is `running` until the block, or this process, ends.

    Raises NoSuchRun, SystemSchemaBehind, or RunUnderWay if another process executes a run or if this run has already
    started or ended. An error that the block raises ends the run and is recorded.
    """
    with DatabaseServer(database.direct_url).connect(str(database.direct_url.database)) as connection:
        take = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        if not connection.execute(take, {"name": _LOCK}).scalar_one():
            raise RunUnderWay
        with database.writing() as session:
            _require_schema(session)
            run = session.get(MigrationRun, run_id, with_for_update=True)
            if run is None:
                raise NoSuchRun(run_id)
            if run.state != RunState.STARTING:
                raise RunUnderWay
            run.state = RunState.RUNNING
            run.began_at = run.progress_at = _now(session)
            recorder = RunRecorder(database, run_id, RunRequest(tuple(run.accounts), **run.options), run.actor)
        try:
            yield recorder
        except (TenancyError, SystemRefusal) as error:
            recorder.end(RunState.FAILED, str(error))
            raise
        except KeyboardInterrupt:
            recorder.end(RunState.STOPPED, INTERRUPTED)
            raise
        except BaseException:
            recorder.end(RunState.FAILED, "The run failed with an unexpected error. See the log of its process.")
            raise
        recorder.finish()  # before the lock is released: otherwise the run would look crashed for a moment


def _current_state(session: Session, run: MigrationRun) -> RunState:
    """The recorded state of a run; `stopped` if its process crashed or never started and so could not record that."""
    if run.state == RunState.STARTING:
        is_late = datetime.now(UTC) - run.asked_at > timedelta(seconds=START_SECONDS)
        return RunState.STOPPED if is_late else RunState.STARTING
    if run.state == RunState.RUNNING and not _is_process_alive(session):
        session.refresh(run)  # the process may have recorded the end after the run was read
        if run.state == RunState.RUNNING:
            return RunState.STOPPED
    return RunState(run.state)


def _is_process_alive(session: Session) -> bool:
    """Whether a process holds the lock of the run that is being executed.

    A crashed process can't record that it has crashed; only its lock shows it. The lock is looked up in pg_locks rather
    than tried, because a successful try would hold it for a moment, and a run that starts in that moment would fail.
    """
    held = text(
        "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND granted AND objsubid = 1"
        " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(:name, 0))"
    )
    return bool(session.execute(held, {"name": _LOCK}).scalar_one())


def _close_stopped(session: Session) -> None:
    """Close a run that was stopped, so that another can be requested. Raises RunUnderWay if a run is live."""
    run = session.scalars(select(MigrationRun).where(MigrationRun.state.in_(LIVE)).with_for_update()).first()
    if run is None:
        return
    state = _current_state(session, run)
    if state in LIVE:
        raise RunUnderWay
    if run.state in LIVE:
        _end(session, run, RunState.STOPPED, INTERRUPTED)


def _end(session: Session, run: MigrationRun, state: RunState, error: str | None) -> None:
    run.state, run.open, run.error, run.ended_at = state, None, error, _now(session)
    detail = {"asked_by": run.actor, **run.counts, **({} if error is None else {"error": error})}
    operators.record(session, run.actor, "migrations.ended", _single_account(run), detail)
    session.flush()  # the unique constraint on `open` must be free before the next run is inserted


def _require_schema(session: Session) -> None:
    if not system_has(session, NEEDED_REVISION):
        raise SystemSchemaBehind(system_revision(session), NEEDED_REVISION)


def _single_account(run: MigrationRun) -> str | None:
    """The account of a run over one account, for the audit log; None for a run over several."""
    return run.accounts[0] if len(run.accounts) == 1 else None


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(func.now())).scalar_one()
    return now
