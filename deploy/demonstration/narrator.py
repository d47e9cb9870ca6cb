"""The demo's voice: lines with the time, and what is being waited for while nothing is said."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape


class Narrator:
    """Prints lines, and on a terminal shows between them what is being waited for."""

    def __init__(self, console: Console) -> None:
        """Talk to `console`; time counts from now."""
        self._console = console
        self._status = console.status("", spinner="line")
        self._started_s = time.monotonic()

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    @property
    def seconds(self) -> float:
        """How long it has been talking."""
        return time.monotonic() - self._started_s

    def chapter(self, title: str) -> None:
        """Begin something new."""
        self._console.print(f"\n[bold]{escape(title)}")

    def line(self, text: str, *, swap: int | None = None) -> None:
        """Say what happened, to a swap of that number if one is given."""
        about = "" if swap is None else f"[cyan]swap {swap}[/]  "
        self._console.print(f"[dim]{self.seconds:6.2f} s[/]  {about}{escape(text)}", soft_wrap=True)

    def word(self, text: str) -> None:
        """Explain something."""
        self._console.print(escape(text), soft_wrap=True)

    def waiting(self, text: str) -> None:
        """Show what is being waited for."""
        self._status.update(escape(text))
