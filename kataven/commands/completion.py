"""`kataven completion`: the script that completes commands and options in a shell."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    bash, version 4.4 or later: add to ~/.bashrc
      eval "$(kataven completion bash)"
    zsh: add to ~/.zshrc, after compinit
      eval "$(kataven completion zsh)"
    fish: save as a file
      kataven completion fish > ~/.config/fish/completions/kataven.fish
    """
    from click.shell_completion import get_completion_class

    from kataven.commands.program import COMPLETE, NAME, cli

    completion = get_completion_class(shell)
    if completion is None:
        raise click.ClickException(f"click does not support the shell {shell}.")
    script = completion(cli, {}, NAME, COMPLETE)
    click.echo(script.source_template % script.source_vars())
