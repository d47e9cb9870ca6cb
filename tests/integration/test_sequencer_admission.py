"""The sequencer as a process: what admission knows of swaps, checkpoints in the order, and pauses."""

import asyncio
import signal
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.node.client import ClientSettings, connect
from lockstep.checkpoint import NoteVerifier, verify_checkpoint
from lockstep.errors import QuotaExceeded, UselessEntry
from lockstep.limits import MAX_ADVANCE_MS
from lockstep.order import Bundle, Transaction
from lockstep.register import Phase, Register, apply_block, genesis_register, input_of
from lockstep.settlement_entries import decode_log_entry
from lockstep.signing import SigningKey, verify_raw
from lockstep.swap_entries import encode_reveal
from lockstep.terms import Terms
from lockstep.types import LOG_NAMESPACE, REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height
from lockstep.v1 import sequencer_pb2, sequencer_pb2_grpc
from sequencer.client import SequencerClient
from sequencer.client.messages import bundle_message
from tests.integration import settlement_process
from tests.integration.sequencer_process import (
    BETA,
    DEADLINE_S,
    SETTLEMENT_SEED,
    Home,
    Process,
    bundle,
    make_home,
)
from tests.integration.test_sequencer_anchors import make_homes
from tests.reference.world import cancel_entry, id_of, make_terms, open_entry, preimage_of

FLOOD = 3_000

pytestmark = pytest.mark.processes


def terms_at(home: Home, time_ms: int, name: str = "swap", *, lock_within_ms: int = 30_000) -> Terms:
    return make_terms(
        name,
        chain=home.genesis.chain_id,
        lock_by_ms=time_ms + lock_within_ms,
        expires_ms=time_ms + lock_within_ms + 10_000,
    )


def swap_bundle(*entries: bytes, time_ms: int) -> Bundle:
    return bundle(*entries, time_ms=time_ms, namespace=SWAP_NAMESPACE)


async def register_at(client: SequencerClient, home: Home, height: int) -> tuple[Register, list[int]]:
    """Return the register after a block, and the log times of all blocks up to it, verified."""
    register, times_ms = genesis_register(home.genesis), [home.genesis.genesis_time_ms]
    following = client.follow(
        tip=home.start,
        namespaces=(SWAP_NAMESPACE, REGISTRY_NAMESPACE),
        sequencer_key=lambda _: home.genesis.sequencer,
    )
    async for followed in following:
        register, _ = apply_block(register, input_of(followed.block))
        times_ms.append(followed.block.header.time_ms)
        if register.height >= height:
            break
    await following.aclose()
    return register, times_ms


