"""The client against a log that lies: whatever it is told that is not proven, it refuses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest

from bridge.settlement.client import SettlementClient
from deploy.node.server import ServerSettings, serving
from lockstep.checkpoint import Checkpoint, encode_checkpoint, sign_note
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Malformed,
    NotYet,
    ProofInvalid,
    UnavailablePeer,
    WrongChain,
)
from lockstep.merkle import AppendTree, leaf_hash
from lockstep.v1 import common_pb2, settlement_pb2, settlement_pb2_grpc
from tests.unit.settlement.chain import GENESIS, ORIGIN, Chain, Judged, key_of

CHAIN = Chain()
RANGES = [CHAIN.range(height, height + 3) for height in range(1, 60, 4)]

Tamper = Callable[[Any], None]


class FakeLog(settlement_pb2_grpc.SettlementServicer):
    """A log in memory that answers as the real one does, and lies where it is told to."""

    def __init__(self) -> None:
        self.judged = Judged()
        self.judged.give_all(RANGES[:4])
        self.judged.give_all([CHAIN.commitment("b0", 4)])
        self.tamper: dict[str, Tamper] = {}
        self.visible: int | None = None
        self.breaks = 0

    @property
    def tree(self) -> AppendTree:
        return AppendTree(map(leaf_hash, self.judged.entries[: self.visible]))

    def note(self, size: int | None = None, *, root: bytes | None = None, key: str = "settlement") -> bytes:
        tree = self.tree
        size = tree.size if size is None else size
        body = encode_checkpoint(ORIGIN, size, root or tree.root(size))
        return sign_note(body, name=ORIGIN, public_key=key_of(key).public_key, sign=key_of(key).sign_raw)

    def proof(self, index: int, size: int) -> common_pb2.InclusionProof:
        hashes = self.tree.inclusion_proof(index, size)
        return common_pb2.InclusionProof(index=index, size=size, hashes=hashes)

    def lie(self, response: Any) -> Any:  # noqa: ANN401  # any message
        change = self.tamper.get(type(response).__name__.removesuffix("Response"))
        if change is not None:
            change(response)
        return response

    async def Append(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        answer = self.judged.give(request.entry)
        assert isinstance(answer, int)
        return self.lie(settlement_pb2.AppendResponse(index=answer, checkpoint=self.note()))

    async def AppendStream(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001, ANN201
        raise NotImplementedError

    async def GetCheckpoint(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        return self.lie(settlement_pb2.GetCheckpointResponse(checkpoint=self.note()))

    async def GetInclusionProof(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        size = request.size or self.tree.size
        response = settlement_pb2.GetInclusionProofResponse(
            proof=self.proof(request.index, size),
            entry=self.judged.entries[request.index],
            checkpoint=b"" if request.size else self.note(),
        )
        return self.lie(response)

    async def GetConsistencyProof(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        hashes = self.tree.consistency_proof(request.old_size, request.new_size)
        response = settlement_pb2.GetConsistencyProofResponse(new_size=request.new_size, hashes=hashes)
        return self.lie(response)

    async def StreamEntries(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        for index in range(request.from_index, self.tree.size, 2):
            if self.breaks:
                self.breaks -= 1
                raise UnavailablePeer(peer="the disk")
            entries = self.judged.entries[index : index + 2]
            yield self.lie(
                settlement_pb2.StreamEntriesResponse(
                    first_index=index, entries=entries, checkpoint=self.note()
                )
            )
        await asyncio.Event().wait()

    async def GetAnchor(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        index = self.judged.names["anchored/beta/0000000000000004"] if request.rollup else 1
        response = settlement_pb2.GetAnchorResponse(
            index=index,
            entry=self.judged.entries[index],
            proof=self.proof(index, self.tree.size),
            checkpoint=self.note(),
        )
        return self.lie(response)

    async def GetStatus(self, request, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        response = settlement_pb2.SettlementGetStatusResponse(
            chain_id=GENESIS.chain_id,
            checkpoint=self.note(),
            size=self.tree.size,
            anchored_height=self.judged.log.tip.height,
            anchored_hash=self.judged.log.tip.hash,
        )
        return self.lie(response)


@pytest.fixture
def fake() -> FakeLog:
    return FakeLog()


@asynccontextmanager
async def talking(fake: FakeLog, **options: Any) -> AsyncIterator[SettlementClient]:  # noqa: ANN401
    """Give a client of the fake log."""

    def register(server: grpc.aio.Server) -> None:
        settlement_pb2_grpc.add_SettlementServicer_to_server(fake, server)

    settings = ServerSettings(stop_grace_ms=100)
    async with (
        asyncio.timeout(10),
        serving(
            settings, register=register, service_names=("lockstep.v1.Settlement",), stopping=asyncio.Event()
        ) as server,
        SettlementClient(server.address, GENESIS, **options) as client,
    ):
        yield client


async def first_entries(client: SettlementClient, count: int, from_index: int = 0) -> list[bytes]:
    async with aclosing(client.entries(from_index)) as entries:
        return [(await anext(entries))[1] for _ in range(count)]


async def test_the_truth_is_believed(fake: FakeLog) -> None:
    async with talking(fake) as client:
        assert await client.append(RANGES[4]) == 6
        assert (await client.checkpoint()).size == client.seen.size == 7
        assert await client.entry(3) == RANGES[2]
        assert (await client.anchor(3)).entry == RANGES[0]
        assert (await client.anchor(4, "beta")).index == 5
        assert (await client.status()).anchored_height == 20
        assert await first_entries(client, 7) == fake.judged.entries
        for index in range(7):
            assert await first_entries(client, 7 - index, index) == fake.judged.entries[index:]


async def test_entries_with_their_proofs_under_one_checkpoint(fake: FakeLog) -> None:
    async with talking(fake) as client:
        proven = await client.proven_entries((4, 0, 2))
        assert list(proven.entries) == [0, 2, 4]
        for index, (entry, proof) in proven.entries.items():
            assert entry == fake.judged.entries[index]
            assert proof == fake.tree.inclusion_proof(index)
        assert proven.note == fake.note()
        with pytest.raises(NotYet):
            await client.proven_entries((0, proven.checkpoint.size))


async def test_an_entry_whose_proof_does_not_hold(fake: FakeLog) -> None:
    async with talking(fake) as client:
        fake.tamper["GetInclusionProof"] = set_to(entry=fake.judged.entries[1])
        with pytest.raises(ProofInvalid):
            await client.proven_entries((2,))


async def test_the_same_statement_in_other_bytes_is_believed_to_be_there(fake: FakeLog) -> None:
    async with talking(fake) as client:
        assert await client.append(CHAIN.commitment("b0", 4)) == 5


def set_to(**values: Any) -> Tamper:  # noqa: ANN401  # any field
    def change(response: Any) -> None:  # noqa: ANN401  # any message
        for name, value in values.items():
            setattr(response, name, value)

    return change


@pytest.mark.parametrize("index", [3, 5, 7])
async def test_an_index_of_another_entry(fake: FakeLog, index: int) -> None:
    fake.tamper["Append"] = set_to(index=index)
    async with talking(fake) as client:
        with pytest.raises(Malformed):
            await client.append(RANGES[4])


async def test_an_entry_that_is_not_in_the_tree(fake: FakeLog) -> None:
    fake.tamper["GetInclusionProof"] = set_to(entry=RANGES[5])
    async with talking(fake) as client:
        with pytest.raises(ProofInvalid):
            await client.append(RANGES[4])
        with pytest.raises(ProofInvalid):
            await client.entry(2)
        with pytest.raises((ProofInvalid, Contradiction)):
            await first_entries(client, 1, 3)


async def test_a_proof_of_another_place(fake: FakeLog) -> None:
    def change(response: Any) -> None:  # noqa: ANN401  # any message
        response.proof.CopyFrom(fake.proof(1, fake.tree.size))
        response.entry = fake.judged.entries[1]

    fake.tamper["GetInclusionProof"] = change
    async with talking(fake) as client:
        with pytest.raises(Malformed):
            await client.entry(2)


async def test_a_checkpoint_of_another_key(fake: FakeLog) -> None:
    names = ("GetCheckpoint", "Append", "GetAnchor", "StreamEntries", "GetInclusionProof")
    for name in (*names, "SettlementGetStatus"):
        fake.tamper[name] = set_to(checkpoint=fake.note(key="a0"))
    async with talking(fake) as client:
        calls = (
            client.checkpoint(),
            client.append(RANGES[0]),
            client.anchor(1),
            client.status(),
            client.entry(0),
            first_entries(client, 1),
        )
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, BadSignature)
        assert client.seen.size == 0


async def test_a_checkpoint_that_forks(fake: FakeLog) -> None:
    async with talking(fake) as client:
        await client.checkpoint()
        seen = client.seen
        for size in (6, 7):
            fake.tamper["GetCheckpoint"] = set_to(checkpoint=fake.note(size, root=b"\x01" * 32))
            fake.judged.give(RANGES[4])
            with pytest.raises(Contradiction):
                await client.checkpoint()
            assert client.seen == seen
        fake.tamper.clear()
        assert (await client.checkpoint()).size == 7


async def test_a_checkpoint_that_goes_back(fake: FakeLog) -> None:
    async with talking(fake) as client:
        await client.checkpoint()
        fake.tamper["GetCheckpoint"] = set_to(checkpoint=fake.note(5))
        with pytest.raises(Contradiction):
            await client.checkpoint()


async def test_a_consistency_proof_that_does_not_hold(fake: FakeLog) -> None:
    def change(response: Any) -> None:  # noqa: ANN401  # any message
        response.hashes[0] = b"\x01" * 32

    async with talking(fake, seen=Checkpoint(ORIGIN, 3, fake.tree.root(3))) as client:
        fake.tamper["GetConsistencyProof"] = change
        with pytest.raises(Contradiction):
            await client.checkpoint()
        fake.tamper.clear()
        assert (await client.checkpoint()).size == 6


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda part: part.entries.__setitem__(0, RANGES[9]), Contradiction),
        (lambda part: part.entries.pop(), Malformed),
        (lambda part: part.entries.append(RANGES[9]), (Contradiction, Malformed)),
        (lambda part: setattr(part, "first_index", part.first_index + 1), Malformed),
        (lambda part: part.ClearField("entries"), Malformed),
    ],
)
async def test_a_stream_that_leaves_out_or_changes(fake: FakeLog, change: Tamper, error: Any) -> None:  # noqa: ANN401
    fake.tamper["StreamEntries"] = change
    async with talking(fake) as client:
        with pytest.raises(error):
            await first_entries(client, 6)


async def test_a_stream_whose_checkpoint_does_not_cover_it(fake: FakeLog) -> None:
    fake.tamper["StreamEntries"] = set_to(checkpoint=fake.note(1))
    async with talking(fake) as client:
        with pytest.raises(Malformed):
            await first_entries(client, 1)


async def test_a_stream_that_breaks_is_resumed_without_gaps(fake: FakeLog) -> None:
    fake.breaks = 2
    async with talking(fake) as client:
        assert await first_entries(client, 6) == fake.judged.entries


@pytest.mark.parametrize(("height", "rollup"), [(5, None), (4, "alpha"), (8, "beta")])
async def test_an_anchor_of_something_else(fake: FakeLog, height: int, rollup: str | None) -> None:
    async with talking(fake) as client:
        with pytest.raises(Malformed):
            await client.anchor(height, rollup)


async def test_an_anchor_by_another_key(fake: FakeLog) -> None:
    async with talking(fake, sequencer_key=lambda _height: key_of("next").public_key) as client:
        with pytest.raises(BadSignature):
            await client.anchor(1)


async def test_a_status_that_is_not_this_logs(fake: FakeLog) -> None:
    async with talking(fake) as client:
        fake.tamper["SettlementGetStatus"] = set_to(chain_id=b"\x01" * 32)
        with pytest.raises(WrongChain):
            await client.status()
        fake.tamper["SettlementGetStatus"] = set_to(size=5)
        with pytest.raises(Malformed):
            await client.status()


async def test_many_calls_at_once_see_one_log(fake: FakeLog) -> None:
    async with talking(fake) as client:
        calls = [client.checkpoint() for _ in range(5)] + [client.append(RANGES[4])]
        await asyncio.gather(*calls, first_entries(client, 6))
        assert client.seen.size == 7
