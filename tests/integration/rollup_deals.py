"""A swap over two running rollup nodes, and what tests of them share."""

import asyncio
import hashlib

from lockstep.receipts import SettledReceipt
from lockstep.signing import SigningKey
from lockstep.swap_entries import encode_open, encode_reveal
from lockstep.terms import Terms, encode_terms, swap_id_of
from lockstep.transactions import Call, Lock, sign_transaction
from lockstep.types import SWAP_NAMESPACE, RollupId, SwapId
from tests.integration.rollup_network import DEADLINE_S, Network
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, PREIMAGE, leg


class Deal:
    """Ann's 100 gold on alpha for Bob's 40 on beta."""

    def __init__(self, net: Network, time_ms: int) -> None:
        self.net = net
        self.time_ms = time_ms
        net.salts += 1
        terms = Terms(
            chain=net.genesis.chain_id,
            legs=(leg(ALPHA, ANN, BOB, 100), leg(BETA, BOB, ANN, 40)),
            hashlock=hashlib.sha256(PREIMAGE).digest(),
            lock_by_ms=time_ms + 30_000,
            expires_ms=time_ms + 60_000,
            revealer=BOB.public_key,
            premium=None,
            salt=net.salts.to_bytes(16, "big"),
        )
        self.terms_bytes = encode_terms(terms)
        self.id: SwapId = swap_id_of(self.terms_bytes)
        self.open = (SWAP_NAMESPACE, encode_open(self.terms_bytes))
        self.reveal = (SWAP_NAMESPACE, encode_reveal(self.id, PREIMAGE))
        self.locks = (
            (ALPHA, signed(net, ANN, Lock(self.id, 0), ALPHA, time_ms)),
            (BETA, signed(net, BOB, Lock(self.id, 1), BETA, time_ms)),
        )

    async def until_phase(self, node: str, phase: int, height: int) -> None:
        """Wait until the swap, which was opened at `height`, has reached a phase."""
        client = await self.net.client(node)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                swap = await client.swap(self.id, min_height=height)
                if swap.record is not None and swap.record.phase >= phase:
                    return
                height = swap.height + 1

    async def until_settled(self, node: str, place: int) -> SettledReceipt:
        client = await self.net.client(node)
        receipt = await client.settlement(self.id, place, wait_ms=20_000)
        assert isinstance(receipt, SettledReceipt)
        return receipt


def signed(net: Network, by: SigningKey, call: Call, to: RollupId, time_ms: int) -> bytes:
    net.salts += 1
    return sign_transaction(
        by,
        chain=net.genesis.chain_id,
        rollup=to,
        valid_until_ms=time_ms + 30_000,
        salt=net.salts.to_bytes(16, "big"),
        call=call,
    )


async def make_deal(net: Network) -> Deal:
    return Deal(net, await net.sequencer.time_ms())
