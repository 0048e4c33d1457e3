"""What became of each account in a run, in memory and in a file that survives the run."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class MigrationOutcome(StrEnum):
    """What became of one account."""

    CURRENT = "current"  # there was nothing to do, also because an earlier run did it
    PENDING = "pending"  # a dry run: it would be migrated
    MIGRATED = "migrated"
    FAILED = "failed"
    SKIPPED = "skipped"  # the run ended before its turn


@dataclass(frozen=True, slots=True)
class AccountResult:
    """One row of the table. `start` is where its database was; `drifted` if its schema is not that of its revision."""

    account: str
    outcome: MigrationOutcome
    start: str | None = None
    end: str | None = None
    seconds: float = 0.0
    drifted: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the steps from `start` to `end` do what they should: shown on a copy of `subject`, an account or a template.

    `fingerprint` is what every database without drift has afterwards.
    """

    start: str
    end: str
    subject: str
    seconds: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """A whole run. Results are in the order in which they came about."""

    target: str
    dry_run: bool
    seconds: float
    proofs: tuple[Proof, ...]
    results: tuple[AccountResult, ...]

    @property
    def counts(self) -> Counter[MigrationOutcome]:
        """How many accounts had which outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def succeeded(self) -> bool:
        """Whether every account is at the target, or in a dry run could be."""
        return not {MigrationOutcome.FAILED, MigrationOutcome.SKIPPED} & set(self.counts)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Accounts that were migrated but do not have the schema of the target, most likely since before the run."""
        return tuple(result.account for result in self.results if result.drifted)


Record = Callable[[AccountResult], None]


@contextmanager
def recording(path: Path | None, target: str, accounts: int) -> Iterator[Record]:
    """Write a line of JSON per result to `path`, each at once: what a killed run has done can be read afterwards."""
    if path is None:
        yield lambda _: None
        return
    with path.open("w", encoding="utf-8", buffering=1) as file:
        file.write(json.dumps({"target": target, "accounts": accounts}) + "\n")
        yield lambda result: print(json.dumps(asdict(result)), file=file)
