"""Search every model, and every model without one rule.

python -m proof            search, and compare the counterexamples with those that the tests replay
python -m proof --write    search, and write them
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from proof.catalog import MODELS, MUTANTS, Model, Mutant
from proof.spin import CannotProve, Verdict, find_tools, search

TRACES = Path(__file__).resolve().parents[1] / "tests" / "revocation" / "traces"


def main() -> int:
    try:
        find_tools()
        failures = [*check_models(), *check_mutants(write="--write" in sys.argv[1:])]
    except CannotProve as error:
        print(f"proof: {error}", file=sys.stderr)
        return 1
    for failure in failures:
        print(f"proof: {failure}", file=sys.stderr)
    return 1 if failures else 0


def check_models() -> list[str]:
    print(f"{'model':<9} {'bounds':<50} {'states':>11} {'seconds':>8}  result", flush=True)
    failures = []
    for model in MODELS:
        verdict = _search(model)
        result = "VIOLATED" if verdict.violated else "holds"
        print(f"{model.file:<9} {model.bounds:<50} {verdict.states:>11,} {verdict.seconds:>8.1f}  {result}", flush=True)
        if verdict.violated:
            print("".join(f"    {step}\n" for step in verdict.steps), flush=True)
            failures.append(f"{model.file} ({model.bounds}) is violated; the steps are above")
    return failures


def check_mutants(*, write: bool) -> list[str]:
    print(f"\n{'model':<9} {'without the rule':<50} {'states':>11} {'seconds':>8}  steps to the violation", flush=True)
    failures = []
    for mutant in MUTANTS:
        verdict = _search(mutant)
        found = str(len(verdict.steps) or verdict.length) if verdict.violated else "NOT FOUND"
        print(f"{mutant.file:<9} {mutant.rule:<50} {verdict.states:>11,} {verdict.seconds:>8.1f}  {found}", flush=True)
        if not verdict.violated:
            failures.append(
                f"{mutant.file} without the rule '{mutant.rule}' is not violated: the search proves nothing"
            )
        elif mutant.replayed and (stale := _compare(mutant, verdict, write=write)):
            failures.append(stale)
    return failures


def _search(what: Model | Mutant) -> Verdict:
    mutant = isinstance(what, Mutant)
    defines = (*what.defines, what.macro) if isinstance(what, Mutant) else what.defines
    with tempfile.TemporaryDirectory() as folder:
        return search(what.file, defines, Path(folder), liveness=what.liveness, shortest=mutant)


def _compare(mutant: Mutant, verdict: Verdict, *, write: bool) -> str | None:
    """The counterexample that tests/revocation/test_counterexamples.py replays."""
    path = TRACES / f"{mutant.file}-{mutant.rule.replace(' ', '-')}.txt"
    text = "".join(f"{step}\n" for step in verdict.steps)
    if write:
        TRACES.mkdir(exist_ok=True)
        path.write_text(text)
    if path.exists() and path.read_text() == text:
        return None
    return f"{path.name} is not what the search finds; run `python -m proof --write` and the tests that replay it"


if __name__ == "__main__":
    sys.exit(main())
