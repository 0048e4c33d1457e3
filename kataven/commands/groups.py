"""Groups of commands whose modules are imported when a command of theirs is used.

`kataven --help`, `kataven --version` and the completion of group names import only click. A command's module imports
what the command needs inside its functions, so that the help texts of commands don't load the databases' libraries.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click
from click.exceptions import NoSuchCommand


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is defined, and the help text that the list of commands shows. A test compares the texts."""

    module: str
    attribute: str
    short_help: str
    hidden: bool = False

    def load(self) -> click.Command:
        found = getattr(importlib.import_module(self.module), self.attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{self.module}:{self.attribute} is not a command")
        return found


class LazyGroup(click.Group):
    """A group of commands that are loaded on first use."""

    def __init__(self, *args: object, lazy: Mapping[str, LazyCommand], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own arguments
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else entry.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as unknown:  # click suggests only commands that are loaded
            raise NoSuchCommand(unknown.command_name, possibilities=self._listed(), ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = self._listed()
        width = formatter.width - 6 - max(map(len, listed), default=0)
        rows = [(name, _shortened(self._short_help(name, width), width)) for name in listed]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name for name in self._listed() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=self._short_help(name, 80)) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def _listed(self) -> list[str]:
        loaded = {name for name, command in self.commands.items() if not command.hidden}
        return sorted(loaded | {name for name, entry in self.lazy.items() if not entry.hidden})

    def _short_help(self, name: str, width: int) -> str:
        return self.lazy[name].short_help if name in self.lazy else self.commands[name].get_short_help_str(width)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width or width < 20 else f"{text[: width - 3].rstrip()}..."
