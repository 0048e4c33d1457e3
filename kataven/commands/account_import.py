"""`kataven accounts import-csv`."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

import click

from kataven.commands.accounts import group
from kataven.commands.context import current
from kataven.commands.output import as_json, console, print_rows, report_errors
from kataven.ratelimit.policy import LIMIT_FIELDS

if TYPE_CHECKING:
    from kataven.operations.account_file import AccountFileLine
    from kataven.operations.account_import import ImportResult

COLUMNS = ("name", "org_id", "server", "discoverable", "max_key_expiry_days", *(limit.field for limit in LIMIT_FIELDS))
"""The optional columns of `account_file.COLUMNS`, whose module imports the database's libraries."""

HELP = f"""Create the accounts listed in the CSV file FILE.

The first line contains the column names: account, and any of {", ".join(COLUMNS)}. The whole file is
checked before the first account is created. Existing accounts are not changed, so you can run the same file again until
the exit status is 0.
"""


@group.command("import-csv", help=HELP)
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@click.option("--dry-run", is_flag=True, help="Check the file without creating accounts.")
@as_json
@report_errors
def import_csv(file: TextIO, dry_run: bool, as_json: bool) -> None:
    from kataven.operations import account_file
    from kataven.operations.account_import import ImportOutcome

    lines = account_file.read(file)
    results = _run(lines, dry_run=dry_run)
    rows = [{**asdict(result), "error": result.error or None} for result in results]
    print_rows(rows, as_json=as_json, empty="The file contains no accounts.")
    counts = Counter(result.outcome for result in results)
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nothing", err=True)
    if counts[ImportOutcome.FAILED]:
        sys.exit(1)


def _run(lines: list[AccountFileLine], *, dry_run: bool) -> list[ImportResult]:
    from rich.progress import Progress

    from kataven.operations import account_import

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("accounts", total=len(lines))

        def advance(_: ImportResult) -> None:
            bar.advance(task)

        return account_import.run(current().operator, lines, dry_run=dry_run, progress=advance)
