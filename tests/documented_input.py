"""The table of bad input in protos/README.md, made from its cases.

Owns its rows and its place: `python -m tests.documented_input` writes it, a test insists that it is current.
"""

from typing import Final

from tests.documented import PAGE, table
from tests.integration import bad_input_bridge, bad_input_sequencer, bad_input_settlement  # noqa: F401
from tests.integration.bad_input import CASES

BEGIN: Final = (
    "<!-- The table of bad input is made by `python -m tests.documented_input`; "
    "a test proves it current. -->\n"
)
END: Final = "<!-- end of the table of bad input -->\n"

SERVICES: Final = ("Sequencer", "Settlement", "Bridge")
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


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(BEGIN) + len(BEGIN)] + bad_input_table() + page[page.index(END) :])
