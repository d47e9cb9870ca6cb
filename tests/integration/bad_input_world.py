"""A devnet with something on it to be wrong about, and what it takes to send anything to its services.

Owns the network of tests/integration/test_bad_input.py. Calls go out as bare messages: our
clients would refuse most of them themselves.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc

from bridge.client import SwapPhase, SwapView, Trader
from deploy.demonstration.market import Market, exchange
from deploy.devnet.clients import Clients, connected, until
from deploy.devnet.launcher import Devnet, running
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, FUNDS, Network, create_network
from deploy.node.chain_files import load_key
from lockstep import terms as terms_layout
from lockstep.header import header_hash
from lockstep.order import Bundle, Transaction
from lockstep.settlement_entries import CommitmentEntry, HeaderRange, decode_settlement_entry
from lockstep.signing import SigningKey
from lockstep.swap_entries import Attestation, AttestItem, RejectReason, Verdict, encode_open
from lockstep.terms import Leg, LegKind, decode_terms, swap_id_of
from lockstep.types import ChainId, HeaderHash, Height, Namespace
from lockstep.v1 import (
    bridge_pb2_grpc,
    common_pb2,
    rollup_pb2_grpc,
    sequencer_pb2,
    sequencer_pb2_grpc,
    settlement_pb2_grpc,
)
from sequencer.client.messages import bundle_message as bundle_message_of
from sequencer.client.messages import read_error

TIMEOUT_S: Final = 20
AHEAD_MS: Final = 30_000
OTHER_CHAIN: Final = ChainId(bytes(31) + b"\1")
OTHER_ID: Final = bytes(31) + b"\2"

NODES: Final = {ALPHA: "alpha-0", BETA: "beta-1"}


@dataclass(frozen=True)
class World:
    """The network, who is on it, and three swaps."""

    devnet: Devnet
    clients: Clients
    market: Market
    sequencer: "sequencer_pb2_grpc.SequencerAsyncStub"
    settlement: "settlement_pb2_grpc.SettlementAsyncStub"
    bridge: "bridge_pb2_grpc.BridgeAsyncStub"
    rollup: "rollup_pb2_grpc.RollupAsyncStub"
    """Of alpha's node."""
    channels: Mapping[str, grpc.aio.Channel]
    keys: Mapping[str, SigningKey]
    locked: bytes
    """Terms of a swap whose legs are attested LOCKED; it expires long after the tests."""
    committed: bytes
    """Terms of a swap that was revealed."""
    collecting: bytes
    """Terms of a swap that waits for its locks, in which alice gives both legs: that is allowed."""
    ordered: common_pb2.Bundle
    """A bundle that was ordered: a transfer of alice's."""
    since: Height
    """From here on nothing is to be ordered."""
    balances: Mapping[tuple[str, str], int]
    """What everybody has from there on, locked funds left out."""

    @property
    def network(self) -> Network:
        return self.devnet.network

    @property
    def chain(self) -> ChainId:
        return self.network.genesis.chain_id

    @property
    def alice(self) -> Trader:
        return self.market.traders["alice"]

    @property
    def legs(self) -> tuple[Leg, Leg]:
        """Gold from alice for silver from bob."""
        alice, bob = self.alice.account, self.bob.account
        return (
            Leg(ALPHA, LegKind.TRANSFER, alice, bob, b"gold", 5),
            Leg(BETA, LegKind.TRANSFER, bob, alice, b"silver", 5),
        )

    @property
    def bob(self) -> Trader:
        return self.market.traders["bob"]

    async def time_ms(self) -> int:
        """The newest log time."""
        return await self.clients.sequencer.time_ms()

    async def new_terms(self, **changes: object) -> bytes:
        """Terms that could be opened now but for the changes, whatever these break."""
        time_ms = await self.time_ms()
        fair = decode_terms(self.alice.new_terms(self.legs, time_ms=time_ms))
        return terms_layout._bytes_of(replace(fair, **changes))  # type: ignore[arg-type]

    async def new_leg(self, **changes: object) -> bytes:
        """The same with changes of the first leg."""
        first, second = self.legs
        return await self.new_terms(legs=(replace(first, **changes), second))  # type: ignore[arg-type]

    async def attestation(self, **changes: object) -> Attestation:
        """A lie about the first leg of the swap that is locked: REJECTED; and with changes."""
        height = (await self.clients.bridge.swap(swap_id_of(self.locked))).opened_height
        request = sequencer_pb2.GetBlockRequest(height=height)
        block = (await self.sequencer.GetBlock(request, timeout=TIMEOUT_S)).block
        item = AttestItem(swap_id_of(self.locked), 0, Verdict.REJECTED, RejectReason.INSUFFICIENT_FUNDS)
        said = Attestation(
            chain=self.chain,
            rollup=ALPHA,
            attester=self.keys["alpha-0"].public_key,
            executed_height=Height(height),
            header_hash=HeaderHash(header_hash(block.header.header)),
            items=(item,),
        )
        return replace(said, **changes)  # type: ignore[arg-type]

    async def newest_range(self) -> HeaderRange:
        """The last header range of the settlement log."""
        return [entry for entry in await self._entries() if isinstance(entry, HeaderRange)][-1]

    async def commitment(self) -> CommitmentEntry:
        """A commitment of alpha's attester in the settlement log."""
        return next(
            entry
            for entry in await self._entries()
            if isinstance(entry, CommitmentEntry) and entry.posted.commitment.rollup == ALPHA
        )

    async def _entries(self) -> list[object]:
        entries, size = [], (await self.clients.settlement.status()).size
        async for index, encoded in self.clients.settlement.entries(0):
            entries.append(decode_settlement_entry(encoded))
            if index + 1 == size:
                break
        return list(entries)


