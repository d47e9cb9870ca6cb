"""Tables of protos/README.md that are made from the code: `python -m tests.documented` writes them.

Owns their place between two markers. A test of each table insists that the page has the newest one.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lockstep.errors import LockstepError, all_errors

PAGE: Final = Path(__file__).parents[1] / "protos" / "README.md"

ERRORS: Final = "errors"
"""The table of all codes."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def errors_table() -> str:
    """Return the table of every code, in the order of the tree."""
    return table(
        ("code", "gRPC status", "retry", "when", "message, which says what to do"), map(_row, all_errors())
    )


def _row(error: type[LockstepError]) -> tuple[str, ...]:
    when = " ".join((error.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
    return f"`{error.code}`", error.status, _retry(error), when, error.template.replace("!r}", "}")


def _retry(error: type[LockstepError]) -> str:
    if not error.retryable:
        return "no"
    return "yes" if error.retry_after_ms is None else f"after {error.retry_after_ms:,} ms"


def found_in(page: str, name: str) -> str:
    """Return the table that stands in a page. ValueError if its markers are missing."""
    begin, end = _markers(name)
    return page[page.index(begin) + len(begin) : page.index(end)]


def put_into(page: str, name: str, made: str) -> str:
    """Return a page with another table between its markers."""
    begin, end = _markers(name)
    return page[: page.index(begin) + len(begin)] + made + page[page.index(end) :]


def _markers(name: str) -> tuple[str, str]:
    return (
        f"<!-- The table of {name} is made by `python -m tests.documented`; a test proves it current. -->\n",
        f"<!-- end of the table of {name} -->\n",
    )


if __name__ == "__main__":
    PAGE.write_text(put_into(PAGE.read_text(), ERRORS, errors_table()))
