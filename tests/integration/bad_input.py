"""What is wrong and what is answered to it: the cases of tests/integration/test_bad_input.py.

Owns the list. Each case is a row of protos/README.md and a test against real processes.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.integration.bad_input_world import World

Send = Callable[[World], Awaitable[object]]
"""Sends it; raises what the call ended with, or for an item of a stream its error."""


@dataclass(frozen=True)
class Case:
    """Something that is wrong."""

    name: str
    """What, in words."""
    call: str
    """To which call."""
    code: str
    """The code that it is answered with; empty: it is answered as the first time."""
    says: str
    """What stands in the message."""
    judge: str
    """Where that is judged."""
    send: Send


CASES: Final[list[Case]] = []
"""All of them, in the order of the table."""


def case(call: str, code: str, name: str, *, says: str = "", judge: str) -> Callable[[Send], Send]:
    """Add what a function sends to the cases."""

    def add(send: Send) -> Send:
        CASES.append(Case(name, call, code, says, judge, send))
        return send

    return add
