"""What a command uses: the settings, the services, and the programs of this machine. Each is created on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from kataven.operations.account_dumps import DumpStore
    from kataven.operations.operator import Operator, OperatorServices
    from kataven.settings import Settings
    from kataven.tenancy.programs import Programs

ACTOR = "cli"
"""The actor of commands in the operator audit log."""
EXTENSION = "kataven-commands"
"""The key of the context in the `extensions` of a Flask application."""


class NotConfigured(click.ClickException):
    """The settings are missing or invalid. Lists every problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        listed = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(
            f"The configuration is invalid:{listed}\nEvery setting is described in docs/configuration.md. In a "
            "checkout, `make run` creates a configuration; while it runs, commands in the same folder use it."
        )
        self.problems = tuple(problems)


class CommandContext:
    """One run of a program. `program` is its name in messages: `kataven` or `flask`."""

    def __init__(
        self, load: Callable[[], Settings], build: Callable[[Settings], OperatorServices], program: str
    ) -> None:
        """`load` raises SettingsError."""
        self._load = load
        self._build = build
        self.program = program

    @cached_property
    def settings(self) -> Settings:
        """Raises NotConfigured."""
        from kataven.settings import SettingsError

        try:
            return self._load()
        except SettingsError as error:
            raise NotConfigured(error.problems) from None

    @cached_property
    def services(self) -> OperatorServices:
        """Raises NotConfigured."""
        return self._build(self.settings)

    @property
    def operator(self) -> Operator:
        """The operator that commands act as."""
        from kataven.operations.operator import Operator

        return Operator(ACTOR, self.services)

    @cached_property
    def programs(self) -> Programs:
        """The PostgreSQL programs of this machine."""
        from kataven.tenancy.programs import Programs

        return Programs(self.settings.postgres_programs)

    def dump_store(self, folder: Path | None = None) -> DumpStore:
        """Dumps go to `folder`, or to the folder from the settings if it is None."""
        from kataven.operations.account_dumps import DumpStore

        return DumpStore(self.programs, folder or self.settings.dump_dir)


def from_environment(program: str = "kataven") -> CommandContext:
    """A context without an application: settings from the environment, or from `make run` in the same folder."""

    def load() -> Settings:
        import os

        from kataven import settings

        return settings.load(settings.development_environ(os.environ))

    def build(settings: Settings) -> OperatorServices:
        from kataven.commands.program_services import ProgramServices

        return ProgramServices(settings)

    return CommandContext(load, build, program)


def current() -> CommandContext:
    """The context of the command that runs: that of `kataven`, or that of the Flask application behind `flask`."""
    context = click.get_current_context()
    found = context.find_object(CommandContext)
    if found is None:
        from flask.cli import ScriptInfo

        script = context.find_object(ScriptInfo)
        if script is None:
            raise RuntimeError("the root command has no CommandContext")
        found = script.load_app().extensions[EXTENSION]
    return found
