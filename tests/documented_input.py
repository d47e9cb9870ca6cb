"""The tables of bad input in protos/README.md, made from their cases.

Owns their rows and places: `python -m tests.documented_input` writes them, and a test insists that they are
current.
"""

from collections.abc import Callable, Mapping
from typing import Final

from tests.documented import PAGE, table
from tests.integration import (  # noqa: F401
    bad_input_bridge,
    bad_input_quotes,
    bad_input_rollup,
    bad_input_sequencer,
    bad_input_settlement,
)
from tests.integration.bad_input import CASES
from tests.integration.bad_input_ordered import ORDERED_CASES

SERVICES: Final = ("Sequencer", "Rollup", "Settlement", "Bridge")
"""In the order of the table."""


def bad_input_table() -> str:
    """Return the table of all cases, call by call."""
    head = ("call", "what is wrong", "code", "what the answer names", "judged in")
    calls = sorted(
        dict.fromkeys(case.call for case in CASES), key=lambda call: SERVICES.index(call.split(".")[0])
    )
    rows = (
        (f"`{case.call}`", case.name, f"`{case.code}`" if case.code else "none", case.says, case.judge)
        for case in sorted(CASES, key=lambda case: calls.index(case.call))
    )
    return table(head, rows)


def ordered_table() -> str:
    """Return the table of what is ordered and has a receipt that says what is wrong."""
    rows = ((case.name, f"`{case.code.name}`") for case in ORDERED_CASES)
    return table(("what is wrong", "code of the receipt"), rows)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "bad input": bad_input_table,
    "bad input that is ordered": ordered_table,
}
"""The tables by name."""


def markers(name: str) -> tuple[str, str]:
    """Return what stands before and after a table."""
    made = "is made by `python -m tests.documented_input`; a test proves it current"
    return f"<!-- The table of {name} {made}. -->\n", f"<!-- end of the table of {name} -->\n"


def place_of(page: str, name: str) -> slice:
    """Return where a page has a table. ValueError if its markers are missing."""
    begin, end = markers(name)
    return slice(page.index(begin) + len(begin), page.index(end))


if __name__ == "__main__":
    page = PAGE.read_text()
    for name, make in TABLES.items():
        place = place_of(page, name)
        page = page[: place.start] + make() + page[place.stop :]
    PAGE.write_text(page)
