"""The demo's report: when it is good, how amounts look, what the file holds."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deploy.demonstration.report import (
    CheckResult,
    Movement,
    Report,
    SwapResult,
    TransferResult,
    in_units,
    save_json,
    show,
)
from deploy.devnet.network import ALPHA

MOVEMENT = Movement(ALPHA, "gold", "alice", "bob", 50_005)
SWAP = SwapResult(
    number=1,
    name="revealed",
    swap_id=bytes(32),
    legs=(MOVEMENT,),
    outcome="COMMITTED",
    reason="NONE",
    milliseconds={"proposed": 7, "decided": 1_200},
    opened_height=2,
    decided_height=3,
    level="ANCHORED",
    expected=True,
    moved=(MOVEMENT,),
)
CHECK = CheckResult("gold is conserved", ok=True, detail="added up")


def good() -> Report:
    return Report(bytes(32), [TransferResult(MOVEMENT, 1, 0)], {1: SWAP}, [CHECK], seconds=1.5)


def test_good_only_if_all_is_there_and_all_held() -> None:
    assert good().ok
    for bad in (
        replace(good(), swaps={1: SWAP, 2: replace(SWAP, expected=False)}),
        replace(good(), checks=[CHECK, replace(CHECK, ok=False)]),
        replace(good(), error="it broke"),
        replace(good(), swaps={}),
        replace(good(), checks=[]),
    ):
        assert not bad.ok


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0.00"), (7, "0.07"), (50_005, "500.05"), (1_000_000_00, "1,000,000.00")]
)
def test_amounts_are_written_as_people_do(amount: int, text: str) -> None:
    assert in_units(amount) == text


def test_the_file_holds_everything(tmp_path: Path) -> None:
    second = replace(SWAP, number=2, moved=())
    save_json(replace(good(), swaps={2: second, 1: SWAP}), tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    movement = {
        "rollup": "alpha",
        "asset": "gold",
        "sender": "alice",
        "recipient": "bob",
        "amount": "50005",
    }
    assert found["transfers"] == [{**movement, "height": 1, "index": 0}]
    assert [swap["number"] for swap in found["swaps"]] == [1, 2]
    assert found["swaps"][0]["moved"] == found["swaps"][0]["legs"] == [movement]
    assert found["swaps"][0]["milliseconds"] == {"proposed": 7, "decided": 1_200}
    assert found["swaps"][0]["swap_id"] == "00" * 32
    assert found["checks"] == [{"name": "gold is conserved", "ok": True, "detail": "added up"}]
    assert {name: found[name] for name in ("ok", "error", "seconds", "chain_id")} == {
        "ok": True,
        "error": "",
        "seconds": 1.5,
        "chain_id": "00" * 32,
    }


def test_what_is_shown_names_swaps_checks_and_the_verdict() -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    show(replace(good(), checks=[replace(CHECK, ok=False, detail="[x] missing")]), console)
    shown = console.export_text()
    for told in (
        "500.05 gold: alice -> bob",
        "COMMITTED",
        "ANCHORED",
        "1,207",
        "FAILED",
        "[x] missing",
        "Not all of it held, in 1.5 s.",
    ):
        assert told in shown
