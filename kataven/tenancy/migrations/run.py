"""One migration run: find the accounts that are behind, render and test the steps, then migrate each account."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from kataven.tenancy.dialect import server_key
from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import fault_of, in_words
from kataven.tenancy.errors import MigrationError, VerificationFailed
from kataven.tenancy.migrations.apply import Applier
from kataven.tenancy.migrations.parallel import each
from kataven.tenancy.migrations.proof import prove
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome, MigrationReport, Proof, Record
from kataven.tenancy.migrations.steps import Step, lock, render
from kataven.tenancy.schema import SchemaState
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run. The first `canaries` accounts are migrated first, and all of them must succeed.

    After `max_failures` failed accounts, no further account starts. A dry run does everything except changing accounts.
    """

    target: str | None = None
    jobs: int = 8
    canaries: int = 1
    max_failures: int = 5
    dry_run: bool = False
    report_file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Behind:
    """An account with pending steps."""

    tenant: Tenant
    start: str

    @property
    def proof_key(self) -> tuple[object, str]:
        """The server and the starting revision: accounts with the same key need one test of the steps."""
        return server_key(self.tenant.url), self.start


class MigrationRunner:
    """One run and its state."""

    def __init__(self, applier: Applier, target: str, options: RunOptions, listeners: Sequence[Record]) -> None:
        self._applier = applier
        self._schema = applier.schema
        self._target = target
        self._options = options
        self._listeners = listeners
        self._results: list[AccountResult] = []
        self._proofs: dict[tuple[object, str], Proof] = {}
        self._steps: dict[str, Step] = {}
        self._counting = threading.Lock()
        self._failures = 0
        self._stopped = False

    def over(self, tenants: Sequence[Tenant]) -> MigrationReport:
        """Run the migration. Raises MigrationError if the steps fail on the copy; then no account was changed."""
        started = time.monotonic()
        behind = self._find_behind(tenants)
        if behind and not self._stopped:
            behind = self._prepare(behind)
        if self._options.dry_run and not self._stopped:
            for account in behind:
                self._report(
                    AccountResult(account.tenant.account, MigrationOutcome.PENDING, account.start, self._target)
                )
        else:
            self._migrate_canaries_first(behind)
        seconds = time.monotonic() - started
        proofs = tuple(self._proofs.values())
        return MigrationReport(self._target, self._options.dry_run, seconds, proofs, tuple(self._results))

    def _migrate_canaries_first(self, behind: Sequence[_Behind]) -> None:
        canaries, others = behind[: self._options.canaries], behind[self._options.canaries :]
        failures = self._failures
        moved = self._migrate_all(canaries)
        self._stopped = self._stopped or self._failures > failures
        moved += self._migrate_all(others)
        while moved:
            try:
                moved = self._migrate_all(self._prepare(moved))
            except MigrationError as error:
                self._fail(moved, error)
                break

    def _find_behind(self, tenants: Sequence[Tenant]) -> list[_Behind]:
        """The accounts with pending steps. Reports those that are current or that failed."""
        behind = {}
        for tenant, found in self._each(self._locate, tenants):
            if isinstance(found, _Behind):
                behind[tenant.account] = found
            else:
                self._report(found or AccountResult(tenant.account, MigrationOutcome.SKIPPED))
        return [behind[tenant.account] for tenant in tenants if tenant.account in behind]

    def _locate(self, tenant: Tenant) -> _Behind | AccountResult:
        """The tenant's revision, from the directory if possible; `_apply` reads it from the database."""
        try:
            start = tenant.revision
            if start not in self._schema.revisions or start == self._target:
                with self._applier.connect(tenant) as connection:
                    start = self._schema.revision_of(connection)
            if start == self._target:
                return AccountResult(tenant.account, MigrationOutcome.CURRENT, start, start)
            return self._behind(tenant, start)
        except (MigrationError, DBAPIError) as error:
            return AccountResult(tenant.account, MigrationOutcome.FAILED, error=in_words(error))

    def _behind(self, tenant: Tenant, start: str | None) -> _Behind:
        if start is None:
            raise MigrationError("the database has no schema: it was not created from a template")
        self._schema.path(start, self._target)
        return _Behind(tenant, start)

    def _prepare(self, behind: Sequence[_Behind]) -> list[_Behind]:
        """Render the steps once, and test them once per server and start. Returns the accounts with tested steps.

        If a server is unavailable, each of its accounts fails. If the steps fail on a copy, the run ends.
        """
        oldest = min((account.start for account in behind), key=self._schema.revisions.index)
        self._steps.update(render(self._schema, oldest, self._target))
        for key in dict.fromkeys(account.proof_key for account in behind if account.proof_key not in self._proofs):
            accounts = [account for account in behind if account.proof_key == key]
            try:
                self._proofs[key] = self._prove(key[1], [account.tenant for account in accounts])
            except MigrationError:
                raise
            except Exception as error:  # a revision can raise any error
                fault = fault_of(error) if isinstance(error, DBAPIError) else None
                if fault is None or not fault.is_down:
                    raise MigrationError(f"the steps from {key[1]} failed on a copy: {in_words(error)}") from error
                self._fail(accounts, error)
        return [account for account in behind if account.proof_key in self._proofs]

    def _prove(self, start: str, tenants: Sequence[Tenant]) -> Proof:
        server = DatabaseServer(tenants[0].url)
        return prove(server, Templates(server, self._schema), self._applier, tenants, self._steps_from(start))

    def _steps_from(self, start: str) -> list[Step]:
        return [self._steps[revision] for revision in self._schema.path(start, self._target)]

    def _migrate_all(self, behind: Sequence[_Behind]) -> list[_Behind]:
        """Migrate these accounts. Returns those that are at another revision than expected, for another round."""
        moved = []
        for account, result in self._each(self._migrate, behind):
            if isinstance(result, _Behind):
                moved.append(result)
            else:
                self._report(result or AccountResult(account.tenant.account, MigrationOutcome.SKIPPED, account.start))
        return moved

    def _migrate(self, account: _Behind) -> AccountResult | _Behind:
        started, name = time.monotonic(), account.tenant.account
        try:
            after = self._apply(account)
        except Exception as error:  # any error of a revision fails this account and does not end the run
            seconds = time.monotonic() - started
            return AccountResult(name, MigrationOutcome.FAILED, account.start, None, seconds, error=in_words(error))
        if isinstance(after, _Behind):
            return after
        if after is None:
            return AccountResult(name, MigrationOutcome.CURRENT, self._target, self._target)
        drifted = after.fingerprint != self._proofs[account.proof_key].fingerprint
        seconds = time.monotonic() - started
        return AccountResult(name, MigrationOutcome.MIGRATED, account.start, after.revision, seconds, drifted)

    def _apply(self, account: _Behind) -> SchemaState | _Behind | None:
        """Apply the steps and return the resulting state; None if the database is already at the target."""
        with self._applier.connect(account.tenant) as connection:
            lock(connection)
            start = self._schema.revision_of(connection)
            connection.rollback()
            if start == self._target:
                return None
            if start != account.start:
                return self._behind(account.tenant, start)
            self._applier.apply(account.tenant, connection, self._steps_from(start))
            after = self._schema.state(connection)
        if after.revision != self._target:
            raise VerificationFailed(f"after its migration, the database is at {after.revision}")
        return after

    def _fail(self, accounts: Sequence[_Behind], error: Exception) -> None:
        for account in accounts:
            result = AccountResult(
                account.tenant.account, MigrationOutcome.FAILED, account.start, error=in_words(error)
            )
            self._count(result)
            self._report(result)

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | None]]:
        """Each item with the result of `work`, in order of completion; None for items after the run stopped."""
        return each(self._options.jobs, lambda item: self._unless_stopped(work, item), items)

    def _unless_stopped(self, work: Callable[[T], R], item: T) -> R | None:
        if self._stopped:
            return None
        result = work(item)
        if isinstance(result, AccountResult):
            self._count(result)
        return result

    def _count(self, result: AccountResult) -> None:
        """Called in the thread that produced the result, so that no account starts after the last allowed failure."""
        if result.outcome is MigrationOutcome.FAILED:
            with self._counting:
                self._failures += 1
                self._stopped = self._stopped or self._failures >= self._options.max_failures

    def _report(self, result: AccountResult) -> None:
        self._results.append(result)
        for listener in self._listeners:
            listener(result)
