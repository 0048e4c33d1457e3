"""How commands speak: tables for people, JSON for scripts, one line for what went wrong."""

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
from kataven.system.errors import SystemDatabaseUnavailable, SystemRefusal
from kataven.tenancy.error_classification import fault_of, in_words
from kataven.tenancy.errors import TenancyError

P = ParamSpec("P")
R = TypeVar("R")

_NOT_CONFIGURED = "kataven-not-configured"


@dataclass(frozen=True, slots=True)
class NotConfigured:
    """Why the commands of an application can't be run, only read about."""

    problems: tuple[str, ...]

    def attach(self, app: Flask) -> None:
        app.extensions[_NOT_CONFIGURED] = self

    def __str__(self) -> str:
        listed = "".join(f"\n  {problem}" for problem in self.problems)
        return (
            f"The configuration can't be used:{listed}\ndocs/configuration.md describes every setting. In a checkout, "
            "`make run` brings a configuration of its own; while it runs, commands in the same folder use it."
        )


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "Nothing here yet.") -> None:
    """Rows with the same fields, as a table or as a JSON array."""
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


def show_one(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing's fields, a line each, or as a JSON object."""
    if as_json:
        click.echo(json.dumps(dict(fields), default=str, indent=2))
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for any table when there is none."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=200)


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What is foreseen to go wrong is one line on standard error and exit status 1."""
    not_configured: NotConfigured | None = current_app.extensions.get(_NOT_CONFIGURED) if current_app else None
    if not_configured is not None:
        raise click.ClickException(str(not_configured))
    try:
        yield
    except (AccountError, SystemRefusal, TenancyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except RevocationUnconfirmed as error:
        raise click.ClickException(
            "The change was saved, but the system database can't be reached to confirm that every worker has applied "
            "it. Run `flask revocation flush` until it shows a receipt."
        ) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'A file'}: {error.strerror or error}") from error
    except DBAPIError as error:
        if fault_of(error) is None:
            raise
        raise click.ClickException(f"A database server can't answer: {in_words(error)}") from error
    except SystemDatabaseUnavailable as error:
        raise click.ClickException("The system database can't be reached; see KATAVEN_DATABASE_URL.") from error
    except VerifierUnavailable as error:
        raise click.ClickException(str(error)) from error


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Decorates a command with `plain_errors`."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with plain_errors():
            return command(*args, **kwargs)

    return run
