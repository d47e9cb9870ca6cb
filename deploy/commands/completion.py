"""`lockstep completion`: what a shell runs so that TAB completes commands, options and names."""

import click
from click.shell_completion import get_completion_class

PROGRAM = "lockstep"
"""The command that is completed."""


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands, options and names of keys.

    \b
    bash:  eval "$(lockstep completion bash)"     in ~/.bashrc
    zsh:   eval "$(lockstep completion zsh)"      in ~/.zshrc
    fish:  lockstep completion fish | source      in ~/.config/fish/config.fish
    """  # noqa: D301 - \b tells click to keep the lines
    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    click.echo(made(context.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
