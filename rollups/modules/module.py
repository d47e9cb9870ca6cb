"""What a module is: calls of transactions, and what it does at genesis and when a swap is decided.

Owns the interface between the runtime and its modules. To add a module: write one file with a class that is
a `Module`, give its methods numbers in `lockstep.transactions`, its section in the genesis schema, and
compose it in `rollups.runtime`.

A call that fails raises `Failed`, and the runtime drops whatever it wrote. What a module reads is the state,
the register and the block: no clock, no randomness, no order but that of the bytes.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from lockstep.receipts import Receipt, ReceiptCode
from lockstep.register import Register, SwapRecord
from lockstep.transactions import Call, Method
from lockstep.types import PublicKey, RollupId
from rollups.state import Overlay

__pure__ = True


class Failed(Exception):  # not an error of the program: how a call says that it does nothing
    """A call does nothing, for the reason that its receipt will give."""

    def __init__(self, code: ReceiptCode, *, is_remembered: bool = True) -> None:
        """Fail with `code`; unless `is_remembered`, the transaction's id is not recorded as seen."""
        super().__init__(code)
        self.code = code
        """What the receipt says."""
        self.is_remembered = is_remembered
        """Whether the same transaction is a duplicate from now on."""


class Context(msgspec.Struct, frozen=True):
    """What a call is judged by besides the state."""

    rollup: RollupId
    """The rollup that executes it."""
    register: Register
    """The register after the block's `_swap` entries."""
    time_ms: int
    """The block's log time."""
    signer: PublicKey
    """Who signed the transaction."""


Handler = Callable[[Overlay, Context, Call], ReceiptCode]
"""Executes a call: returns OK, or another code whose effects stay all the same; raises `Failed`."""


class Module(Protocol):
    """A part of a rollup's runtime."""

    @property
    def name(self) -> str:
        """Its name, as in the genesis file."""

    @property
    def handlers(self) -> Mapping[Method, Handler]:
        """What executes each of its methods."""

    def seed(self, state: Overlay) -> None:
        """Write what holds from the rollup's start."""

    def settle(self, state: Overlay, rollup: RollupId, record: SwapRecord) -> tuple[Receipt, ...]:
        """Do what a swap's decision demands of this rollup's legs. Cannot fail."""
