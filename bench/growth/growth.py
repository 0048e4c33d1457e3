"""A quantity that grows, what is measured at each size, and the growth that is stated for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

TIMES = 9


class Growth(Enum):
    """How a cost depends on the size. The values are the largest ratio of the costs at two sizes, given their ratio."""

    CONSTANT = "constant"
    """The cost of a page: an index look-up, whose depth grows by a level or two."""
    LINEAR = "per item"
    """The cost of a command that prints each item, of a search in texts, or of a receipt that waits for each worker."""

    def most(self, size_ratio: float) -> float:
        """The largest ratio of costs. Up to 2.5 is noise, colder caches and a deeper index."""
        return 2.5 if self is Growth.CONSTANT else 2.5 * size_ratio


@dataclass(frozen=True, slots=True)
class Measure:
    """One operation. `run` raises AssertionError if its result is not the expected one."""

    label: str
    run: Callable[[], object]
    growth: Growth = Growth.CONSTANT
    times: int = TIMES


@dataclass(frozen=True, slots=True)
class Quantity:
    """What grows. `grow` brings it to a size; `measures` returns the same labels at each size."""

    what: str
    sizes: Sequence[int]
    grow: Callable[[int], None]
    measures: Callable[[int], Sequence[Measure]]


def run(quantity: Quantity) -> Iterator[bool]:
    """Measure at each size and print a table. Yields whether each measure grows as stated."""
    costs: dict[str, list[float]] = {}
    stated: dict[str, Growth] = {}
    for size in quantity.sizes:
        quantity.grow(size)
        for measure in quantity.measures(size):
            costs.setdefault(measure.label, []).append(_milliseconds(measure))
            stated[measure.label] = measure.growth
    smallest, largest = quantity.sizes[0], quantity.sizes[-1]
    print(f"\n{quantity.what}, in milliseconds\n")
    print(f"  {'':<52}" + "".join(f"{size:>11,}" for size in quantity.sizes) + f"{'ratio':>9}   at most")
    for label, taken in costs.items():
        ratio, most = taken[-1] / taken[0], stated[label].most(largest / smallest)
        verdict = "" if ratio <= most else "   WORSE"
        print(
            f"  {label:<52}"
            + "".join(f"{milliseconds:>11.2f}" for milliseconds in taken)
            + f"{ratio:>9.2f}   {most:,.1f} ({stated[label].value}){verdict}",
            flush=True,
        )
        yield ratio <= most


def _milliseconds(measure: Measure) -> float:
    """The fastest of several runs: other processes on the machine only add to it."""
    fastest = math.inf
    measure.run()  # connections, prepared statements and caches
    for _ in range(measure.times):
        started_at = time.perf_counter()
        measure.run()
        fastest = min(fastest, time.perf_counter() - started_at)
    return fastest * 1000
