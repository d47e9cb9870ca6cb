"""A group of commands that are imported when they are run, asked for help, or completed beyond their name.

Owns nothing but the laziness: `lockstep --help`, and completing the name of a command, import no command.
"""

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet."""

    module: str
    """Where it is."""
    attribute: str
    """What it is called there."""
    summary: str
    """What the list of commands says of it: one sentence."""

    def load(self) -> click.Command:
        """Import it."""
        found: click.Command = getattr(importlib.import_module(self.module), self.attribute)
        return found


class LazyGroup(click.Group):
    """A group that lists its lazy commands before its other ones, in the order in which they were added."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - click's own
        """As click's group."""
        super().__init__(*arguments, **options)
        self.lazy: dict[str, Lazy] = {}

    def add_lazy(self, name: str, module: str, summary: str) -> None:
        """Add the command of this name in a module; `summary` is what the list of commands says of it."""
        self.lazy[name] = Lazy(module, name, summary)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name."""
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported."""
        if cmd_name in self.lazy:
            return self.lazy[cmd_name].load()
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed, and say which was meant if there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(args[0], names, n=1)
            advice = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
            ctx.fail(f"there is no command {args[0]!r}; {advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries().items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names and options that start so, importing no command."""
        names = [
            CompletionItem(name, help=summary)
            for name, summary in self._summaries().items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def _summaries(self) -> dict[str, str]:
        here = {name: command.get_short_help_str(limit=200) for name, command in self.commands.items()}
        return {name: lazy.summary for name, lazy in self.lazy.items()} | here
