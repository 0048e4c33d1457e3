"""The options `--per-minute`, `--concurrent` and so on, one for each limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from kataven.commands.options import Hours, WholeNumber
from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_RAISE_HOURS = 7 * 24
_UNITS = ((1, "seconds"), (60, "minutes"), (3_600, "hours"), (86_400, "days"))


def limit_options(command: Command) -> Command:
    """Add one option for each limit. The command receives the values by the names of `Limits`; None if not given."""
    for name, help_text in reversed(tuple(_options())):
        command = click.option(name, type=WholeNumber(most=MAX_LIMIT), help=help_text)(command)
    return command


def raise_options(command: Command) -> Command:
    """Add `--raise-for` and `--end-raise`. The command receives `raise_for` in hours."""
    for option in (
        click.option("--end-raise", is_flag=True, help="End a temporary raise now."),
        click.option(
            "--raise-for",
            type=Hours(MAX_RAISE_HOURS),
            help="Raise the given limits for this time only, such as 24h or 3d. They then end automatically.",
        ),
    ):
        command = option(command)
    return command


def _options() -> Iterator[tuple[str, str]]:
    """Each option with its help text. The windows ascend, so each limit must be at least that of the window before."""
    shorter = ""
    for limit in LIMIT_FIELDS:
        if not limit.seconds:
            yield limit.option, "Maximum requests in flight at the same time."
            continue
        at_least = f"; at least {shorter}" if shorter else ""
        yield limit.option, f"Maximum requests in any {_duration(limit.seconds)}{at_least}."
        shorter = limit.option


def _duration(seconds: int) -> str:
    """In the largest unit that is shorter: `60 minutes`, `24 hours`."""
    size, unit = max(pair for pair in _UNITS if pair[0] < seconds)
    return f"{seconds // size} {unit}"
