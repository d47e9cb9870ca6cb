"""The bank: balances of many assets, signed transfers, and faucets where genesis allows them.

Owns the keys BALANCE and SUPPLY. Invariant: per asset, all balances and everything in escrow make its supply,
which fits u128; so a credit of what was debited before can never overflow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lockstep.commitment import balance_key, supply_key
from lockstep.genesis import Asset, BankModule
from lockstep.limits import AMOUNT_MAX
from lockstep.receipts import Receipt, ReceiptCode
from lockstep.register import SwapRecord
from lockstep.transactions import Call, Faucet, Method, Transfer
from lockstep.types import PublicKey, RollupId
from rollups.modules.module import Context, Failed, Handler
from rollups.state import Overlay, View, amount_at, put_amount

__pure__ = True


@dataclass(frozen=True)
class Bank:
    """The bank of one rollup."""

    definition: BankModule
    """Its assets."""

    name: str = "bank"
    """As in the genesis file."""

    @cached_property
    def assets(self) -> Mapping[bytes, Asset]:
        """The rollup's assets by the bytes of their names."""
        return {asset.id.encode("ascii"): asset for asset in self.definition.assets}

    @property
    def handlers(self) -> Mapping[Method, Handler]:
        """What executes each of its methods."""
        return {Method.BANK_TRANSFER: self.transfer, Method.BANK_FAUCET: self.faucet}

    def seed(self, state: Overlay) -> None:
        """Give out what genesis allocates."""
        for name, asset in self.assets.items():
            for allocation in asset.allocations:
                self._mint(state, name, allocation.account, allocation.amount)

    def settle(self, state: Overlay, rollup: RollupId, record: SwapRecord) -> tuple[Receipt, ...]:
        """Leave swaps to `escrow`."""
        return ()

    def transfer(self, state: Overlay, context: Context, call: Call) -> ReceiptCode:
        """Move base units from the signer to another account; to itself is allowed and changes nothing.

        Order of checks: UNKNOWN_ASSET, AMOUNT_ZERO, INSUFFICIENT_FUNDS.
        """
        assert isinstance(call, Transfer), "the runtime decodes calls by their method"
        self._asset(call.asset, call.amount)
        from_key = balance_key(call.asset, context.signer)
        left = amount_at(state, from_key) - call.amount
        if left < 0:
            raise Failed(ReceiptCode.INSUFFICIENT_FUNDS)
        put_amount(state, from_key, left)
        credit(state, call.asset, call.recipient, call.amount)
        return ReceiptCode.OK

    def faucet(self, state: Overlay, context: Context, call: Call) -> ReceiptCode:
        """Create base units for the signer.

        Order of checks: UNKNOWN_ASSET, AMOUNT_ZERO, FAUCET_FORBIDDEN, FAUCET_LIMIT, OVERFLOW.
        """
        assert isinstance(call, Faucet), "the runtime decodes calls by their method"
        asset = self._asset(call.asset, call.amount)
        if asset.faucet_max == 0:
            raise Failed(ReceiptCode.FAUCET_FORBIDDEN)
        if call.amount > asset.faucet_max:
            raise Failed(ReceiptCode.FAUCET_LIMIT)
        if amount_at(state, supply_key(call.asset)) + call.amount > AMOUNT_MAX:
            raise Failed(ReceiptCode.OVERFLOW)
        self._mint(state, call.asset, context.signer, call.amount)
        return ReceiptCode.OK

    def _asset(self, name: bytes, amount: int) -> Asset:
        asset = self.assets.get(name)
        if asset is None:
            raise Failed(ReceiptCode.UNKNOWN_ASSET)
        if amount == 0:
            raise Failed(ReceiptCode.AMOUNT_ZERO)
        return asset

    def _mint(self, state: Overlay, asset: bytes, account: PublicKey, amount: int) -> None:
        put_amount(state, supply_key(asset), amount_at(state, supply_key(asset)) + amount)
        credit(state, asset, account, amount)


def balance_of(state: View, asset: bytes, account: PublicKey) -> int:
    """Return an account's balance in base units, escrow not counted."""
    return amount_at(state, balance_key(asset, account))


def credit(state: Overlay, asset: bytes, account: PublicKey, amount: int) -> None:
    """Add base units that are part of the supply already; checks nothing, because it cannot overflow."""
    key = balance_key(asset, account)
    put_amount(state, key, amount_at(state, key) + amount)


def debit(state: Overlay, asset: bytes, account: PublicKey, amount: int) -> None:
    """Take base units that the caller knows to be there."""
    key = balance_key(asset, account)
    left = amount_at(state, key) - amount
    assert left >= 0, "a debit was not checked against the balance"
    put_amount(state, key, left)