async def test_useless_entries_are_refused_also_after_a_restart(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(2 * DEADLINE_S), Process(home) as process:
        async with process.client() as client:
            time_ms = await client.time_ms()
            terms = terms_at(home, time_ms)
            reveal = encode_reveal(id_of(terms), preimage_of("swap"))
            with pytest.raises(UselessEntry, match="no such swap is recorded"):
                await client.submit(swap_bundle(reveal, time_ms=time_ms))
            # Sent at once, in one order: what rests on the opening is not refused.
            async with client.stream() as stream:
                opening = stream.submit(swap_bundle(open_entry(terms), time_ms=time_ms))
                opened, revealed = await asyncio.gather(
                    opening, stream.submit(swap_bundle(reveal, time_ms=time_ms))
                )
            assert opened.placement.height <= revealed.placement.height
            register, _ = await register_at(client, home, revealed.placement.height)
            record = register.record(id_of(terms))
            assert record is not None
            assert record.phase is Phase.REVEALED
        await process.kill()
    async with asyncio.timeout(2 * DEADLINE_S), Process(home) as process, process.client() as client:
        time_ms = await client.time_ms()
        for entry, reason in (
            (open_entry(terms), "recorded already"),
            (reveal, "revealed"),
            (cancel_entry(terms, chain=home.genesis.chain_id), "revealed"),
        ):
            with pytest.raises(UselessEntry, match=reason):
                await client.submit(swap_bundle(entry, time_ms=time_ms + 1))


async def test_a_decision_passes_a_flood_that_is_over_its_quota(tmp_path: Path) -> None:
    home = make_home(tmp_path, settings="quota_transactions_per_second = 300\n")
    async with asyncio.timeout(2 * DEADLINE_S), Process(home) as process, process.client() as client:
        time_ms = await client.time_ms()
        terms = [terms_at(home, time_ms, f"{number}") for number in range(20)]
        opens = [open_entry(each) for each in terms]
        await client.submit(swap_bundle(*opens, time_ms=time_ms))
        async with connect(process.address, ClientSettings()) as channel:
            stub: sequencer_pb2_grpc.SequencerAsyncStub = sequencer_pb2_grpc.SequencerStub(channel)
            call = stub.SubmitStream(timeout=2 * DEADLINE_S)
            for first in range(0, FLOOD, 500):
                await call.write(
                    sequencer_pb2.SubmitStreamRequest(
                        submissions=[flood_of(home, number, time_ms) for number in range(first, first + 500)]
                    )
                )
            waits_s = []
            for number, each in enumerate(terms):
                start_s = time.monotonic()
                entry = encode_reveal(id_of(each), preimage_of(f"{number}"))
                await client.submit(swap_bundle(entry, time_ms=time_ms))
                waits_s.append(time.monotonic() - start_s)
            # A namespace without a flood has its quota for itself.
            await client.submit(bundle(b"x", time_ms=time_ms, namespace=BETA))
            await call.done_writing()
            outcomes = Counter([each.error.code async for response in call for each in response.outcomes])
        assert outcomes.keys() == {"", QuotaExceeded.code}
        assert outcomes.total() == FLOOD
        assert outcomes[QuotaExceeded.code] > 100
        register, _ = await register_at(client, home, (await client.status()).height)
        phases = [register.records[id_of(each)].phase for each in terms]
        assert phases == [Phase.REVEALED] * len(terms)
        assert max(waits_s) < DEADLINE_S


def flood_of(home: Home, number: int, time_ms: int) -> sequencer_pb2.Submission:
    """Return a bundle of a flood that is half for a rollup and half openings of swaps."""
    sent = bundle(b"%d" % number, time_ms=time_ms)
    if number % 2:
        sent = swap_bundle(open_entry(terms_at(home, time_ms, f"flood {number}")), time_ms=time_ms)
    return sequencer_pb2.Submission(correlation_id=number, bundle=bundle_message(sent))


async def test_checkpoints_of_the_settlement_log_are_ordered_as_it_grows(tmp_path: Path) -> None:
    log_home, home = make_homes(tmp_path, more="checkpoint_ms = 20\n")
    verifier = NoteVerifier(home.genesis.settlement.origin, SigningKey(SETTLEMENT_SEED).public_key)
    async with (
        asyncio.timeout(2 * DEADLINE_S),
        settlement_process.Process(log_home),
        Process(home) as process,
        process.client() as client,
    ):
        sizes: list[int] = []
        note = b""
        following = client.follow(
            tip=home.start, namespaces=(LOG_NAMESPACE,), sequencer_key=lambda _: home.genesis.sequencer
        )
        async for followed in following:
            for entry in followed.block.entries[LOG_NAMESPACE]:
                note = decode_log_entry(entry.payload)
                sizes.append(verify_checkpoint(note, verifier, verify=verify_raw).size)
            if len(sizes) >= 3:
                break
        await following.aclose()
        assert sizes == sorted(set(sizes))
        entry_again = Transaction(LOG_NAMESPACE, b"\x01" + note)
        with pytest.raises(UselessEntry, match="is ordered already"):
            await client.submit(Bundle((entry_again,), await client.time_ms() + 1_000))


async def test_a_paused_process_expires_no_swap(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(2 * DEADLINE_S), Process(home) as process, process.client() as client:
        time_ms = await client.time_ms()
        # Were the pause in log time, the swap would be over when it ends.
        terms = terms_at(home, time_ms, lock_within_ms=2 * MAX_ADVANCE_MS)
        opened = await client.submit(swap_bundle(open_entry(terms), time_ms=time_ms))
        paused_s = time.monotonic()
        process.send(signal.SIGSTOP)
        # The pause is what is tested: nothing tells of it but the clock.
        await asyncio.sleep(5)
        process.send(signal.SIGCONT)
        paused_ms = round((time.monotonic() - paused_s) * 1_000)
        reveal = encode_reveal(id_of(terms), preimage_of("swap"))
        revealed = await client.submit(swap_bundle(reveal, time_ms=time_ms))
        register, times_ms = await register_at(client, home, Height(revealed.placement.height))
        record = register.record(id_of(terms))
        assert record is not None
        assert record.phase is Phase.REVEALED
        advances_ms = [after - before for before, after in pairwise(times_ms)]
        assert max(advances_ms) <= MAX_ADVANCE_MS < paused_ms
        passed_ms = revealed.header.header.time_ms - opened.header.header.time_ms
        assert passed_ms < paused_ms
