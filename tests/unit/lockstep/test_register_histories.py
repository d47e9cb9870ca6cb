"""The golden histories: read as any other language would read them, by the register and by the plain one."""

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep import limits
from lockstep.genesis import parse_genesis
from lockstep.register import (
    BlockInput,
    Decided,
    Dropped,
    Ignored,
    RegisterEvent,
    apply_block,
    encode_record,
    genesis_register,
    restore,
    rows,
)
from lockstep.types import HeaderHash, Height
from tests.histories import generate
from tests.reference.facts import plain_history

FILES = sorted(Path(generate.__file__).parent.glob("*.json"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def history(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(request.param.read_text())
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", read["limits"]["register_records_max"])
    monkeypatch.setattr(limits, "HEADERS_REMEMBERED", read["limits"]["headers_remembered"])
    return read


def blocks_of(history: dict[str, Any]) -> list[BlockInput]:
    return [
        BlockInput(
            height=Height(int(block["height"])),
            header_hash=HeaderHash(bytes.fromhex(block["header_hash"])),
            time_ms=int(block["time_ms"]),
            registry_entries=[(index, bytes.fromhex(payload)) for index, payload in block["registry"]],
            swap_entries=[(index, bytes.fromhex(payload)) for index, payload in block["swap"]],
        )
        for block in history["blocks"]
    ]


def test_the_histories_are_the_generators() -> None:
    assert {file.name: file.read_text() for file in FILES} == generate.render()


def test_the_register_keeps_to_the_history(history: dict[str, Any]) -> None:
    genesis = parse_genesis(history["genesis"].encode())
    assert genesis.chain_id.hex() == history["chain_id"]
    register = genesis_register(genesis)
    records: dict[str, str] = {}
    assert register.root.hex() == history["initial"]["root"]
    for block, case in zip(blocks_of(history), history["blocks"], strict=True):
        register, events = apply_block(register, block)
        expect = case["expect"]
        assert register.root.hex() == expect["root"]
        assert register.map_root.hex() == expect["map_root"]
        assert register.registry.digest.hex() == expect["registry_digest"]
        records = expect.get("records", records)
        assert {key.hex(): encode_record(each).hex() for key, each in register.records.items()} == records
        assert [decision_of(event) for event in events if isinstance(event, Decided)] == expect["decided"]
        assert [e.swap_id.hex() for e in events if isinstance(e, Dropped)] == expect["dropped"]
        assert [e.index for e in events if isinstance(e, Ignored)] == expect["ignored"]
        register = restore(
            genesis, [(key, value) for key, value in rows(None, register) if value is not None]
        )


def decision_of(event: RegisterEvent) -> dict[str, Any]:
    assert isinstance(event, Decided)
    record, decision = event.record, event.record.decision
    assert decision is not None
    return {
        "swap_id": record.swap_id.hex(),
        "opened_height": str(record.opened_height),
        "opened_index": record.opened_index,
        "decided_height": str(decision.height),
        "decided_index": decision.index,
        "phase": record.phase.name,
        "reason": decision.reason.name,
        "reason_legs": list(decision.reason_legs),
    }


def test_the_plain_register_keeps_to_the_history(history: dict[str, Any]) -> None:
    plain = plain_history(parse_genesis(history["genesis"].encode()), blocks_of(history))
    assert [root.hex() for root, _ in plain] == [case["expect"]["root"] for case in history["blocks"]]


def test_together_they_show_every_outcome() -> None:
    read = [json.loads(file.read_text()) for file in FILES]
    decided = {
        (decision["phase"], decision["reason"])
        for history in read
        for block in history["blocks"]
        for decision in block["expect"]["decided"]
    }
    reasons = ("LEG_REJECTED", "CANCELLED", "NOT_LOCKED", "NOT_REVEALED", "CROWDED_OUT")
    assert decided == {("COMMITTED", "NONE"), *(("ABORTED", reason) for reason in reasons)}
