"""What became of each account in a run, in memory and in a file that survives the run."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """What became of one account."""

    CURRENT = "current"  # there was nothing to do, also because an earlier run did it
    PENDING = "pending"  # a dry run: it would be migrated
    MIGRATED = "migrated"
    FAILED = "failed"
    SKIPPED = "skipped"  # the run ended before its turn


@dataclass(frozen=True, slots=True)
class AccountResult:
    """One row of the table. `drifted` if its schema was not what its revision says, before it was touched."""

    account: str
    outcome: Outcome
    start: str | None = None
    end: str | None = None
    seconds: float = 0.0
    drifted: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the steps from `start` to `end` do what they should: shown on a copy of `subject`, an account or a template.

    The fingerprints are what a database without drift has before and after.
    """

    start: str
    end: str
    subject: str
    seconds: float
    start_fingerprint: str
    end_fingerprint: str


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run. Results are in the order in which they came about."""

    target: str
    dry_run: bool
    seconds: float
    proofs: tuple[Proof, ...]
    results: tuple[AccountResult, ...]

    @property
    def counts(self) -> Counter[Outcome]:
        """How many accounts had which outcome."""
        return Counter(result.outcome for result in self.results)

    @property
    def succeeded(self) -> bool:
        """Whether every account is where it should be; decides the exit code."""
        return not {Outcome.FAILED, Outcome.SKIPPED} & set(self.counts)


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
