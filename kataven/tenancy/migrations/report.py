"""The results of a migration run, in memory and in a file that remains if the run is killed."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class MigrationOutcome(StrEnum):
    """The result for one account."""

    CURRENT = "current"  # already at the target
    PENDING = "pending"  # dry run: it would be migrated
    MIGRATED = "migrated"
    FAILED = "failed"
    SKIPPED = "skipped"  # the run ended before its turn


@dataclass(frozen=True, slots=True)
class AccountResult:
    """One account's result. `start`: its revision before the run. `drifted`: its schema differs from its revision's."""

    account: str
    outcome: MigrationOutcome
    start: str | None = None
    end: str | None = None
    seconds: float = 0.0
    drifted: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """A successful test of the steps from `start` to `end` on a copy of `subject`, an account or a template.

    `fingerprint` is the expected fingerprint of every migrated database.
    """

    start: str
    end: str
    subject: str
    seconds: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """The report of a run. Results are in order of completion."""

    target: str
    dry_run: bool
    seconds: float
    proofs: tuple[Proof, ...]
    results: tuple[AccountResult, ...]

    @property
    def counts(self) -> Counter[MigrationOutcome]:
        """The number of accounts by outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def succeeded(self) -> bool:
        """Whether every account is at the target, or would be after a dry run."""
        return not {MigrationOutcome.FAILED, MigrationOutcome.SKIPPED} & set(self.counts)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Migrated accounts whose schema differs from the target's, most likely since before the run."""
        return tuple(result.account for result in self.results if result.drifted)


Record = Callable[[AccountResult], None]


@contextmanager
def recording(path: Path | None, target: str, accounts: int) -> Iterator[Record]:
    """Write a line of JSON per result to `path` without delay, so that the results of a killed run are available."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", encoding="utf-8", buffering=1) as file:
        file.write(json.dumps({"target": target, "accounts": accounts}) + "\n")
        yield lambda result: print(json.dumps(asdict(result)), file=file)
