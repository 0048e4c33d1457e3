"""Writes docs/commands.md, the reference of `kataven`, from the commands: `make generate`. A test compares it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from kataven.commands import tree
from kataven.commands.options import KeyId, Seconds, WholeNumber
from kataven.commands.program import NAME, cli

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"

INTRODUCTION = """# Command reference

`kataven` is the program of operators. [Services and commands](running.md) describes the tasks; this page lists every
command with its options. `make generate` writes this page from the program.

## Run the program

In a checkout, `make install` and `make run` create `.venv/bin/kataven`. Without the script, `python -m kataven` in the
checkout runs the same program. The settings are the environment variables of the services: see
[Configuration](configuration.md). While `make run` runs, commands in the same folder use its settings.

    kataven keys list --account acme --json

- `--help` works with every command, and needs no settings.
- `--json` prints JSON for scripts, on standard output. Messages and warnings are on standard error.
- The exit status is 0 for success, 1 if the command failed or a check found a problem, and 2 for wrong usage. An error
  is one line on standard error.
- `flask accounts …`, and `flask` with any other command of this page, runs the same commands. `flask` needs the folder
  of the checkout.
- Every change is written to the operator audit log, with `cli` as the operator.

## Complete commands in a shell

`kataven completion` prints a script that completes commands, options and the values of options.

| shell | setup |
| --- | --- |
| bash, 4.4 or later | add `eval "$(kataven completion bash)"` to `~/.bashrc` |
| zsh | add `eval "$(kataven completion zsh)"` to `~/.zshrc`, after `compinit` |
| fish | run `kataven completion fish > ~/.config/fish/completions/kataven.fish` |
"""


def page() -> str:
    """The complete page."""
    return "\n".join([INTRODUCTION, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    root = click.Context(cli, info_name=NAME)
    for name in tree.COMMANDS:
        command = tree.COMMANDS[name].load()
        context = click.Context(command, parent=root, info_name=name)
        yield f"## {NAME} {name}\n"
        if not isinstance(command, click.Group):
            yield from _command(command, context)
            continue
        yield f"{_prose(command)}\n"
        for inner_name, inner in sorted(command.commands.items()):
            if not inner.hidden:
                yield f"### {NAME} {name} {inner_name}\n"
                yield from _command(inner, click.Context(inner, parent=context, info_name=inner_name))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"    {usage}\n"
    yield f"{_prose(command)}\n"
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        yield "| option | description |\n| --- | --- |"
        yield "".join(f"| {_name(option)} | {_described(option)} |\n" for option in options)


def _prose(command: click.Command) -> str:
    r"""The help text in paragraphs. A block that starts with `\b` keeps its lines, as code."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs)


def _paragraph(text: str) -> str:
    if text.startswith("\b\n"):
        return "\n".join(f"    {line}" for line in text.removeprefix("\b\n").splitlines())
    return _escaped(" ".join(text.split()))


def _name(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    return names if option.is_flag else f"{names} {_value(option)}"


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in option.type.choices)
    if option.metavar:
        return option.metavar
    if isinstance(option.type, WholeNumber):
        return "N"
    if isinstance(option.type, Seconds):
        return "SECONDS"
    if isinstance(option.type, KeyId):
        return "ID"
    return "PATH" if isinstance(option.type, click.File | click.Path) else "TEXT"


def _described(option: click.Option) -> str:
    text = _escaped(option.help or "")
    if option.required:
        text += " Required."
    if option.show_default and option.default is not None:
        text += f" Default: `{option.default}`."
    return f"{text} Can be repeated." if option.multiple and "repeated" not in text else text


def _escaped(text: str) -> str:
    """Names of settings, commands and options as code; table separators escaped."""
    text = re.sub(r"(?<![`\w])(KATAVEN_[A-Z_]+|--[a-z][a-z-]+|postgresql://\S+)", r"`\1`", text)
    return text.replace("|", r"\|").replace("<", "&lt;")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
