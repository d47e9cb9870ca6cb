"""Whether a network kept its promises, from proofs and not from what its processes say.

Owns the four promises of a devnet: value is conserved, every swap ended the same way on all its rollups, two
nodes of one rollup have one state, and the settlement log is what its checkpoint signs. Reads only. A promise
that was not kept is `PromiseBroken`.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bridge.client import SwapPhase, SwapView
from bridge.settlement.client import SettlementClient
from deploy.devnet.clients import until
from lockstep.commitment import (
    Commitment,
    balance_key,
    decode_escrow_record,
    escrow_key,
    supply_key,
)
from lockstep.encoding import Reader
from lockstep.errors import NotFound
from lockstep.genesis import Genesis
from lockstep.header import header_hash
from lockstep.merkle import AppendTree, leaf_hash
from lockstep.receipts import SettledReceipt, SettlementCode
from lockstep.settlement_entries import (
    CommitmentEntry,
    GenesisEntry,
    HeaderRange,
    decode_settlement_entry,
    verify_commitment,
    verify_proven_header,
)
from lockstep.types import HeaderHash, PublicKey, RollupId, SwapId
from rollups.client import RollupClient


class PromiseBroken(Exception):
    """The network did not keep a promise; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Everything that a rollup holds of an asset, after one block."""

    rollup: RollupId
    """The rollup."""
    asset: str
    """The asset."""
    height: int
    """The block."""
    supply: int
    """Base units that the rollup says there are."""
    balances: Mapping[PublicKey, int]
    """Base units of each account that was asked for."""
    escrow: int
    """Base units in escrow for the swaps that were asked for, premiums included."""


async def holdings(
    node: RollupClient,
    rollup: RollupId,
    asset: str,
    *,
    accounts: Sequence[PublicKey],
    swaps: Mapping[SwapId, int],
    min_height: int = 0,
) -> Holdings:
    """Return what there is of an asset, proven, all after one block.

    `swaps` names the leg of each swap that could hold some of it in escrow. Together at most 255 accounts and
    swaps.
    """
    name = asset.encode("ascii")
    balance_keys = {account: balance_key(name, account) for account in accounts}
    escrow_keys = [escrow_key(swap_id, leg) for swap_id, leg in swaps.items()]
    state = await node.state([supply_key(name), *balance_keys.values(), *escrow_keys], min_height=min_height)
    escrows = [decode_escrow_record(value) for key in escrow_keys if (value := state.values[key]) is not None]
    return Holdings(
        rollup=rollup,
        asset=asset,
        height=state.commitment.height,
        supply=_amount(state.values[supply_key(name)]),
        balances={account: _amount(state.values[key]) for account, key in balance_keys.items()},
        escrow=sum(record.amount + record.premium for record in escrows if record.asset == name),
    )


def verify_conserved(held: Holdings, *, supply: int) -> None:
    """Check that balances and escrow are the supply, and that this is `supply`."""
    total = sum(held.balances.values()) + held.escrow
    if not held.supply == supply == total:
        raise PromiseBroken(
            f"{held.asset} on {held.rollup} is not conserved at height {held.height}: {supply} were made, "
            f"the rollup's supply is {held.supply}, balances and escrow sum up to {total}"
        )


async def verify_whole(
    swap: SwapView, nodes: Mapping[RollupId, RollupClient]
) -> tuple[SettledReceipt | None, ...]:
    """Check that a decided swap ended the same way on every leg, and return each leg's receipt.

    COMMITTED: every leg went to its recipient. ABORTED: every leg that was locked went back to its sender,
    and the others, whose receipt is None, never left it.
    """
    return tuple(
        [await _verify_leg(swap, leg, nodes[swap.terms.legs[leg].rollup]) for leg in range(len(swap.legs))]
    )


async def _verify_leg(swap: SwapView, leg: int, node: RollupClient) -> SettledReceipt | None:
    terms, name = swap.terms.legs[leg], f"leg {leg} of swap {swap.swap_id.hex()[:16]}"
    key = escrow_key(swap.swap_id, leg)
    state = await node.state([key], min_height=swap.decided_height)
    if state.values[key] is not None and decode_escrow_record(state.values[key] or b"").amount:
        raise PromiseBroken(f"{name} is in escrow although the swap is {swap.phase.name}")
    try:
        receipt = await node.settlement(swap.swap_id, leg)
    except NotFound:
        if swap.phase is SwapPhase.COMMITTED:
            raise PromiseBroken(f"{name} was not settled although the swap is COMMITTED") from None
        return None
    committed = swap.phase is SwapPhase.COMMITTED
    wanted = SettlementCode.COMMITTED if committed else SettlementCode.ABORTED
    beneficiary = terms.recipient if committed else terms.sender
    if not isinstance(receipt, SettledReceipt):
        raise PromiseBroken(f"{name} was committed without escrow")
    found = (receipt.code, receipt.beneficiary, receipt.asset, receipt.amount)
    if found != (wanted, beneficiary, terms.asset, terms.amount):
        raise PromiseBroken(
            f"{name} was settled otherwise than the swap, which is {swap.phase.name}: {receipt}"
        )
    return receipt


async def verify_same_state(one: RollupClient, other: RollupClient, *, min_height: int = 0) -> Commitment:
    """Check that two nodes of a rollup have one commitment at one height, and return it.

    Waits until both have executed `min_height`.
    """

    async def common_height() -> int | None:
        height = min((await one.status()).height, (await other.status()).height)
        return height if height >= max(min_height, 1) else None

    height = await until(common_height, f"both nodes to execute height {min_height}")
    first, second = await one.commitment(height), await other.commitment(height)
    if first != second:
        raise PromiseBroken(f"two nodes of {first.rollup} differ at height {height}: {first} and {second}")
    return first


@dataclass(frozen=True, slots=True)
class LogFindings:
    """What the settlement log holds."""

    size: int
    """Its entries."""
    anchored_height: int
    """The last header that it anchors."""
    commitments: Mapping[RollupId, Commitment]
    """The last commitment of each rollup."""


async def verify_log(
    client: SettlementClient, genesis: Genesis, nodes: Mapping[RollupId, RollupClient], *, min_height: int
) -> LogFindings:
    """Read the whole settlement log and check it, once it anchors `min_height`.

    1. Its entries make the tree that its checkpoint signs. 2. It is this chain's. 3. Its headers are the
    sequencer's, each range following the one before. 4. Its commitments are signed, and what the rollup's own
    node says. 5. Nothing else is in it, such as evidence. Raises PromiseBroken.
    """

    async def is_anchored() -> bool | None:
        status = await client.status()
        rollups = [status.rollups[name].height if name in status.rollups else 0 for name in nodes]
        return True if min(status.anchored_height, *rollups) >= min_height else None

    await until(is_anchored, f"the settlement log to anchor height {min_height}")
    checkpoint = await client.checkpoint()
    log = _Log(genesis)
    async with aclosing(client.entries(0)) as entries:
        async for index, encoded in entries:
            log.add(index, encoded)
            if log.tree.size == checkpoint.size:
                break
    if log.tree.root() != checkpoint.root:
        raise PromiseBroken(
            f"the settlement log's {checkpoint.size} entries are not what its checkpoint signs"
        )
    for rollup, commitment in log.commitments.items():
        if await nodes[rollup].commitment(commitment.height) != commitment:
            raise PromiseBroken(
                f"{rollup} posted another commitment of height {commitment.height} than it has"
            )
    return LogFindings(checkpoint.size, log.tip_height, log.commitments)


class _Log:
    """The settlement log as far as it was read."""

    def __init__(self, genesis: Genesis) -> None:
        self.tree = AppendTree()
        self.tip_height = 0
        self.commitments: dict[RollupId, Commitment] = {}
        self._genesis = genesis
        self._tip_hash = HeaderHash(genesis.chain_id)

    def add(self, index: int, encoded: bytes) -> None:
        """Check the next entry and add it."""
        self.tree.append(leaf_hash(encoded))
        match decode_settlement_entry(encoded):
            case GenesisEntry(chain=chain) if (index, chain) == (0, self._genesis.chain_id):
                pass
            case HeaderRange() as range_ if (range_.first_height, range_.parent_hash) == (
                self.tip_height + 1,
                self._tip_hash,
            ):
                verify_proven_header(self._genesis.sequencer, range_.last)
                self.tip_height = range_.last.header.height
                self._tip_hash = header_hash(range_.last.encoded)
            case CommitmentEntry() as entry:
                verify_commitment(entry)
                self.commitments[entry.posted.commitment.rollup] = entry.posted.commitment
            case entry:
                raise PromiseBroken(f"entry {index} of the settlement log does not belong there: {entry}")


def _amount(value: bytes | None) -> int:
    if value is None:
        return 0
    reader = Reader(value, "amount")
    amount = reader.u128("amount")
    reader.finish()
    return amount
