"""The program `kataven`."""

from __future__ import annotations

import click

from kataven import __version__
from kataven.commands.context import from_environment
from kataven.commands.garbage import collect_rarely
from kataven.commands.groups import LazyGroup
from kataven.commands.tree import COMMANDS, DEVELOPMENT

NAME = "kataven"
COMPLETE = "_KATAVEN_COMPLETE"

HELP = """Operate Kataven Hub: accounts and their API keys, databases, migrations and revocation.

The settings are KATAVEN_… environment variables. In a checkout, the settings of `make run` are used while it runs.
Exit status: 0 for success, 1 if a command failed or a check found a problem, 2 for wrong usage.
"""

cli = LazyGroup(
    NAME,
    lazy={**COMMANDS, **DEVELOPMENT},
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")(cli)


def main() -> None:
    collect_rarely()
    cli(prog_name=NAME, complete_var=COMPLETE, obj=from_environment())
