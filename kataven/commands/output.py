"""Output of commands: tables, JSON for scripts, and one-line errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click
from flask import Flask, current_app
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from kataven.account.errors import AccountError
from kataven.identity.errors import VerifierUnavailable
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.system.database import pooler_problem
from kataven.system.errors import SystemDatabaseUnavailable, SystemRefusal
from kataven.tenancy.error_classification import fault_of, in_words
from kataven.tenancy.errors import TenancyError

P = ParamSpec("P")
R = TypeVar("R")

_NOT_CONFIGURED = "kataven-not-configured"


@dataclass(frozen=True, slots=True)
class NotConfigured:
    """The configuration problems of an application whose commands can only print their help."""

    problems: tuple[str, ...]

    def attach(self, app: Flask) -> None:
        app.extensions[_NOT_CONFIGURED] = self

    def __str__(self) -> str:
        listed = "".join(f"\n  {problem}" for problem in self.problems)
        return (
            f"The configuration is invalid:{listed}\nEvery setting is described in docs/configuration.md. In a "
            "checkout, `make run` creates a configuration; while it runs, commands in the same folder use it."
        )


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "Nothing to show.") -> None:
    """Print rows with the same fields as a table, or as a JSON array. Without rows, prints `empty`."""
    if as_json:
        click.echo(json.dumps(list(rows), default=str, indent=2))
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console().print(table)


def print_fields(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print fields, one per line, or as a JSON object."""
    if as_json:
        click.echo(json.dumps(dict(fields), default=str, indent=2))
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; 200 columns if the output is not a terminal."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=200)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn expected errors into one line on standard error and exit status 1."""
    not_configured: NotConfigured | None = current_app.extensions.get(_NOT_CONFIGURED) if current_app else None
    if not_configured is not None:
        raise click.ClickException(str(not_configured))
    try:
        yield
    except (AccountError, SystemRefusal, TenancyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except RevocationUnconfirmed as error:
        raise click.ClickException(
            "The change was saved, but the system database is unavailable, so it could not be confirmed that every "
            "worker has applied it. Run `flask revocation flush` until it shows a receipt."
        ) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'A file'}: {error.strerror or error}") from error
    except DBAPIError as error:
        if fault_of(error) is None:
            raise
        raise click.ClickException(f"A database server is unavailable: {in_words(error)}") from error
    except SystemDatabaseUnavailable as error:
        reason = pooler_problem(error)
        why = f": {reason}." if reason else ". Check KATAVEN_DATABASE_URL."
        raise click.ClickException(f"The system database is unavailable{why}") from error
    except VerifierUnavailable as error:
        raise click.ClickException(str(error)) from error


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command with `reported_errors`."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with reported_errors():
            return command(*args, **kwargs)

    return run
