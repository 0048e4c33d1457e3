"""Running SPIN: from a model and its macros to a verdict and, for a violation, the steps that lead to it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).resolve().parent / "models"
MEMORY_MEGABYTES = 4_000
SECONDS = 900
"""A search that takes longer is stopped, and counts as failed. On one idle core none takes three minutes."""


class CannotProve(Exception):
    """A tool is missing, a model does not compile, or a search did not finish."""


@dataclass(frozen=True, slots=True)
class Verdict:
    violated: bool
    states: int
    seconds: float
    steps: tuple[str, ...]
    """For a violation, what happens until then."""
    length: int
    """Of the whole trail, in transitions of the model; a cycle counts once."""


def find_tools() -> str:
    """The C compiler. Raises CannotProve if it, or SPIN, is not installed."""
    compiler = next(filter(shutil.which, ("gcc", "cc", "clang")), None)
    missing = [name for name, found in (("spin", shutil.which("spin")), ("gcc", compiler)) if not found]
    if missing or compiler is None:
        raise CannotProve(f"{' and '.join(missing)} not found. Install with: apt-get install {' '.join(missing)}")
    return compiler


def search(file: str, defines: Sequence[str], folder: Path, *, liveness: bool, shortest: bool) -> Verdict:
    """Search every state. `shortest`: breadth first, so that the steps to a violation are as few as possible."""
    for model in MODELS.glob("*.pml"):
        shutil.copy(model, folder)
    macros = [f"-D{define}" for define in defines]
    _run(["spin", "-a", *macros, f"{file}.pml"], folder)
    # Without partial-order reduction: the processes have `provided` clauses, with which it is not sound.
    how = ["-DNFAIR=3"] if liveness else ["-DSAFETY", "-DBFS"] if shortest else ["-DSAFETY", "-DCOLLAPSE"]
    options = ["-w", "-O2", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MEGABYTES}", "-DVECTORSZ=2048", *how]
    _run([find_tools(), *options, "-o", "pan", "pan.c"], folder)
    started = time.monotonic()
    found = _run(["./pan", "-m3000000", *(["-a", "-f"] if liveness else ["-E"])], folder)
    trail = folder / f"{file}.pml.trail"
    return Verdict(
        violated=_number(r"errors: (\d+)", found) > 0,
        states=_number(r"(\d+) states, stored", found),
        seconds=time.monotonic() - started,
        steps=_steps(file, macros, folder) if trail.exists() else (),
        length=len(trail.read_text().splitlines()) if trail.exists() else 0,
    )


def _steps(file: str, macros: Sequence[str], folder: Path) -> tuple[str, ...]:
    replayed = _run(["spin", "-t", *macros, f"{file}.pml"], folder)
    return tuple(re.findall(r"STEP (\w+ \d+ \w+)", replayed))


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None or "max search depth too small" in text or "reached -DMEMLIM" in text:
        raise CannotProve(f"the search did not finish:\n{text[-2_000:]}")
    return int(found[1])


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        # SPIN's and the compiler's own programs, with arguments from catalog.py.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotProve(f"{command[0]} did not finish in {SECONDS} s") from error
    if done.returncode:
        raise CannotProve(f"{' '.join(command)} failed:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return done.stdout
