"""The trader's wallet: what is on disk comes back, only grows, and is refused where it was damaged."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from bridge.client import RecordedSwap, RevealPolicy, Role, SwapPhase, Trader, Wallet
from bridge.client.recorded import cancelling, decode_recorded, encode_recorded, ended, revealing, with_lock
from bridge.client.wallet import LOCK_WAIT_MS
from deploy.node.datadir import FileLock
from deploy.node.failures import DataLocked, DataRefused
from lockstep.errors import Malformed
from lockstep.terms import decode_terms
from tests.tools.syncs import watch_syncs
from tests.unit.bridge.chain import ANN, BOB, make_terms


def record(
    number: int = 0, trader: Trader = ANN, reveal: RevealPolicy = RevealPolicy.BY_TRADER
) -> RecordedSwap:
    terms_bytes = make_terms(number)
    role = Role.PROPOSER if trader is ANN else Role.COUNTERPARTY
    return RecordedSwap(trader.account, role, terms_bytes, decode_terms(terms_bytes), reveal, b"key" * 5)


Change = Callable[[RecordedSwap], RecordedSwap]


def lock(swap: RecordedSwap) -> Change:
    return with_lock(0, ANN.sign_lock(swap.terms_bytes, 0))


@pytest.mark.parametrize("reveal", RevealPolicy)
def test_what_was_recorded_comes_back(tmp_path: Path, reveal: RevealPolicy) -> None:
    wallet, swap = Wallet(tmp_path / "wallet"), record(reveal=reveal)
    assert wallet.get(swap.swap_id, swap.account) is None
    assert wallet.swaps() == ()
    wallet.add(swap)
    for change in (lock(swap), revealing, cancelling, ended(SwapPhase.ABORTED)):
        changed = wallet.change(swap, change)
        assert changed == change(swap)
        swap = Wallet(tmp_path / "wallet").swaps()[0]
        assert swap == changed
    assert (swap.is_revealing, swap.is_cancelling, swap.outcome) == (True, True, SwapPhase.ABORTED)
    assert swap.locks == {0: ANN.sign_lock(swap.terms_bytes, 0)}


def test_each_side_of_a_swap_has_its_own_file(tmp_path: Path) -> None:
    wallet = Wallet(tmp_path)
    mine, other, newer = wallet.add(record()), wallet.add(record(trader=BOB)), wallet.add(record(1))
    assert mine.swap_id == other.swap_id
    assert {swap.account for swap in wallet.swaps()} == {ANN.account, BOB.account}
    assert set(map(id_of, wallet.swaps(ANN.account))) == {id_of(mine), id_of(newer)}
    assert wallet.swaps(BOB.account) == (other,)


def id_of(swap: RecordedSwap) -> bytes:
    return swap.swap_id


def test_what_is_recorded_stays(tmp_path: Path) -> None:
    wallet, swap = Wallet(tmp_path), record()
    wallet.add(swap)
    locked = wallet.change(swap, lock(swap))
    assert wallet.add(replace(swap, idempotency_key=b"another")) == locked
    with pytest.raises(AssertionError, match="never changes"):
        wallet.change(swap, lambda found: replace(found, idempotency_key=b"another"))
    with pytest.raises(AssertionError, match="stays as it is"):
        wallet.change(swap, lambda found: replace(found, locks={}))
    assert wallet.change(swap, with_lock(0, b"another")) == locked
    assert wallet.swaps() == (locked,)


def test_who_cancelled_does_not_reveal(tmp_path: Path) -> None:
    wallet, swap = Wallet(tmp_path), record()
    wallet.add(swap)
    wallet.change(swap, cancelling)
    assert not wallet.change(swap, revealing).is_revealing


def test_no_secret_is_written(tmp_path: Path) -> None:
    wallet, swap = Wallet(tmp_path / "wallet"), record(reveal=RevealPolicy.DELEGATED)
    wallet.add(swap)
    wallet.change(swap, lock(swap))
    wallet.change(swap, revealing)
    preimage = ANN.preimage(swap.terms_bytes).reveal()
    [file] = (tmp_path / "wallet").glob("*.json")
    assert preimage.hex() not in file.read_text()
    assert (bytes([11]) * 32).hex() not in file.read_text()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


# --- files that were damaged ------------------------------------------------------------------------------

Spoil = Callable[[dict[str, Any]], object]

SPOILED: dict[str, Spoil] = {
    "version": lambda file: file.update(version=2),
    "swap_id": lambda file: file.update(swap_id="00" * 32),
    "legs": lambda file: file["legs"][0].update(amount="99"),
    "lock_by_ms": lambda file: file.update(lock_by_ms=1),
    "expires_ms": lambda file: file.update(expires_ms=1),
    "reveal": lambda file: file.update(reveal="never"),
    "outcome": lambda file: file.update(outcome="OPEN"),
    "locks": lambda file: file.update(locks={"1": "00"}),
    "leg_count": lambda file: file.update(terms=file["terms"][:66] + "01" + file["terms"][68:]),
    "content": lambda file: file.update(preimage="00"),
}


@pytest.mark.parametrize("field", SPOILED)
def test_a_file_that_was_changed_is_refused_by_the_field(tmp_path: Path, field: str) -> None:
    swap = record()
    file = json.loads(encode_recorded(swap))
    SPOILED[field](file)
    with pytest.raises(Malformed) as caught:
        decode_recorded(json.dumps(file).encode())
    assert caught.value.field == field
    path = tmp_path / f"{swap.swap_id.hex()}-{swap.account.hex()[:16]}.json"
    path.write_text(json.dumps(file))
    with pytest.raises(DataRefused, match=path.name):
        Wallet(tmp_path).swaps()


def test_a_file_under_another_name_is_refused(tmp_path: Path) -> None:
    swap, other = record(), record(1)
    path = tmp_path / f"{other.swap_id.hex()}-{swap.account.hex()[:16]}.json"
    path.write_bytes(encode_recorded(swap))
    with pytest.raises(DataRefused, match="another swap"):
        Wallet(tmp_path).get(other.swap_id, swap.account)


# --- several processes ------------------------------------------------------------------------------------

WRITERS = 4
TURNS = 20

UNDER_WAY, OVER = 1_000, 2_000
"""Numbers of swaps that all writers share, one of each for a turn."""


def shared_changes(number: int) -> tuple[RecordedSwap, tuple[Change, ...]]:
    """Return a shared swap and what each writer does to it, once; in any order it comes to the same."""
    swap = record(number)
    if number >= OVER:
        return swap, (ended(SwapPhase.LAPSED), lock(swap), revealing, lock(swap))
    return swap, (lock(swap), cancelling, lock(swap), cancelling)


def write_much(folder: str, number: int) -> None:
    wallet = Wallet(Path(folder))
    for turn in range(TURNS):
        swap = record(number * TURNS + turn)
        wallet.add(swap)
        wallet.change(swap, lock(swap))
        for shared, changes in (shared_changes(UNDER_WAY + turn), shared_changes(OVER + turn)):
            wallet.add(shared)
            wallet.change(shared, changes[number])


def test_several_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    context = get_context("spawn")
    writers = [context.Process(target=write_much, args=(str(tmp_path), each)) for each in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    found = {swap.terms_bytes: swap for swap in Wallet(tmp_path).swaps()}
    assert len(found) == (WRITERS + 2) * TURNS
    assert all(swap.locks for swap in found.values())
    for turn in range(TURNS):
        under_way, over = found[make_terms(UNDER_WAY + turn)], found[make_terms(OVER + turn)]
        assert under_way.is_cancelling
        assert (over.is_revealing, over.outcome) == (True, SwapPhase.LAPSED)


def test_a_lock_that_is_held_for_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.client.wallet.LOCK_WAIT_MS", 20)
    assert LOCK_WAIT_MS > 1_000
    held = FileLock(tmp_path / "lock")
    try:
        with pytest.raises(DataLocked, match=str(os.getpid())):
            Wallet(tmp_path).add(record())
    finally:
        held.close()


def test_no_flipped_bit_changes_what_a_file_says() -> None:
    swap = lock(record())(record())
    encoded = encode_recorded(swap)
    for place in range(len(encoded)):
        flipped = bytes([*encoded[:place], encoded[place] ^ 1 << place % 8, *encoded[place + 1 :]])
        try:
            assert decode_recorded(flipped) == swap
        except Malformed:
            continue


def test_a_file_from_before_checksums_is_read() -> None:
    swap = record()
    file = json.loads(encode_recorded(swap))
    del file["checksum"]
    assert decode_recorded(json.dumps(file).encode()) == swap


def test_what_a_killed_process_left_unsynced_is_synced_before_anything_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, folder = record(), tmp_path / "wallet"
    Wallet(folder).add(swap)
    synced = watch_syncs(monkeypatch)
    reading: tuple[Callable[[Wallet], object], ...] = (
        lambda wallet: wallet.swaps(),
        lambda wallet: wallet.get(swap.swap_id, swap.account),
        lambda wallet: wallet.add(swap),
        lambda wallet: wallet.change(swap, lambda same: same),
    )
    for read in reading:
        synced.clear()
        read(Wallet(folder))
        assert "wallet" in synced
    # What another process wrote since was perhaps not synced either.
    wallet = Wallet(folder)
    wallet.add(swap)
    synced.clear()
    wallet.change(swap, lambda same: same)
    assert synced == ["wallet"]
