"""Output of commands: tables, JSON for scripts, and one-line errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from kataven.commands.context import current

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool, empty: str = "Nothing to show.") -> None:
    """Print rows with the same fields as a table, or as a JSON array. Without rows, prints `empty`."""
    if as_json:
        _print_json_rows(rows)
        return
    fields: list[str] = []
    cells = []
    for row in rows:
        fields = fields or list(row)
        cells.append([printable(value) for value in row.values()])
    if not cells:
        click.echo(empty)
        return
    from kataven.commands.table import print_table

    print_table([field.replace("_", " ") for field in fields], cells)


def _print_json_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print an array, as `print_json` does, row by row."""
    opened = False
    for row in rows:
        text = json.dumps(row, default=str, indent=2).replace("\n", "\n  ")  # a string has no line break in JSON
        sys.stdout.write(f"{',' if opened else '['}\n  {text}")
        opened = True
    click.echo("\n]" if opened else "[]")


def print_fields(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print fields, one per line, or as a JSON object."""
    if as_json:
        print_json(dict(fields))
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {printable(value)}")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=str, indent=2))


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; 200 columns if the output is not a terminal."""
    from rich.console import Console

    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=200)


def printable(value: Any) -> str:
    """The value without control characters: names come from customers, and a terminal would execute them."""
    if value is None:
        return "-"
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value)) or "-"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(character for character in text if character.isprintable() or character == "\n")


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn expected errors into one line on standard error and exit status 1. Raises NotConfigured first."""
    context = current()
    _ = context.settings
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        from kataven.commands.error_messages import message_of  # its imports are needed only now

        message = message_of(error, context.program)
        if message is None:
            raise
        raise click.ClickException(message) from error


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command with `reported_errors`."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with reported_errors():
            return command(*args, **kwargs)

    return run