async def bundle_message(
    world: World, *transactions: tuple[str, bytes], valid_until_ms: int | None = None
) -> common_pb2.Bundle:
    """A bundle that is valid for AHEAD_MS unless told otherwise."""
    if valid_until_ms is None:
        valid_until_ms = await world.time_ms() + AHEAD_MS
    return common_pb2.Bundle(
        transactions=[
            common_pb2.Transaction(namespace=name, payload=payload) for name, payload in transactions
        ],
        valid_until_ms=valid_until_ms,
    )


async def submit(world: World, *transactions: tuple[str, bytes], valid_until_ms: int | None = None) -> object:
    """Send a bundle."""
    bundle = await bundle_message(world, *transactions, valid_until_ms=valid_until_ms)
    return await world.sequencer.Submit(sequencer_pb2.SubmitRequest(bundle=bundle), timeout=TIMEOUT_S)


async def submit_open(world: World, terms_bytes: bytes) -> object:
    """Send an Open alone."""
    return await submit(world, ("_swap", encode_open(terms_bytes)))


async def raw(
    world: World, process: str, method: str, message: bytes, *, timeout_s: float = TIMEOUT_S
) -> bytes:
    """Send bytes as the request of a method."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = world.channels[process].unary_unary(
        f"/lockstep.v1.{method}"
    )
    return await call(message, timeout=timeout_s)


async def first_of(stream: AsyncIterable[object]) -> object:
    """Return the first answer of a stream."""
    return await anext(aiter(stream))


async def through(method: Callable[..., Any], requests: Sequence[object], count: int) -> list[object]:
    """Send messages to a stream of items, and return the outcomes once `count` are there.

    The stream is open until then: an item that fails does not end it.
    """
    over = asyncio.Event()

    async def sent() -> AsyncIterator[object]:
        for request in requests:
            yield request
        await over.wait()

    outcomes: list[object] = []
    try:
        async for answer in method(sent(), timeout=TIMEOUT_S):
            outcomes += answer.outcomes
            if len(outcomes) >= count:
                over.set()
    finally:
        over.set()
    return outcomes


def raise_first(outcomes: Sequence[Any]) -> None:
    """Raise the error of the first item; the others were answered, too."""
    first = min(outcomes, key=lambda outcome: outcome.correlation_id)
    assert first.WhichOneof("outcome") == "error", first
    raise read_error(first.error)


@asynccontextmanager
async def bad_input_world(folder: Path) -> AsyncIterator[World]:
    """Run a devnet and put the swaps on it."""
    network = create_network(folder)
    async with running(network) as devnet, connected(network) as clients:
        market = Market(network, clients)
        locked = await market.agree(
            exchange("alice", 11, "bob", 13, lock_within_ms=60_000, reveal_within_ms=600_000)
        )
        assert (await market.locked(locked)).phase is SwapPhase.LOCKED
        committed = await market.agree(exchange("bob", 17, "alice", 19, lock_within_ms=60_000))
        assert (await market.locked(committed)).phase is SwapPhase.LOCKED
        await market.reveal(committed)
        decided = await market.decided(committed)
        alice, bob = market.traders["alice"], market.traders["bob"]
        collecting = alice.new_terms(
            [
                Leg(ALPHA, LegKind.TRANSFER, alice.account, bob.account, b"gold", 5),
                Leg(BETA, LegKind.TRANSFER, alice.account, bob.account, b"silver", 5),
            ],
            time_ms=await clients.sequencer.time_ms(),
            lock_within_ms=60_000,
        )
        view = await clients.bridge.propose(collecting, idempotency_key=b"alice gives both")
        assert view.phase is SwapPhase.COLLECTING
        ordered = await _transfer(clients, alice, bob)
        await _quiet(clients, decided)
        names = ("sequencer", "settlement", "bridge", NODES[ALPHA])
        channels = {name: grpc.aio.insecure_channel(network.address(name)) for name in names}
        roles = ("sequencer", "settlement", "governance", "alpha-0", "beta-0")
        try:
            yield World(
                devnet,
                clients,
                market,
                sequencer_pb2_grpc.SequencerStub(channels["sequencer"]),
                settlement_pb2_grpc.SettlementStub(channels["settlement"]),
                bridge_pb2_grpc.BridgeStub(channels["bridge"]),
                rollup_pb2_grpc.RollupStub(channels[NODES[ALPHA]]),
                channels,
                {name: load_key(network.folder / "keys" / f"{name}.pem") for name in roles},
                locked.terms_bytes,
                committed.terms_bytes,
                collecting,
                bundle_message_of(ordered),
                Height((await clients.sequencer.status()).height + 1),
                await balances(market),
            )
        finally:
            for channel in channels.values():
                await channel.close()


async def _transfer(clients: Clients, alice: Trader, bob: Trader) -> Bundle:
    valid_until_ms = await clients.sequencer.time_ms() + 10 * AHEAD_MS
    payload = alice.sign_transfer(
        ALPHA, asset="gold", recipient=bob.account, amount=3, valid_until_ms=valid_until_ms
    )
    bundle = Bundle((Transaction(Namespace(ALPHA), payload),), valid_until_ms)
    await clients.sequencer.submit(bundle)
    return bundle


async def _quiet(clients: Clients, decided: SwapView) -> None:
    """Wait until all is attested, settled and anchored: nothing is on its way any more."""

    async def look() -> bool | None:
        status = await clients.settlement.status()
        heights = [each.height for each in status.rollups.values()]
        done = len(heights) == len(ASSET_OF) and min(heights) >= decided.decided_height
        return True if done else None

    await until(look, "all rollups to anchor the swaps")


async def balances(market: Market) -> dict[tuple[str, str], int]:
    """What every trader has on every rollup, proven."""
    height = (await market.clients.sequencer.status()).height
    return {
        (name, rollup): await market.clients.nodes[node].balance(
            market.traders[name].account, asset, min_height=height
        )
        for name in FUNDS
        for (rollup, node), asset in zip(NODES.items(), ("gold", "silver"), strict=True)
    }
