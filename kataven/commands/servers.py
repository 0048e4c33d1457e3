"""`kataven servers …`: manage the PostgreSQL servers that accounts are placed on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

import click

from kataven.commands.context import ACTOR, current
from kataven.commands.output import as_json, print_fields, print_rows, report_errors

if TYPE_CHECKING:
    from kataven.system.addresses import ServerAddress
    from kataven.system.database import SystemDatabase
    from kataven.system.models import RegisteredServer
    from kataven.system.suitability import Replication

group = click.Group("servers", help="Manage the PostgreSQL servers that accounts are placed on.")

force_option = click.option("--force", is_flag=True, help="Proceed even if no other server accepts new accounts.")


P = ParamSpec("P")


def address_options(command: Callable[P, None]) -> Callable[P, None]:
    """The options that say where the URLs of a server are read from."""
    for option in (
        click.option("--direct-url-env", metavar="VARIABLE", help="Read the direct URL from this variable."),
        click.option(
            "--direct-url",
            is_flag=True,
            help="The URL leads to a connection pooler: read the URL of PostgreSQL itself from the next line.",
        ),
        click.option("--url-env", metavar="VARIABLE", help="Read the URL from this environment variable."),
        click.option("--url-file", type=click.File(), help="Read the URL from this file's first line; - for stdin."),
    ):
        command = option(command)
    return command


@group.command("add")
@click.argument("name")
@address_options
@as_json
@report_errors
def add(
    name: str, url_file: Any, url_env: str | None, direct_url: bool, direct_url_env: str | None, as_json: bool
) -> None:
    """Add the server NAME, so that accounts can be placed on it.

    The command prompts for the URL, postgresql://user@host:5432. If standard input is not a terminal, it reads the URL
    from there. The URL is not an argument, because every user of the machine can read those. It must not contain a
    password: on every host, libpq reads it from the file named by PGPASSFILE. The command connects to the server and
    refuses it if it can't hold accounts. For a server with replicas, list all hosts, so that the workers find the
    primary after a failover: postgresql://user@?host=db1:5432&host=db2:5432&target_session_attrs=read-write

    If the URL leads to a connection pooler such as PgBouncer, pass --direct-url, and give the URL of PostgreSQL itself
    after it: at the prompt, on the next line, or with --direct-url-env.
    """
    from kataven.system import servers

    address = _given_address(url_file, url_env, direct_url=direct_url, direct_url_env=direct_url_env)
    _report_replication(servers.add(_database(), name, address.url, direct_url=address.direct, actor=ACTOR))
    _show(name, as_json)


@group.command("address")
@click.argument("name")
@address_options
@as_json
@report_errors
def address(
    name: str, url_file: Any, url_env: str | None, direct_url: bool, direct_url_env: str | None, as_json: bool
) -> None:
    """Change how the server NAME is reached, for example after a connection pooler was placed in front of it.

    The URLs are read as in `add`, and must lead to the same server as before. Workers use them within 30 s.
    """
    from kataven.system import servers

    with _database().reading() as session:
        servers.read(session, name)  # before the prompt
    given = _given_address(url_file, url_env, direct_url=direct_url, direct_url_env=direct_url_env)
    _report_replication(servers.change_address(_database(), name, given.url, direct_url=given.direct, actor=ACTOR))
    _show(name, as_json)


def _report_replication(replication: Replication) -> None:
    if replication.warning:
        click.echo(f"Warning: {replication.warning}", err=True)
    else:
        state = "on" if replication.synchronous else "off; the server has no standbys"
        click.echo(f"Synchronous replication is {state}.", err=True)


@group.command("list")
@as_json
@report_errors
def list_servers(as_json: bool) -> None:
    """List all servers and the number of accounts on each."""
    print_rows(_rows(), as_json=as_json, empty=f"No servers yet. Run: {current().program} migrations upgrade --system")


@group.command("drain")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Place new accounts on it again, like `resume`.")
@force_option
@as_json
@report_errors
def drain(name: str, undo: bool, force: bool, as_json: bool) -> None:
    """Stop placing new accounts on the server NAME. Its existing accounts remain there and are served."""
    from kataven.system import servers

    servers.drain(_database(), name, draining=not undo, actor=ACTOR, force=force)
    _show(name, as_json)


@group.command("resume")
@click.argument("name")
@as_json
@report_errors
def resume(name: str, as_json: bool) -> None:
    """Place new accounts on the server NAME again."""
    from kataven.system import servers

    servers.drain(_database(), name, draining=False, actor=ACTOR)
    _show(name, as_json)


@group.command("remove")
@click.argument("name")
@force_option
@as_json
@report_errors
def remove(name: str, force: bool, as_json: bool) -> None:
    """Remove the server NAME from the list. It must not hold accounts; the server itself is not changed."""
    from kataven.system import servers

    servers.remove(_database(), name, actor=ACTOR, force=force)
    if as_json:
        print_fields({"removed": name}, as_json=True)
    else:
        click.echo(f"Removed {name} from the list.")


def _given_address(
    url_file: Any, url_env: str | None, *, direct_url: bool, direct_url_env: str | None
) -> ServerAddress:
    from kataven.system.addresses import ServerAddress
    from kataven.system.suitability import server_url

    url = server_url(_given_url(url_file, url_env))
    if direct_url_env is not None:
        return ServerAddress(url, server_url(_given_url(None, direct_url_env)))
    if not direct_url:
        return ServerAddress(url)
    if url_env is not None:
        raise click.UsageError("With --url-env, pass --direct-url-env instead of --direct-url.")
    prompt = "URL of PostgreSQL itself (postgresql://user@host:5432)"
    return ServerAddress(url, server_url(_given_url(url_file, None, prompt)))


def _given_url(url_file: Any, url_env: str | None, prompt: str = "URL (postgresql://user@host:5432)") -> str:
    if url_file is not None and url_env is not None:
        raise click.UsageError("Pass either --url-file or --url-env, not both.")
    if url_env is not None:
        if not os.environ.get(url_env):
            raise click.UsageError(f"The environment variable {url_env} is not set.")
        return os.environ[url_env]
    if url_file is not None:
        return str(url_file.readline())
    standard_input = _standard_input()
    if standard_input.isatty():
        # Hidden, because a pasted URL may contain a password.
        return str(click.prompt(prompt, hide_input=True))
    return standard_input.readline()


def _standard_input() -> TextIO:
    return sys.stdin


def _show(name: str, as_json: bool) -> None:
    print_fields(next(row for row in _rows() if row["server"] == name), as_json=as_json)


def _rows() -> list[dict[str, Any]]:
    from kataven.system import servers

    database = _database()
    with database.reading() as session:
        return [_row(database, server, accounts) for server, accounts in servers.listing(session)]


def _row(database: SystemDatabase, server: RegisteredServer, accounts: int) -> dict[str, Any]:
    from kataven.system import servers
    from kataven.system.addresses import address_of

    address = address_of(database, server.url, server.direct_url)
    url, direct = address.url, address.direct
    return {
        "server": server.name,
        "host": servers.host_of(url),
        "port": servers.port_of(url),
        "user": url.username,
        "direct_host": None if direct is None else servers.host_of(direct),
        "direct_port": None if direct is None else servers.port_of(direct),
        "accounts": accounts,
        "draining": server.draining,
        "added_at": server.created_at.isoformat(timespec="seconds"),
    }


def _database() -> SystemDatabase:
    return current().operator.system
